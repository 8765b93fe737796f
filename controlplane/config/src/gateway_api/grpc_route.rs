//! GRPCRoute: its rules, as rules about paths: gRPC's are `/SERVICE/METHOD`.

use super::backend::Backend;
use super::filter::{self, Filters};
use super::http_match::{self, Comparison};
use super::http_route::{self, HttpRule};
use super::{Place, object};
use crate::{HttpMatch, StringMatch, string_match};
use model::Namespace;
use resource::{Field, ResourceError, Source};

const FIELDS: &[&str] = &["name", "matches", "filters", "backendRefs", "sessionPersistence"];
const MOST_MATCHES: usize = 64;
const LONGEST: usize = 1024;

/// The rules of a GRPCRoute.
pub(super) fn read_all(at: &Field<'_>, own: &Namespace, source: &mut Source) -> Result<Vec<HttpRule>, ResourceError> {
    let mut rules = Vec::new();
    for item in http_route::rules(at)? {
        let fields = item.fields(FIELDS)?;
        http_route::session(&fields.get("sessionPersistence"), source)?;
        rules.push(HttpRule {
            place: Place::of(&item),
            name: http_route::name(&fields)?,
            matches: matches(&fields.get("matches"))?,
            filters: Filters::read(&fields.get("filters"), own, filter::GRPC, source)?,
            backends: Backend::read_all(&fields.get("backendRefs"), own, filter::GRPC, source)?,
            timeout: None,
            retries: None,
        });
    }
    Ok(rules)
}

fn matches(at: &Field<'_>) -> Result<Vec<HttpMatch>, ResourceError> {
    let items = at.items()?;
    if items.len() > MOST_MATCHES {
        return Err(at.refuse(format!("at most {MOST_MATCHES} conditions")));
    }
    if items.is_empty() {
        return Ok(vec![HttpMatch::default()]);
    }
    let one = |item: &Field<'_>| -> Result<HttpMatch, ResourceError> {
        let fields = item.fields(&["method", "headers"])?;
        let headers = http_match::headers(&fields.get("headers"))?;
        Ok(HttpMatch { uri: method(&fields.get("method"))?, headers, ..HttpMatch::default() })
    };
    items.iter().map(one).collect()
}

fn method(at: &Field<'_>) -> Result<Option<StringMatch>, ResourceError> {
    if !at.is_present() {
        return Ok(None);
    }
    let fields = at.fields(&["type", "service", "method"])?;
    let types = [("Exact", Comparison::Exact), ("RegularExpression", Comparison::Regex)];
    let comparison = object::choice(&fields.get("type"), &types, Comparison::Exact)?;
    let part = |name: &str| {
        let at = fields.get(name);
        let text = at.text()?.filter(|text| !text.is_empty());
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.".contains(&byte);
        let is_name = |text: &str| text.len() <= LONGEST && text.bytes().all(legal);
        match text {
            Some(text) if comparison == Comparison::Regex => string_match::regex(&at, text).map(Some),
            Some(text) if !is_name(text) => {
                Err(at.refuse("a name of gRPC: letters, digits, '_' and '.', at most 1024"))
            }
            text => Ok(text.map(str::to_owned)),
        }
    };
    let (service, method) = (part("service")?, part("method")?);
    Ok(Some(match (comparison, service, method) {
        (_, None, None) => return Err(at.refuse("service, method or both")),
        (Comparison::Regex, service, method) => {
            let any = || "[^/]+".to_owned();
            StringMatch::Regex(format!("/(?:{})/(?:{})", service.unwrap_or_else(any), method.unwrap_or_else(any)))
        }
        (_, Some(service), Some(method)) => StringMatch::Exact(format!("/{service}/{method}")),
        (_, Some(service), None) => StringMatch::Prefix(format!("/{service}/")),
        (_, None, Some(method)) => StringMatch::Regex(format!("/[^/]+/{}", regex::escape(&method))),
    }))
}
