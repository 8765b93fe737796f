//! One path for everybody: what is routed and judged is, byte for byte, what the upstream gets.
//!
//! ```text
//! %2F and %5C undone | refused | kept  ->  escapes undone, backslashes turned, dot segments resolved  ->  slashes merged
//! ```
//!
//! The order is Envoy's (`path_with_escaped_slashes_action`, `normalize_path`, `merge_slashes`).

use api::envoy::envoy::extensions::filters::network::http_connection_manager::v3 as proto;
use http::uri::PathAndQuery;
use proto::http_connection_manager::PathWithEscapedSlashesAction;
use std::borrow::Cow;

/// What is done to paths before anybody reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathRule {
    escaped_slashes: EscapedSlashes,
    normalizes: bool,
    merges: bool,
}

/// A path with an escaped slash, where such are refused; or in which one is hidden, where they are undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EscapedSlash;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum EscapedSlashes {
    #[default]
    Kept,
    Refused,
    Undone,
}

// === impl PathRule ===

impl PathRule {
    pub(crate) fn parse(manager: &proto::HttpConnectionManager) -> Result<Self, String> {
        use PathWithEscapedSlashesAction as Action;
        let escaped_slashes = match manager.path_with_escaped_slashes_action() {
            Action::ImplementationSpecificDefault | Action::KeepUnchanged => EscapedSlashes::Kept,
            Action::RejectRequest => EscapedSlashes::Refused,
            Action::UnescapeAndForward => EscapedSlashes::Undone,
            Action::UnescapeAndRedirect => {
                return Err("path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT: one of KEEP_UNCHANGED, \
                            REJECT_REQUEST and UNESCAPE_AND_FORWARD is accepted"
                    .into());
            }
        };
        let normalizes = manager.normalize_path.as_ref().is_some_and(|flag| flag.value);
        Ok(Self { escaped_slashes, normalizes, merges: manager.merge_slashes })
    }

    /// The path as everybody reads it; none if it is so already, which almost every path is. The query is left alone, and
    /// so is what is no path (`*`).
    ///
    /// # Errors
    /// If it has an escaped slash, and those are refused; and where one would be left that should be undone.
    pub fn canonical(self, path: &PathAndQuery) -> Result<Option<PathAndQuery>, EscapedSlash> {
        let text = path.path();
        if !text.starts_with('/') || self.is_canonical(text) {
            return Ok(None);
        }
        let mut plain = Cow::Borrowed(text);
        if self.escaped_slashes != EscapedSlashes::Kept {
            plain = unescaped(plain, slash);
            if self.escaped_slashes == EscapedSlashes::Refused && plain != text {
                return Err(EscapedSlash);
            }
        }
        if self.normalizes {
            plain = Cow::Owned(resolved(&unescaped(plain, unreserved).replace('\\', "/")));
        }
        if self.merges {
            plain = Cow::Owned(merged(&plain));
        }
        // A stray percent sign may have become the begin of an escape only now: `%%32f`.
        if self.escaped_slashes != EscapedSlashes::Kept && has_slash_escape(&plain) {
            return Err(EscapedSlash);
        }
        if plain == text {
            return Ok(None);
        }
        let query = path.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(format!("{plain}{query}").parse().ok())
    }

    /// Whether nothing in the path can be told otherwise; not whenever that is so.
    fn is_canonical(self, path: &str) -> bool {
        let bytes = path.as_bytes();
        bytes.iter().enumerate().all(|(at, byte)| match byte {
            b'/' => !matches!(bytes.get(at + 1), Some(b'/' | b'.')),
            b'\\' => !self.normalizes,
            b'%' => bytes.get(at..at + 3).is_none_or(|three| unreserved(three).or(slash(three)).is_none()),
            _ => true,
        })
    }
}

/// The text with those escapes undone that stand for what `plain` lets be.
fn unescaped(text: Cow<'_, str>, plain: fn(&[u8]) -> Option<u8>) -> Cow<'_, str> {
    if !text.contains('%') {
        return text;
    }
    let mut done = String::with_capacity(text.len());
    let mut rest = &*text;
    while let Some(at) = rest.find('%') {
        done.push_str(&rest[..at]);
        let (next, length) = match rest.as_bytes().get(at..at + 3).and_then(plain) {
            Some(byte) => (char::from(byte), 3),
            None => ('%', 1),
        };
        done.push(next);
        rest = &rest[at + length..];
    }
    Cow::Owned(done + rest)
}

/// The path without dot segments (RFC 3986, section 5.2.4), which are that with parameters behind a semicolon too: there are
/// servers that read them so. Empty segments are segments.
fn resolved(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_open = false;
    for segment in path.split('/').skip(1) {
        let name = segment.split(';').next().unwrap_or_default();
        ends_open = matches!(name, "." | "..");
        match name {
            "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    format!("/{}{}", segments.join("/"), if ends_open && !segments.is_empty() { "/" } else { "" })
}

fn has_slash_escape(path: &str) -> bool {
    path.as_bytes().windows(3).any(|three| slash(three).is_some())
}

fn merged(path: &str) -> String {
    let mut done = String::with_capacity(path.len());
    for letter in path.chars() {
        if letter != '/' || !done.ends_with('/') {
            done.push(letter);
        }
    }
    done
}

/// What `%XX` stands for, if it need not be escaped (RFC 3986, section 2.3).
fn unreserved(three: &[u8]) -> Option<u8> {
    escaped(three).filter(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
}

/// What `%XX` stands for, if it is a slash to somebody.
fn slash(three: &[u8]) -> Option<u8> {
    escaped(three).filter(|byte| matches!(byte, b'/' | b'\\'))
}

fn escaped(three: &[u8]) -> Option<u8> {
    let [b'%', high, low] = *three else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests;
