use super::*;
use proptest::prelude::*;

const DECODING: PathRule = PathRule { escaped_slashes: EscapedSlashes::Undone, normalizes: true, merges: true };
const MERGING: PathRule = PathRule { escaped_slashes: EscapedSlashes::Kept, ..DECODING };
const BASE: PathRule = PathRule { merges: false, ..MERGING };

fn path(text: &str) -> PathAndQuery {
    text.parse().expect(text)
}

fn canonical(rule: PathRule, text: &str) -> String {
    let changed = rule.canonical(&path(text)).expect("not refused");
    changed.unwrap_or_else(|| path(text)).as_str().to_owned()
}

#[test]
fn paths_that_mean_the_same_become_the_same() {
    for (given, decoding, merging, base) in [
        ("/a/b", "/a/b", "/a/b", "/a/b"),
        ("/", "/", "/", "/"),
        ("/a.b/c..d", "/a.b/c..d", "/a.b/c..d", "/a.b/c..d"),
        ("/a//b", "/a/b", "/a/b", "/a//b"),
        ("//a", "/a", "/a", "//a"),
        ("/a//", "/a/", "/a/", "/a//"),
        ("/a//../b", "/a/b", "/a/b", "/a/b"),
        ("/a/./b", "/a/b", "/a/b", "/a/b"),
        ("/a/../b?x=/../y", "/b?x=/../y", "/b?x=/../y", "/b?x=/../y"),
        ("/../../b", "/b", "/b", "/b"),
        ("/a/%2e%2E/b", "/b", "/b", "/b"),
        ("/a\\b", "/a/b", "/a/b", "/a/b"),
        ("/\\admin", "/admin", "/admin", "//admin"),
        ("/%5cadmin", "/admin", "/%5cadmin", "/%5cadmin"),
        ("/x%2f..%2Fadmin", "/admin", "/x%2f..%2Fadmin", "/x%2f..%2Fadmin"),
        ("/x%2F%2e%2e%5cadmin", "/admin", "/x%2F..%5cadmin", "/x%2F..%5cadmin"),
        ("/%61%2f%7E%zz%4", "/a/~%zz%4", "/a%2f~%zz%4", "/a%2f~%zz%4"),
        ("/admin%25%32%66", "/admin%252f", "/admin%252f", "/admin%252f"),
        ("/a/..", "/", "/", "/"),
        ("/a/b/..", "/a/", "/a/", "/a/"),
        ("/a/b/.", "/a/b/", "/a/b/", "/a/b/"),
        ("/.well-known/x", "/.well-known/x", "/.well-known/x", "/.well-known/x"),
        ("/a;x=/../y", "/y", "/y", "/y"),
        ("/a/..;p/admin", "/admin", "/admin", "/admin"),
        ("/a/%2e%2e;p=%2f/admin", "/admin", "/admin", "/admin"),
        ("/a/.;p/b", "/a/b", "/a/b", "/a/b"),
        ("/a/b/..;p", "/a/", "/a/", "/a/"),
        ("/a;/..x;/b", "/a;/..x;/b", "/a;/..x;/b", "/a;/..x;/b"),
        ("/admin;x=y", "/admin;x=y", "/admin;x=y", "/admin;x=y"),
        ("/a?b%2f//..", "/a?b%2f//..", "/a?b%2f//..", "/a?b%2f//.."),
    ] {
        assert_eq!(canonical(DECODING, given), decoding, "{given}");
        assert_eq!(canonical(MERGING, given), merging, "{given}");
        assert_eq!(canonical(BASE, given), base, "{given}");
        assert_eq!(canonical(PathRule::default(), given), given);
    }
    let refusing = PathRule { escaped_slashes: EscapedSlashes::Refused, ..DECODING };
    for (given, refused) in [("/a%2fb", true), ("/a%5Cb", true), ("/a%2eb//c", false), ("/a?%2f", false)] {
        assert_eq!(refusing.canonical(&path(given)).is_err(), refused, "{given}");
    }
    assert_eq!(DECODING.canonical(&path("*")), Ok(None));
    for hidden in ["/x/..%%32fadmin", "/%2%66admin", "/%%35%63admin", "/%25%%32f"] {
        assert_eq!(DECODING.canonical(&path(hidden)), Err(EscapedSlash), "{hidden}");
    }
}

proptest! {
    /// Nothing is left that others might read as a slash or as a dot segment.
    #[test]
    fn nothing_is_left_to_be_told_otherwise(text in "/[a.%236fFeE5cC/\\\\;]{0,24}") {
        let Ok(once) = DECODING.canonical(&path(&text)) else { return Ok(()) };
        let once = once.unwrap_or_else(|| path(&text)).as_str().to_owned();
        prop_assert!(!has_slash_escape(&once), "{once}");
        prop_assert!(once.starts_with('/'), "{once}");
        prop_assert!(!once.contains("//") && !once.contains('\\'), "{once}");
        prop_assert!(!once.split('/').any(|segment| matches!(segment.split(';').next(), Some("." | ".."))), "{once}");
    }
}
