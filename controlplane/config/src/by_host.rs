//! Resources found by the hosts that they name: what it takes does not grow with the resources for other hosts.
//!
//! ```text
//! host -> its own text | its suffixes, longest first | "" for all      in "everywhere" and in the one namespace
//! ```

use crate::HostPattern;
use model::{Host, Visibility};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

/// A resource that is for some hosts, and counts in some namespaces.
pub trait Named {
    /// The hosts, wildcards among them.
    fn hosts(&self) -> impl Iterator<Item = HostPattern>;

    /// The namespaces where it is looked for.
    fn places(&self) -> Visibility;
}

/// Resources in their order, each to be found by the hosts and the namespaces that it is for. Never changed but by
/// adding to it, so that what is found is what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByHost<T> {
    all: Vec<T>,
    everywhere: Places,
    within: BTreeMap<String, Places>,
}

/// Where resources stand, by the hosts that they name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Places {
    exact: BTreeMap<Host, Vec<usize>>,
    /// By what follows the asterisk; all hosts have the empty suffix.
    suffixes: BTreeMap<String, Vec<usize>>,
}

// === impl ByHost ===

impl<T: Named> ByHost<T> {
    /// Adds `one` after all others.
    pub fn push(&mut self, one: T) {
        let at = self.all.len();
        let hosts: Vec<HostPattern> = one.hosts().collect();
        match one.places() {
            Visibility::All => self.everywhere.insert(&hosts, at),
            Visibility::Namespaces(namespaces) => {
                for namespace in namespaces {
                    self.within.entry(namespace.as_str().to_owned()).or_default().insert(&hosts, at);
                }
            }
        }
        self.all.push(one);
    }

    /// Those that are for `host`, or for a wildcard that it falls under, and that count in `namespace`; in their order.
    pub fn of<'a>(&'a self, namespace: &str, host: &Host) -> impl Iterator<Item = &'a T> {
        let mut found = BTreeSet::new();
        for places in self.within.get(namespace).into_iter().chain([&self.everywhere]) {
            places.find(host, &mut found);
        }
        found.into_iter().map(|at| &self.all[at])
    }
}

impl<T> Default for ByHost<T> {
    fn default() -> Self {
        Self { all: Vec::new(), everywhere: Places::default(), within: BTreeMap::new() }
    }
}

impl<T> Deref for ByHost<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.all
    }
}

impl<T: Named> Extend<T> for ByHost<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, more: I) {
        more.into_iter().for_each(|one| self.push(one));
    }
}

impl<T: Named> FromIterator<T> for ByHost<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        let mut new = Self::default();
        new.extend(all);
        new
    }
}

impl<T> IntoIterator for ByHost<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a ByHost<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.iter()
    }
}

// === impl Places ===

impl Places {
    fn insert(&mut self, hosts: &[HostPattern], at: usize) {
        for host in hosts {
            let places = match host {
                HostPattern::Any => self.suffixes.entry(String::new()).or_default(),
                HostPattern::Host(host) => match host.as_str().strip_prefix('*') {
                    Some(suffix) => self.suffixes.entry(suffix.to_owned()).or_default(),
                    None => self.exact.entry(host.clone()).or_default(),
                },
            };
            places.push(at);
        }
    }

    /// Adds to `found` those of `host`. A wildcard host is found by wildcards that cover it, and by itself.
    fn find(&self, host: &Host, found: &mut BTreeSet<usize>) {
        found.extend(self.exact.get(host).into_iter().flatten());
        if self.suffixes.is_empty() {
            return;
        }
        let text = host.as_str();
        // What an asterisk stands for is one character at least, and wildcards are `*` or begin with `*.`.
        let dots = text.match_indices('.').map(|(at, _)| at).filter(|at| *at > 0);
        for at in dots.chain([text.len()]) {
            found.extend(self.suffixes.get(&text[at..]).into_iter().flatten());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct One(&'static str, Option<&'static str>);

    impl Named for One {
        fn hosts(&self) -> impl Iterator<Item = HostPattern> {
            let host = |text: &str| HostPattern::Host(text.parse().expect("valid"));
            self.0.split(' ').map(move |text| if text == "*" { HostPattern::Any } else { host(text) })
        }

        fn places(&self) -> Visibility {
            let within = |name: &str| Visibility::Namespaces([name.parse().expect("valid")].into());
            self.1.map_or(Visibility::All, within)
        }
    }

    fn found(all: &ByHost<One>, namespace: &str, host: &str) -> Vec<&'static str> {
        all.of(namespace, &host.parse().expect("valid")).map(|one| one.0).collect()
    }

    #[test]
    fn a_host_is_found_by_its_name_and_by_each_wildcard_that_covers_it_in_order() {
        let names = ["*.example.com", "a.b.example.com", "*", "*.com", "*.b.example.com", "b.example.com", "*.org"];
        let all: ByHost<One> = names.into_iter().map(|name| One(name, None)).collect();
        let expected = ["*.example.com", "a.b.example.com", "*", "*.com", "*.b.example.com"];
        assert_eq!(found(&all, "shop", "a.b.example.com"), expected);
        assert_eq!(found(&all, "shop", "example.com"), ["*", "*.com"]);
        assert_eq!(found(&all, "shop", "*.b.example.com"), ["*.example.com", "*", "*.com", "*.b.example.com"]);
    }

    #[test]
    fn one_that_names_a_host_twice_is_found_once_and_where_it_counts_alone() {
        let all: ByHost<One> =
            [One("a.com *.com", Some("shop")), One("a.com", None), One("a.com", Some("other"))].into_iter().collect();
        assert_eq!(found(&all, "shop", "a.com"), ["a.com *.com", "a.com"]);
        assert_eq!(found(&all, "third", "a.com"), ["a.com"]);
    }
}
