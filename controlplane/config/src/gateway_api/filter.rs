//! Filters of a rule, or of one backend: what is done with requests beside forwarding them.

use super::backend::Target;
use super::path_change::{Redirection, UrlRewrite};
use super::{Place, cors};
use crate::{CorsPolicy, HeaderOperations, Operations, Percentage, exclusive, header_operations};
use model::Namespace;
use resource::{Field, Fields, ResourceError, Source};
use std::collections::BTreeMap;

/// What all filters of one list come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Filters {
    pub(super) headers: HeaderOperations,
    pub(super) mirrors: Vec<(Target, Percentage)>,
    pub(super) redirect: Option<Redirection>,
    pub(super) rewrite: Option<UrlRewrite>,
    pub(super) cors: Option<CorsPolicy>,
    /// One that nobody can apply: what it is, and where it stands.
    pub(super) unknown: Option<(Place, String)>,
    /// Where the first stands that does more than change header fields.
    beyond: Option<(Place, String)>,
}

/// Each type with the field that belongs to it.
const TYPES: [(&str, &str); 8] = [
    ("RequestHeaderModifier", "requestHeaderModifier"),
    ("ResponseHeaderModifier", "responseHeaderModifier"),
    ("RequestMirror", "requestMirror"),
    ("RequestRedirect", "requestRedirect"),
    ("URLRewrite", "urlRewrite"),
    ("CORS", "cors"),
    ("ExternalAuth", "externalAuth"),
    ("ExtensionRef", "extensionRef"),
];
/// What an HTTPRoute may have.
pub(super) const HTTP: &[&str] = &[
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestMirror",
    "RequestRedirect",
    "URLRewrite",
    "CORS",
    "ExternalAuth",
    "ExtensionRef",
];
/// What a GRPCRoute may have.
pub(super) const GRPC: &[&str] = &["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "ExtensionRef"];
const MOST: usize = 16;
const BACKEND: &[&str] = &["group", "kind", "namespace", "name", "port"];

// === impl Filters ===

impl Filters {
    /// The filters at `at` of a route in the namespace `own`, each of one of `types`.
    pub(super) fn read(
        at: &Field<'_>,
        own: &Namespace,
        types: &[&str],
        source: &mut Source,
    ) -> Result<Self, ResourceError> {
        let items = at.items()?;
        if items.len() > MOST {
            return Err(at.refuse(format!("at most {MOST} filters")));
        }
        let known: Vec<(&str, &str)> = TYPES.into_iter().filter(|(name, _)| types.contains(name)).collect();
        let names: Vec<&str> = ["type"].into_iter().chain(known.iter().map(|(_, field)| *field)).collect();
        let mut filters = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        for item in &items {
            let fields = item.fields(&names)?;
            let (kind, field) = typed(&fields, &known)?;
            if seen.contains(&kind) && !matches!(kind, "RequestMirror" | "ExtensionRef") {
                return Err(fields.get("type").refuse(format!("{kind} once in a list of filters")));
            }
            seen.push(kind);
            filters.add(item, kind, &fields.get(field), own, source)?;
        }
        if seen.contains(&"RequestRedirect") && seen.contains(&"URLRewrite") {
            return Err(at.refuse("RequestRedirect or URLRewrite, not both"));
        }
        Ok(filters)
    }

    fn add(
        &mut self,
        item: &Field<'_>,
        kind: &str,
        at: &Field<'_>,
        own: &Namespace,
        source: &mut Source,
    ) -> Result<(), ResourceError> {
        match kind {
            "RequestHeaderModifier" => self.headers.request = operations(at)?,
            "ResponseHeaderModifier" => self.headers.response = operations(at)?,
            "RequestMirror" => self.mirrors.push(mirror(at, own)?),
            "RequestRedirect" => self.redirect = Some(Redirection::read(at)?),
            "URLRewrite" => self.rewrite = Some(UrlRewrite::read(at)?),
            "CORS" => self.cors = Some(cors::read(at)?),
            _ => {
                let why = format!("{kind} is not supported: requests for it are answered 500");
                source.warn(item, format!("Accepted is False (UnsupportedValue): {why}"));
                self.unknown = Some((Place::of(item), kind.to_owned()));
            }
        }
        if !kind.ends_with("HeaderModifier") && self.beyond.is_none() {
            self.beyond = Some((Place::of(item), kind.to_owned()));
        }
        Ok(())
    }

    /// Where the first stands that does more than change header fields, and its type.
    pub(super) fn beyond_headers(&self) -> Option<(Place, String)> {
        self.beyond.clone()
    }
}

/// The type of a filter with its field, which must be there, and no other beside it.
fn typed<'a>(fields: &Fields<'_>, known: &[(&'a str, &'a str)]) -> Result<(&'a str, &'a str), ResourceError> {
    let choices: Vec<(&str, (&str, &str))> = known.iter().map(|pair| (pair.0, *pair)).collect();
    let (kind, field) = super::object::chosen(&fields.get("type"), &choices)?;
    if !fields.get(field).is_present() {
        return Err(fields.get(field).refuse(format!("what {kind} does; this field is required")));
    }
    match known.iter().find(|(_, other)| *other != field && fields.get(other).is_present()) {
        Some((_, other)) => Err(fields.get(other).refuse(format!("nothing beside {field}: the type is {kind}"))),
        None => Ok((kind, field)),
    }
}

