//! One path for everybody: what is routed is what the application sees (`normalize_path` and `merge_slashes`).

use http::uri::PathAndQuery;

/// The path with dot segments resolved, slashes merged and backslashes turned; none if it is normal already, which
/// almost every path is. RFC 3986, sections 6.2.2.2 and 6.2.2.3: what need not be escaped counts as it is, dots included.
pub(crate) fn normalized(path: &PathAndQuery) -> Option<PathAndQuery> {
    let text = path.path();
    if is_normal(text) {
        return None;
    }
    let plain = unescaped(text).replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in plain.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let is_folder = plain.ends_with('/') || plain.ends_with("/.") || plain.ends_with("/..");
    let end = if is_folder && !segments.is_empty() { "/" } else { "" };
    let query = path.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("/{}{end}{query}", segments.join("/")).parse().ok()
}

fn is_normal(path: &str) -> bool {
    let bytes = path.as_bytes();
    let suspicious = |pair: &[u8]| matches!(pair, b"//" | b"/.") || pair[0] == b'\\' || pair[1] == b'\\';
    !bytes.windows(2).any(suspicious) && !bytes.windows(3).any(|three| unreserved(three).is_some()) && bytes != b"\\"
}

/// The text with all as it is that need not be escaped.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        let (next, length) = match rest.as_bytes().get(at..at + 3).and_then(unreserved) {
            Some(byte) => (char::from(byte), 3),
            None => ('%', 1),
        };
        plain.push(next);
        rest = &rest[at + length..];
    }
    plain + rest
}

/// What `%XX` stands for, if it need not be escaped (RFC 3986, section 2.3).
fn unreserved(three: &[u8]) -> Option<u8> {
    let [b'%', high, low] = *three else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = u8::try_from(digit(high)? * 16 + digit(low)?).ok()?;
    (byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')).then_some(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_mean_the_same_become_the_same() {
        for (given, expected) in [
            ("/a/b", None),
            ("/", None),
            ("/a.b/c..d", None),
            ("/a//b", Some("/a/b")),
            ("//a", Some("/a")),
            ("/a/./b", Some("/a/b")),
            ("/a/../b?x=/../y", Some("/b?x=/../y")),
            ("/../../b", Some("/b")),
            ("/a/%2e%2E/b", Some("/b")),
            ("/%61%2f%7E%zz%4", Some("/a%2f~%zz%4")),
            ("/a%2Fb%5Cc%00", None),
            ("/a/..", Some("/")),
            ("/a/b/..", Some("/a/")),
            ("/a/b/.", Some("/a/b/")),
            ("/a//", Some("/a/")),
            ("/.well-known/x", Some("/.well-known/x")),
        ] {
            let path: PathAndQuery = given.parse().expect("a path");
            assert_eq!(normalized(&path).as_ref().map(PathAndQuery::as_str), expected, "{given}");
        }
    }
}
