//! Conditions on a text, as Envoy's StringMatcher has them.

use api::envoy::envoy::r#type::matcher::v3 as proto;
use proto::string_matcher::MatchPattern;
use regex::{Regex, RegexBuilder};

/// A condition on a text.
#[derive(Debug, Clone)]
pub(crate) struct TextMatch {
    kind: Kind,
    ignore_case: bool,
}

#[derive(Debug, Clone)]
enum Kind {
    Exact(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Contains(Box<str>),
    Regex(Regex),
}

/// The memory that one expression may take compiled, in bytes.
const REGEX_SIZE: usize = 1 << 20;

// === impl TextMatch ===

impl TextMatch {
    pub(crate) fn parse(matcher: &proto::StringMatcher) -> Result<Self, String> {
        let folded = |text: &str| {
            let text = if matcher.ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
            text.into_boxed_str()
        };
        let kind = match &matcher.match_pattern {
            Some(MatchPattern::Exact(text)) => Kind::Exact(folded(text)),
            Some(MatchPattern::Prefix(text)) => Kind::Prefix(folded(text)),
            Some(MatchPattern::Suffix(text)) => Kind::Suffix(folded(text)),
            Some(MatchPattern::Contains(text)) => Kind::Contains(folded(text)),
            Some(MatchPattern::SafeRegex(matcher)) => Kind::Regex(whole(&matcher.regex)?),
            _ => return Err("string match: exact, prefix, suffix, contains or safe_regex is accepted".into()),
        };
        Ok(Self { kind, ignore_case: matcher.ignore_case })
    }

    /// The same of bytes that may be no text; of an expression it is not known then.
    pub(crate) fn matches_bytes(&self, bytes: &[u8]) -> Option<bool> {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return Some(self.matches(text));
        }
        let lower = if self.ignore_case { bytes.to_ascii_lowercase() } else { bytes.to_owned() };
        match &self.kind {
            // It is a text, so this is another.
            Kind::Exact(_) => Some(false),
            Kind::Prefix(wanted) => Some(lower.starts_with(wanted.as_bytes())),
            Kind::Suffix(wanted) => Some(lower.ends_with(wanted.as_bytes())),
            Kind::Contains(wanted) => {
                Some(wanted.is_empty() || lower.windows(wanted.len()).any(|part| part == wanted.as_bytes()))
            }
            Kind::Regex(_) => None,
        }
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        let lower;
        let text = if self.ignore_case && text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = text.to_ascii_lowercase();
            &lower
        } else {
            text
        };
        match &self.kind {
            Kind::Exact(wanted) => text == &**wanted,
            Kind::Prefix(wanted) => text.starts_with(&**wanted),
            Kind::Suffix(wanted) => text.ends_with(&**wanted),
            Kind::Contains(wanted) => text.contains(&**wanted),
            Kind::Regex(regex) => regex.is_match(text),
        }
    }
}

/// An expression that a text matches as a whole.
pub(crate) fn whole(regex: &str) -> Result<Regex, String> {
    compiled(&format!("^(?:{regex})$"))
}

/// An expression that is looked for in a text.
pub(crate) fn compiled(regex: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(regex).size_limit(REGEX_SIZE).build();
    built.map_err(|error| format!("safe_regex: {regex:?} is not accepted: {error}"))
}
