//! Values by how a name ends.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// Values by suffix; what a look-up costs depends on how many lengths there are, not on how many suffixes.
#[derive(Debug, Clone)]
pub(crate) struct Suffixes<T>(BTreeMap<Reverse<usize>, HashMap<Box<str>, T>>);

// === impl Suffixes ===

impl<T> Suffixes<T> {
    /// The value of `suffix`, for the caller to fill in.
    pub(crate) fn entry(&mut self, suffix: &str) -> std::collections::hash_map::Entry<'_, Box<str>, T> {
        self.0.entry(Reverse(suffix.len())).or_default().entry(suffix.into())
    }

    /// Of the suffixes of `name` that are shorter than it the longest, with its value.
    pub(crate) fn find(&self, name: &str) -> Option<(&str, &T)> {
        let shorter = self.0.range(Reverse(name.len().saturating_sub(1))..);
        shorter.into_iter().find_map(|(Reverse(length), of_length)| {
            let (suffix, value) = of_length.get_key_value(name.get(name.len().checked_sub(*length)?..)?)?;
            (*length < name.len()).then_some((&**suffix, value))
        })
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.values().flatten().map(|(suffix, value)| (&**suffix, value))
    }
}

impl<T> Default for Suffixes<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_that_is_shorter_counts() {
        let mut suffixes = Suffixes::default();
        for suffix in [".com", ".example.com", "-a.example.com", "é"] {
            suffixes.entry(suffix).or_insert(suffix);
        }
        let found = |name: &str| suffixes.find(name).map(|(_, value)| *value);
        assert_eq!(found("www.example.com"), Some(".example.com"));
        assert_eq!(found("b-a.example.com"), Some("-a.example.com"));
        assert_eq!(found(".example.com"), Some(".com"), "it is the suffix itself: there is nothing before it");
        assert_eq!(found("example.org"), None);
        assert_eq!(found(""), None);
        assert_eq!(found("aé"), Some("é"));
        assert_eq!(found("a\u{2929}"), None, "never within a letter");
    }
}
