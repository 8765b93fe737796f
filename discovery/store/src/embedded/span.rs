//! The keys that a request speaks of: etcd's pair (key, range_end).

use std::ops::Bound;

/// A set of neighbouring keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    start: Vec<u8>,
    end: End,
}

/// A bound in a table whose key is (key, revision).
type VersionBound<'a> = Bound<(&'a [u8], i64)>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// Only the start itself.
    Single,
    /// Up to here, exclusive.
    Before(Vec<u8>),
    /// All keys from the start on.
    Open,
}

// === impl Span ===

impl Span {
    /// What etcd's `key` and `range_end` mean: no end is one key, an end of one zero byte is everything from `key` on.
    pub(super) fn new(key: &[u8], range_end: &[u8]) -> Self {
        let end = match range_end {
            [] => End::Single,
            [0] => End::Open,
            end => End::Before(end.to_vec()),
        };
        Self { start: key.to_vec(), end }
    }

    /// Whether no key can be in it.
    pub(super) fn is_empty(&self) -> bool {
        matches!(&self.end, End::Before(end) if *end <= self.start)
    }

    /// Whether `key` is in it.
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Single => key == self.start,
            End::Before(end) => key >= self.start.as_slice() && key < end.as_slice(),
            End::Open => key >= self.start.as_slice(),
        }
    }

    /// Whether every key in it begins with `prefix`.
    pub(super) fn within(&self, prefix: &[u8]) -> bool {
        let limit = successor(prefix);
        self.start.starts_with(prefix)
            && match &self.end {
                End::Single => true,
                End::Before(end) => limit.is_none_or(|limit| *end <= limit),
                End::Open => limit.is_none(),
            }
    }

    /// The bounds for a table whose key is the key.
    pub(super) fn keys(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let start = Bound::Included(self.start.as_slice());
        match &self.end {
            End::Single => (start, start),
            End::Before(end) => (start, Bound::Excluded(end.as_slice())),
            End::Open => (start, Bound::Unbounded),
        }
    }

    /// The bounds for a table whose key is (key, revision).
    pub(super) fn versions(&self) -> (VersionBound<'_>, VersionBound<'_>) {
        let start = Bound::Included((self.start.as_slice(), 0));
        match &self.end {
            End::Single => (start, Bound::Included((self.start.as_slice(), i64::MAX))),
            End::Before(end) => (start, Bound::Excluded((end.as_slice(), 0))),
            End::Open => (start, Bound::Unbounded),
        }
    }
}

/// The first key after all that begin with `prefix`, or none when there is no end to them.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_means_what_etcd_says() {
        let one = Span::new(b"a", b"");
        assert!(one.contains(b"a") && !one.contains(b"aa"));
        let open = Span::new(b"b", b"\0");
        assert!(open.contains(b"b") && open.contains(b"\xff") && !open.contains(b"a"));
        let prefix = Span::new(b"a/", b"a0");
        assert!(prefix.contains(b"a/x") && !prefix.contains(b"a0"));
        assert!(Span::new(b"b", b"a").is_empty() && !Span::new(b"b", b"\0").is_empty());
    }

    #[test]
    fn only_what_stays_below_a_prefix_is_within_it() {
        let own = b"/clusters/east/";
        assert!(Span::new(b"/clusters/east/leader", b"").within(own));
        assert!(Span::new(b"/clusters/east/", b"/clusters/east0").within(own));
        for (key, end) in [
            (b"/clusters/eastern".as_slice(), b"".as_slice()),
            (b"/clusters/east/", b"/clusters/east1"),
            (b"/clusters/east/", b"\0"),
            (b"/clusters/", b"/clusters0"),
            (b"\0", b"\0"),
        ] {
            assert!(!Span::new(key, end).within(own), "{key:?}..{end:?}");
        }
    }
}
