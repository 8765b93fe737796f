//! One path for everybody: what is routed is what the application sees (`normalize_path` and `merge_slashes`).

use http::uri::PathAndQuery;

/// The path with dot segments resolved, slashes merged and backslashes turned; none if it is normal already, which
/// almost every path is. RFC 3986, section 6.2.2.3; escaped dots count as dots.
pub(crate) fn normalized(path: &PathAndQuery) -> Option<PathAndQuery> {
    let text = path.path();
    if is_normal(text) {
        return None;
    }
    let plain = text.replace('\\', "/").replace("%2e", ".").replace("%2E", ".");
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
    let escaped_dot = |three: &[u8]| three[0] == b'%' && three[1] == b'2' && matches!(three[2], b'e' | b'E');
    !bytes.windows(2).any(suspicious) && !bytes.windows(3).any(escaped_dot) && bytes != b"\\"
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
