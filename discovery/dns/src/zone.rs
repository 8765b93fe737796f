//! The names of the mesh and their addresses, as one proxy sees them. Pure and immutable.

use model::{Host, Namespace};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// One entry of the name table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The full name, perhaps a wildcard.
    pub host: Host,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// A Kubernetes service's name; none for other hosts.
    pub shortname: Option<String>,
    /// A Kubernetes service's namespace; none for other hosts.
    pub namespace: Option<Namespace>,
}

/// All names, ready to be looked up.
#[derive(Debug, Default)]
pub struct Zone {
    /// Hosts and their short forms.
    names: HashMap<Box<str>, Arc<Addresses>>,
    /// Wildcards, without their `*.`.
    wildcards: HashMap<Box<str>, Arc<Addresses>>,
    /// The first domain of the search list, with a leading dot: `.NAMESPACE.svc.DOMAIN`.
    search: Box<str>,
}

/// A name's addresses, by family.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) v4: Vec<Ipv4Addr>,
    pub(crate) v6: Vec<Ipv6Addr>,
}

/// A name that was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    /// Its addresses.
    pub(crate) addresses: &'a Addresses,
    /// The name without the search domain that a stub resolver appended.
    pub(crate) canonical: Option<&'a str>,
}

// === impl Zone ===

impl Zone {
    /// A zone as a proxy in `namespace` sees it, in a Kubernetes cluster with this `domain` (`cluster.local`).
    ///
    /// A service NAME of namespace NS is known as its host, as NAME.NS and NAME.NS.svc, and in its own namespace as
    /// NAME. Each is known, too, with the first domain of the search list behind it, because stub resolvers ask for
    /// that first. A host goes before a short form; of two equal short forms the first stays.
    pub fn new(entries: impl IntoIterator<Item = Entry>, namespace: &Namespace, domain: &str) -> Self {
        let mut zone = Self { search: format!(".{namespace}.svc.{domain}").into(), ..Self::default() };
        let mut short = Vec::new();
        for entry in entries {
            let addresses = Arc::new(Addresses::new(&entry.addresses));
            short.extend(short_names(&entry, namespace).map(|name| (name, addresses.clone())));
            let host = entry.host.as_str();
            match host.strip_prefix("*.") {
                Some(suffix) => zone.wildcards.insert(suffix.into(), addresses),
                None => zone.names.insert(host.into(), addresses),
            };
        }
        for (name, addresses) in short {
            zone.names.entry(name.into()).or_insert(addresses);
        }
        zone
    }

    /// How many names and wildcards there are.
    pub fn len(&self) -> usize {
        self.names.len() + self.wildcards.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks up a name in lower case, without the dot at its end.
    pub(crate) fn find<'a>(&'a self, name: &'a str) -> Option<Found<'a>> {
        if let Some(addresses) = self.names.get(name) {
            return Some(Found { addresses, canonical: None });
        }
        if let Some(asked) = name.strip_suffix(&*self.search)
            && let Some(addresses) = self.names.get(asked)
        {
            return Some(Found { addresses, canonical: Some(asked) });
        }
        let parents = name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
        let addresses = parents.into_iter().find_map(|parent| self.wildcards.get(parent))?;
        Some(Found { addresses, canonical: None })
    }
}

fn short_names<'a>(entry: &'a Entry, namespace: &'a Namespace) -> impl Iterator<Item = String> + 'a {
    let named = entry.shortname.as_deref().zip(entry.namespace.as_ref());
    named.into_iter().flat_map(move |(name, of)| {
        let name = name.to_ascii_lowercase();
        let own = (of == namespace).then(|| name.clone());
        [format!("{name}.{of}"), format!("{name}.{of}.svc")].into_iter().chain(own)
    })
}

// === impl Addresses ===

impl Addresses {
    fn new(addresses: &[IpAddr]) -> Self {
        let mut sorted = Self::default();
        for address in addresses {
            match address {
                IpAddr::V4(v4) => sorted.v4.push(*v4),
                IpAddr::V6(v6) => sorted.v6.push(*v6),
            }
        }
        sorted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(host: &str, address: &str, kubernetes: Option<(&str, &str)>) -> Entry {
        Entry {
            host: host.parse().expect("valid"),
            addresses: vec![address.parse().expect("valid")],
            shortname: kubernetes.map(|(name, _)| name.into()),
            namespace: kubernetes.map(|(_, namespace)| namespace.parse().expect("valid")),
        }
    }

    fn zone() -> Zone {
        let entries = [
            entry("reviews.bookinfo.svc.cluster.local", "10.0.0.1", Some(("reviews", "bookinfo"))),
            entry("ratings.other.svc.cluster.local", "10.0.0.2", Some(("ratings", "other"))),
            entry("api.example.com", "10.0.0.3", None),
            entry("*.example.com", "10.0.0.4", None),
            entry("*.deep.example.com", "10.0.0.5", None),
            entry("reviews.bookinfo", "10.0.0.6", None),
        ];
        Zone::new(entries, &"bookinfo".parse().expect("valid"), "cluster.local")
    }

    #[test]
    fn names_are_found_in_all_their_forms() {
        let zone = zone();
        let table = [
            ("reviews.bookinfo.svc.cluster.local", Some("10.0.0.1")),
            ("reviews.bookinfo.svc", Some("10.0.0.1")),
            ("reviews", Some("10.0.0.1")),
            ("reviews.bookinfo", Some("10.0.0.6")), // a host goes before a short form
            ("ratings.other", Some("10.0.0.2")),
            ("ratings.other.svc", Some("10.0.0.2")),
            ("ratings", None), // another namespace's
            ("api.example.com", Some("10.0.0.3")),
            ("x.example.com", Some("10.0.0.4")),
            ("x.y.example.com", Some("10.0.0.4")),
            ("x.deep.example.com", Some("10.0.0.5")),
            ("example.com", None),
            ("badexample.com", None),
            ("reviews.bookinfo.svc.cluster.local.evil.com", None),
            ("evilreviews.bookinfo.svc.cluster.local", None),
            ("", None),
            (".", None),
        ];
        for (name, wanted) in table {
            let found = zone.find(name).map(|found| found.addresses.v4[0].to_string());
            assert_eq!(found.as_deref(), wanted, "{name:?}");
        }
    }

    #[test]
    fn what_the_search_list_makes_of_a_name_is_known() {
        let zone = zone();
        let found = zone.find("api.example.com.bookinfo.svc.cluster.local").expect("expanded");
        assert_eq!(found.canonical, Some("api.example.com"));
        let found = zone.find("ratings.other.bookinfo.svc.cluster.local").expect("expanded");
        assert_eq!(found.canonical, Some("ratings.other"));
        assert_eq!(zone.find("nobody.bookinfo.svc.cluster.local"), None);
        assert_eq!(zone.find("api.example.com.other.svc.cluster.local"), None);
        assert_eq!(zone.find(".bookinfo.svc.cluster.local"), None);
    }
}