fn operations(at: &Field<'_>) -> Result<Operations, ResourceError> {
    let fields = at.fields(&["set", "add", "remove"])?;
    let mut remove: Vec<String> = Vec::new();
    for item in some(&fields.get("remove"))? {
        let name = header_operations::name(&item, item.required_text()?)?;
        if remove.contains(&name) {
            return Err(item.refuse("each name once"));
        }
        remove.push(name);
    }
    Ok(Operations { set: values(&fields.get("set"))?, add: values(&fields.get("add"))?, remove })
}

fn values(at: &Field<'_>) -> Result<BTreeMap<String, String>, ResourceError> {
    let mut values = BTreeMap::new();
    for item in some(at)? {
        let fields = item.fields(&["name", "value"])?;
        let name = fields.get("name");
        let key = header_operations::name(&name, name.required_text()?)?;
        if values.insert(key, header_operations::value(&fields.get("value"))?).is_some() {
            return Err(name.refuse("each name once"));
        }
    }
    Ok(values)
}

fn some<'a>(at: &Field<'a>) -> Result<Vec<Field<'a>>, ResourceError> {
    let items = at.items()?;
    if items.len() > MOST { Err(at.refuse(format!("at most {MOST} entries"))) } else { Ok(items) }
}

/// Where copies go, and how many requests are copied.
fn mirror(at: &Field<'_>, own: &Namespace) -> Result<(Target, Percentage), ResourceError> {
    let fields = at.fields(&["backendRef", "percent", "fraction"])?;
    exclusive(&fields, &["percent", "fraction"])?;
    let share = match Percentage::read_whole(&fields.get("percent"))? {
        Some(share) => share,
        None => fraction(&fields.get("fraction"))?.unwrap_or(Percentage::ALL),
    };
    Ok((Target::read(&fields.get("backendRef"), own, BACKEND)?, share))
}

fn fraction(at: &Field<'_>) -> Result<Option<Percentage>, ResourceError> {
    if !at.is_present() {
        return Ok(None);
    }
    let fields = at.fields(&["numerator", "denominator"])?;
    let (above, below) = (fields.get("numerator"), fields.get("denominator"));
    let denominator = below.integer(1..=i32::MAX as u32, "a number of 1 or more")?.unwrap_or(100);
    let numerator = above.integer(0..=denominator, "a number from 0 to the denominator")?;
    let numerator =
        numerator.ok_or_else(|| above.refuse("a number from 0 to the denominator; this field is required"))?;
    let millionths = u64::from(numerator) * 1_000_000 / u64::from(denominator);
    Ok(Some(Percentage(u32::try_from(millionths).unwrap_or(1_000_000))))
}
