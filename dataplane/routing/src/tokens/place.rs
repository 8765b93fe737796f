//! Where tokens stand in a request.

use crate::Asked;
use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE};
use std::borrow::Cow;

/// Where a token may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In a header field, behind this text.
    Field(HeaderName, Box<str>),
    /// In a parameter of the query.
    Parameter(Box<str>),
    /// In a cookie.
    Cookie(Box<str>),
}

/// A token, and the header field in which it stood.
pub(super) type Found<'a> = (Cow<'a, str>, Option<HeaderName>);

// === impl Place ===

impl Place {
    /// Where tokens stand of which nothing is said (RFC 6750).
    pub(super) fn usual() -> Vec<Self> {
        vec![Self::Field(AUTHORIZATION, "Bearer ".into()), Self::Parameter("access_token".into())]
    }

    /// The tokens that stand here.
    pub(super) fn tokens<'a>(&self, asked: &'a Asked<'_>) -> Vec<Found<'a>> {
        match self {
            Self::Field(name, prefix) => {
                let values = asked.headers.get_all(name).iter();
                // What is no text is no token, but something stands there.
                let found = values.filter_map(|value| behind(value.to_str().unwrap_or_default(), prefix));
                found.map(|token| (Cow::Borrowed(token), Some(name.clone()))).collect()
            }
            Self::Parameter(name) => {
                let all = form_urlencoded::parse(asked.query().as_bytes());
                all.filter(|(key, _)| **key == **name).map(|(_, token)| (token, None)).collect()
            }
            Self::Cookie(name) => {
                let values = asked.headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
                let pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
                let tokens = pairs.filter(|(key, _)| **key == **name);
                tokens.map(|(_, token)| (Cow::Borrowed(token.trim_matches('"')), None)).collect()
            }
        }
    }
}

/// The token behind `prefix` in `value`: what may be one, up to what may not (Envoy's rule).
fn behind<'a>(value: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() {
        return Some(value);
    }
    let rest = &value[value.find(prefix)? + prefix.len()..];
    let legal = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let Some(begin) = rest.find(legal) else { return Some(rest) };
    let rest = &rest[begin..];
    Some(&rest[..rest.find(|letter| !legal(letter)).unwrap_or(rest.len())])
}
