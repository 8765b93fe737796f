//! What a route does to header fields.

use crate::value_format;
use resource::{Field, ResourceError};
use std::collections::BTreeMap;

/// Operations on the fields of a request and of its response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderOperations {
    /// Of the request.
    pub request: Operations,
    /// Of the response.
    pub response: Operations,
}

/// Operations on the fields of one message: removed, then set, then added.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Operations {
    /// Values that replace what there is.
    pub set: BTreeMap<String, String>,
    /// Values that are added to what there is.
    pub add: BTreeMap<String, String>,
    /// Fields that are taken away.
    pub remove: Vec<String>,
}

/// Fields that belong to the connection, or that name the target: a route has other means for those.
const FORBIDDEN: [&str; 6] = [":method", ":path", ":scheme", ":protocol", "transfer-encoding", "connection"];

// === impl HeaderOperations ===

impl HeaderOperations {
    pub(crate) fn read(at: &Field<'_>) -> Result<Self, ResourceError> {
        let fields = at.fields(&["request", "response"])?;
        Ok(Self {
            request: Operations::read(&fields.get("request"))?,
            response: Operations::read(&fields.get("response"))?,
        })
    }
}

// === impl Operations ===

impl Operations {
    fn read(at: &Field<'_>) -> Result<Self, ResourceError> {
        let fields = at.fields(&["set", "add", "remove"])?;
        let mut remove = Vec::new();
        for item in fields.get("remove").items()? {
            remove.push(name(&item, item.required_text()?)?);
        }
        Ok(Self { set: values(&fields.get("set"))?, add: values(&fields.get("add"))?, remove })
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

fn values(at: &Field<'_>) -> Result<BTreeMap<String, String>, ResourceError> {
    let mut values = BTreeMap::new();
    for (key, item) in at.members()? {
        values.insert(name(&item, key)?, value(&item)?);
    }
    Ok(values)
}

/// The value of a field.
pub(crate) fn value(at: &Field<'_>) -> Result<String, ResourceError> {
    let text = at.required_text()?;
    if text.bytes().any(|byte| byte < 0x20 && byte != b'\t' || byte == 0x7f) {
        return Err(at.refuse("a field's value: visible characters, spaces and tabs"));
    }
    value_format::check(at, text)?;
    Ok(text.to_owned())
}

/// The name of a field in lower case (RFC 9110, section 5.1); `:authority` and `host` are the same.
pub(crate) fn name(at: &Field<'_>, text: &str) -> Result<String, ResourceError> {
    let lower = text.to_ascii_lowercase();
    if FORBIDDEN.contains(&lower.as_str()) {
        return Err(at.refuse("a header field that is not of the connection or the target"));
    }
    if (is_token(&lower) && lower.len() <= 256) || lower == ":authority" {
        return Ok(lower);
    }
    Err(at.refuse("the name of a header field: letters, digits and !#$%&'*+-.^_`|~, at most 256"))
}

/// Whether `text` is a token (RFC 9110, section 5.6.2).
pub(crate) fn is_token(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(legal)
}
