//! The conditions under which an HTTP route is taken.

use crate::{GatewayName, StringMatch, field, header_operations, labels, matched_port};
use model::Namespace;
use resource::{Field, ResourceError, Source};
use std::collections::BTreeMap;

/// Conditions that must all hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpMatch {
    /// Its name, for logs.
    pub name: String,
    /// On the path, without the query.
    pub uri: Option<StringMatch>,
    /// Whether upper and lower case are the same in the path.
    pub ignore_uri_case: bool,
    /// Whether the beginning of the path must end where one of its segments does (the Gateway API's rule).
    pub whole_segments: bool,
    /// On the scheme.
    pub scheme: Option<StringMatch>,
    /// On the method.
    pub method: Option<StringMatch>,
    /// On the authority.
    pub authority: Option<StringMatch>,
    /// On header fields; without a condition, that it is there. A name that begins with [`CLAIMS`] is a claim of the
    /// request's token, `@request.auth.claims[A][B]`.
    pub headers: BTreeMap<String, Option<StringMatch>>,
    /// On header fields that must not match; without a condition, that it is not there.
    pub without_headers: BTreeMap<String, Option<StringMatch>>,
    /// On parameters of the query; without a condition, that it is there.
    pub query: BTreeMap<String, Option<StringMatch>>,
    /// The port that was asked for.
    pub port: Option<u16>,
    /// Labels of the workload that asks.
    pub source_labels: BTreeMap<String, String>,
    /// The namespace of the workload that asks.
    pub source_namespace: Option<Namespace>,
    /// The gateways that this is for; those of the VirtualService if empty.
    pub gateways: Vec<GatewayName>,
    /// A prefix for the route's statistics.
    pub stat_prefix: Option<String>,
}

/// What stands before the claims of a token where header fields may stand (Istio's).
pub const CLAIMS: &str = "@request.auth.claims";
const FIELDS: &[&str] = &[
    "name",
    "uri",
    "scheme",
    "method",
    "authority",
    "headers",
    "port",
    "sourceLabels",
    "gateways",
    "queryParams",
    "ignoreUriCase",
    "withoutHeaders",
    "sourceNamespace",
    "statPrefix",
];

// === impl HttpMatch ===

impl HttpMatch {
    pub(crate) fn read(at: &Field<'_>, namespace: &Namespace, source: &mut Source) -> Result<Self, ResourceError> {
        let fields = at.fields(FIELDS)?;
        let uri = StringMatch::read_path(&fields.get("uri"))?;
        let never = match &uri {
            Some(StringMatch::Exact(path)) => Some(path).filter(|path| !path.starts_with('/')),
            Some(StringMatch::Prefix(path)) => Some(path).filter(|path| !path.is_empty() && !path.starts_with('/')),
            _ => None,
        };
        if let Some(path) = never {
            source.warn(&fields.get("uri"), format!("{path:?} never matches: a path begins with '/'"));
        }
        let text = |name: &str| fields.get(name).text();
        Ok(Self {
            name: text("name")?.unwrap_or_default().to_owned(),
            uri,
            ignore_uri_case: fields.get("ignoreUriCase").boolean()?.unwrap_or_default(),
            whole_segments: false,
            scheme: StringMatch::read_full(&fields.get("scheme"))?,
            method: StringMatch::read_full(&fields.get("method"))?,
            authority: StringMatch::read_full(&fields.get("authority"))?,
            headers: header_matches(&fields.get("headers"))?,
            without_headers: header_matches(&fields.get("withoutHeaders"))?,
            query: matches(&fields.get("queryParams"), |_, name| Ok(name.to_owned()))?,
            port: matched_port(&fields.get("port"))?,
            source_labels: labels(&fields.get("sourceLabels"))?,
            source_namespace: field::namespace(&fields.get("sourceNamespace"))?,
            gateways: GatewayName::read_all(&fields.get("gateways"), namespace)?,
            stat_prefix: text("statPrefix")?.filter(|prefix| !prefix.is_empty()).map(str::to_owned),
        })
    }
}

fn header_matches(at: &Field<'_>) -> Result<BTreeMap<String, Option<StringMatch>>, ResourceError> {
    matches(at, |value, name| match name.to_ascii_lowercase().as_str() {
        "uri" | ":path" => Err(value.refuse("a header field; the path has its own condition, uri")),
        pseudo @ (":method" | ":authority" | ":scheme") => Ok(pseudo.to_owned()),
        _ if name.starts_with(CLAIMS) => claim(value, name),
        _ => header_operations::name(value, name),
    })
}

/// `@request.auth.claims.A.B` or `@request.auth.claims[A][B]`, as the latter.
fn claim(value: &Field<'_>, name: &str) -> Result<String, ResourceError> {
    let rest = &name[CLAIMS.len()..];
    let keys: Option<Vec<&str>> = match (rest.strip_prefix('.'), rest.strip_prefix('[')) {
        (Some(dotted), _) => Some(dotted.split('.').collect()),
        (_, Some(listed)) => listed.strip_suffix(']').map(|listed| listed.split("][").collect()),
        _ => None,
    };
    let keys = keys.filter(|keys| keys.iter().all(|key| !key.is_empty() && !key.contains(['[', ']'])));
    let keys = keys.ok_or_else(|| value.refuse(format!("{CLAIMS}.NAME or {CLAIMS}[NAME][NAME]")))?;
    Ok(format!("{CLAIMS}[{}]", keys.join("][")))
}

fn matches(
    at: &Field<'_>,
    name: impl Fn(&Field<'_>, &str) -> Result<String, ResourceError>,
) -> Result<BTreeMap<String, Option<StringMatch>>, ResourceError> {
    let mut matches = BTreeMap::new();
    for (key, value) in at.members()? {
        if key.is_empty() {
            return Err(value.refuse("a name that is not empty"));
        }
        matches.insert(name(&value, key)?, StringMatch::read(&value)?);
    }
    Ok(matches)
}
