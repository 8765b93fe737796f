//! Conditions of an HTTPRoute, and which of them goes before which.

use super::object::choice;
use crate::{HttpMatch, StringMatch, header_operations, string_match};
use resource::{Field, ResourceError};
use std::collections::BTreeMap;

const FIELDS: &[&str] = &["path", "headers", "queryParams", "method"];
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
const LONGEST_PATH: usize = 1024;
const LONGEST_VALUE: usize = 4096;
const MOST_MATCHES: usize = 64;
const MOST_CONDITIONS: usize = 16;

/// How a text is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Exact,
    Prefix,
    Regex,
}

/// How much a condition says: of two that hold, the greater counts (the Gateway API's order). Expressions, whose place
/// it leaves open, stand between beginnings and the condition on nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    kind: u8,
    path: usize,
    has_method: bool,
    headers: usize,
    query: usize,
}

/// The conditions of a rule; one that always holds if there are none.
pub(super) fn read_all(at: &Field<'_>) -> Result<Vec<HttpMatch>, ResourceError> {
    let items = at.items()?;
    if items.len() > MOST_MATCHES {
        return Err(at.refuse(format!("at most {MOST_MATCHES} conditions")));
    }
    if items.is_empty() {
        return Ok(vec![HttpMatch { whole_segments: true, ..HttpMatch::default() }]);
    }
    items.iter().map(read).collect()
}

fn read(at: &Field<'_>) -> Result<HttpMatch, ResourceError> {
    let fields = at.fields(FIELDS)?;
    let methods = METHODS.map(|method| (method, Some(method)));
    let method = choice(&fields.get("method"), &methods, None)?;
    Ok(HttpMatch {
        uri: path(&fields.get("path"))?,
        whole_segments: true,
        method: method.map(|method| StringMatch::Exact(method.to_owned())),
        headers: headers(&fields.get("headers"))?,
        query: named(&fields.get("queryParams"), |_, name| Ok(name.to_owned()))?,
        ..HttpMatch::default()
    })
}

fn path(at: &Field<'_>) -> Result<Option<StringMatch>, ResourceError> {
    let fields = at.fields(&["type", "value"])?;
    let types =
        [("Exact", Comparison::Exact), ("PathPrefix", Comparison::Prefix), ("RegularExpression", Comparison::Regex)];
    let comparison = choice(&fields.get("type"), &types, Comparison::Prefix)?;
    let value = fields.get("value");
    let text = value.text()?.unwrap_or("/");
    if text.len() > LONGEST_PATH {
        return Err(value.refuse(format!("a path of at most {LONGEST_PATH} characters")));
    }
    if comparison == Comparison::Regex {
        return Ok(Some(StringMatch::Regex(string_match::regex(&value, text)?)));
    }
    let within = ["//", "/./", "/../", "%2f", "%2F", "#"].iter().find(|part| text.contains(**part));
    let after = ["/..", "/."].iter().find(|part| text.ends_with(**part));
    if !text.starts_with('/') || within.or(after).is_some() {
        return Err(value.refuse("a path that begins with '/', without '//', '/./', '/../', '%2f' and '#'"));
    }
    Ok(match comparison {
        Comparison::Exact => Some(StringMatch::Exact(text.to_owned())),
        _ => Some(text.trim_end_matches('/'))
            .filter(|text| !text.is_empty())
            .map(|text| StringMatch::Prefix(text.to_owned())),
    })
}

/// Conditions on header fields.
pub(super) fn headers(at: &Field<'_>) -> Result<BTreeMap<String, Option<StringMatch>>, ResourceError> {
    named(at, header_operations::name)
}

/// Conditions by name; of several for one name the first counts.
fn named(
    at: &Field<'_>,
    name_of: impl Fn(&Field<'_>, &str) -> Result<String, ResourceError>,
) -> Result<BTreeMap<String, Option<StringMatch>>, ResourceError> {
    let items = at.items()?;
    if items.len() > MOST_CONDITIONS {
        return Err(at.refuse(format!("at most {MOST_CONDITIONS} conditions")));
    }
    let mut all = BTreeMap::new();
    for item in items {
        let fields = item.fields(&["type", "name", "value"])?;
        let types = [("Exact", Comparison::Exact), ("RegularExpression", Comparison::Regex)];
        let comparison = choice(&fields.get("type"), &types, Comparison::Exact)?;
        let (name, value) = (fields.get("name"), fields.get("value"));
        let key = match name.required_text()? {
            "" => return Err(name.refuse("a name that is not empty")),
            text => name_of(&name, text)?,
        };
        let text = value.required_text()?;
        if text.is_empty() || text.len() > LONGEST_VALUE {
            return Err(value.refuse(format!("a value of 1 to {LONGEST_VALUE} characters")));
        }
        let condition = match comparison {
            Comparison::Regex => StringMatch::Regex(string_match::regex(&value, text)?),
            _ => StringMatch::Exact(text.to_owned()),
        };
        all.entry(key).or_insert(Some(condition));
    }
    Ok(all)
}

// === impl Rank ===

impl Rank {
    pub(super) fn of(matches: &HttpMatch) -> Self {
        let (kind, path) = match &matches.uri {
            Some(StringMatch::Exact(path)) => (3, path.len()),
            Some(StringMatch::Prefix(path)) => (2, path.len()),
            Some(StringMatch::Regex(regex)) => (1, regex.len()),
            None => (0, 1),
        };
        Self {
            kind,
            path,
            has_method: matches.method.is_some(),
            headers: matches.headers.len(),
            query: matches.query.len(),
        }
    }
}
