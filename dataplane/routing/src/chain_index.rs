//! Filter chains in the order in which Envoy asks for them: by port and address, which are few, then by server name,
//! of which a gateway has one for every service.

use crate::suffixes::Suffixes;
use std::collections::HashMap;

/// Chains of one port and the same addresses, by server name. A chain is told by its place among all.
#[derive(Debug, Clone, Default)]
pub(crate) struct ByServerName {
    exact: HashMap<Box<str>, Vec<usize>>,
    /// `*.example.com`, without the star.
    suffixes: Suffixes<Vec<usize>>,
    /// Those for every name, and for none.
    unnamed: Vec<usize>,
}

// === impl ByServerName ===

impl ByServerName {
    /// Adds the chain at `place`, which is for these names, or for all if there are none.
    pub(crate) fn add(&mut self, names: &[String], place: usize) {
        if names.is_empty() {
            self.unnamed.push(place);
        }
        for name in names {
            match name.strip_prefix('*') {
                Some(suffix) => self.suffixes.entry(suffix).or_default().push(place),
                None => self.exact.entry(name.as_str().into()).or_default().push(place),
            }
        }
    }

    /// The chains that `name` fits best, if it fits any, with how well: an exact name before every wildcard, a longer
    /// wildcard before a shorter, and any before none.
    pub(crate) fn find(&self, name: Option<&str>) -> Option<(usize, &[usize])> {
        let exact = || Some((usize::MAX, self.exact.get(name?)?));
        let by_suffix = || self.suffixes.find(name?).map(|(suffix, places)| (suffix.len() + 1, places));
        let unnamed = || (!self.unnamed.is_empty()).then_some((0, &self.unnamed));
        exact().or_else(by_suffix).or_else(unnamed).map(|(fit, places)| (fit, &places[..]))
    }
}
