//! How a text is matched: whole, by its beginning, or by a regular expression (RE2's syntax).

use crate::exclusive;
use regex::Regex;
use resource::{Field, ResourceError};

/// A condition on a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StringMatch {
    /// It is this.
    Exact(String),
    /// It begins so.
    Prefix(String),
    /// All of it matches this expression.
    Regex(String),
}

const KINDS: &[&str] = &["exact", "prefix", "regex"];
/// Longer expressions are refused: their automata take memory in every proxy.
const LONGEST_REGEX: usize = 1024;

// === impl StringMatch ===

impl StringMatch {
    /// The condition at `at`; absent if there is nothing, or nothing in it, which stands for "is there".
    pub(crate) fn read(at: &Field<'_>) -> Result<Option<Self>, ResourceError> {
        match Self::read_any(at)? {
            Some(Self::Prefix(text)) if text.is_empty() => {
                Err(at.fields(KINDS)?.get("prefix").refuse("a beginning that is not empty"))
            }
            read => Ok(read),
        }
    }

    fn read_any(at: &Field<'_>) -> Result<Option<Self>, ResourceError> {
        let fields = at.fields(KINDS)?;
        exclusive(&fields, KINDS)?;
        if let Some(text) = fields.get("exact").text()? {
            return Ok(Some(Self::Exact(text.to_owned())));
        }
        if let Some(text) = fields.get("prefix").text()? {
            return Ok(Some(Self::Prefix(text.to_owned())));
        }
        let at = fields.get("regex");
        let Some(text) = at.text()? else { return Ok(None) };
        Ok(Some(Self::Regex(regex(&at, text)?)))
    }

    /// As [`StringMatch::read`], where something must be said: an absent field is fine, an empty one is not.
    pub(crate) fn read_full(at: &Field<'_>) -> Result<Option<Self>, ResourceError> {
        said(at, Self::read(at)?)
    }

    /// As [`StringMatch::read_full`], for a path: there an empty prefix means every path.
    pub(crate) fn read_path(at: &Field<'_>) -> Result<Option<Self>, ResourceError> {
        said(at, Self::read_any(at)?)
    }
}

fn said(at: &Field<'_>, read: Option<StringMatch>) -> Result<Option<StringMatch>, ResourceError> {
    match read {
        None if at.is_present() => Err(at.refuse("one of exact, prefix and regex")),
        read => Ok(read),
    }
}

/// `text`, if it is a regular expression.
pub(crate) fn regex(at: &Field<'_>, text: &str) -> Result<String, ResourceError> {
    if text.is_empty() || text.len() > LONGEST_REGEX {
        return Err(at.refuse(format!("a regular expression of 1 to {LONGEST_REGEX} characters")));
    }
    // Istio's own star for "any value".
    if text == "*" {
        return Ok(".*".to_owned());
    }
    match Regex::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            let cause = error.to_string();
            let cause = cause.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Err(at.refuse(format!("a regular expression in RE2's syntax ({cause})")))
        }
    }
}
