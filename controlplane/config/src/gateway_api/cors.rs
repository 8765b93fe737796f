//! The CORS filter.

use super::object::choice;
use crate::{CorsPolicy, StringMatch, header_operations};
use resource::{Field, ResourceError};
use std::time::Duration;

const FIELDS: &[&str] =
    &["allowOrigins", "allowCredentials", "allowMethods", "allowHeaders", "exposeHeaders", "maxAge"];
const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"];
/// How long browsers may remember where nothing is said (the Gateway API's default), in seconds.
const MAX_AGE: u32 = 5;
const MOST: usize = 64;

pub(super) fn read(at: &Field<'_>) -> Result<CorsPolicy, ResourceError> {
    let fields = at.fields(FIELDS)?;
    let mut origins = Vec::new();
    let listed = list(&fields.get("allowOrigins"))?;
    for item in &listed {
        origins.push(origin(item)?);
    }
    if listed.len() > 1 && listed.iter().any(|item| item.text().is_ok_and(|text| text == Some("*"))) {
        return Err(fields.get("allowOrigins").refuse("'*' alone, or other origins without it"));
    }
    let age = fields.get("maxAge").integer(1..=i32::MAX as u32, "a number of seconds, 1 or more")?;
    Ok(CorsPolicy {
        origins,
        methods: methods(&fields.get("allowMethods"))?,
        headers: names(&fields.get("allowHeaders"))?,
        exposed: names(&fields.get("exposeHeaders"))?,
        max_age: Some(Duration::from_secs(age.unwrap_or(MAX_AGE).into())),
        credentials: fields.get("allowCredentials").boolean()?.filter(|allowed| *allowed),
        forwards_unmatched: true,
    })
}

/// `*`, or `SCHEME://HOST[:PORT]`, in which `*` within the host is any text.
fn origin(at: &Field<'_>) -> Result<StringMatch, ResourceError> {
    let text = at.required_text()?;
    if text == "*" {
        return Ok(StringMatch::Regex(".*".to_owned()));
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:*[]".contains(&byte);
    let is_origin = text.split_once("://").is_some_and(|(scheme, rest)| {
        matches!(scheme, "http" | "https") && !rest.is_empty() && rest.bytes().all(legal)
    });
    if !is_origin || text.len() > 253 {
        return Err(at.refuse("'*', or an origin such as https://example.com:8443 or https://*.example.com"));
    }
    if !text.contains('*') {
        return Ok(StringMatch::Exact(text.to_owned()));
    }
    let parts: Vec<String> = text.split('*').map(regex::escape).collect();
    Ok(StringMatch::Regex(parts.join(".*")))
}

fn methods(at: &Field<'_>) -> Result<Vec<String>, ResourceError> {
    let items = list(at)?;
    let choices = METHODS.map(|method| (method, method));
    let mut methods: Vec<String> = Vec::new();
    for item in &items {
        methods.push(choice(item, &choices, "*")?.to_owned());
    }
    if methods.len() > 1 && methods.iter().any(|method| method == "*") {
        return Err(at.refuse("'*' alone, or other methods without it"));
    }
    Ok(methods)
}

fn names(at: &Field<'_>) -> Result<Vec<String>, ResourceError> {
    let mut names = Vec::new();
    for item in list(at)? {
        let text = item.required_text()?;
        if !header_operations::is_token(text) {
            return Err(item.refuse("the name of a header field, or '*'"));
        }
        names.push(text.to_owned());
    }
    Ok(names)
}

fn list<'a>(at: &Field<'a>) -> Result<Vec<Field<'a>>, ResourceError> {
    let items = at.items()?;
    if items.len() > MOST { Err(at.refuse(format!("at most {MOST} entries"))) } else { Ok(items) }
}
