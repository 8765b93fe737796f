//! What all proxies' resources are made of, at one moment; and how urgent a change of it is.

use config::Intent;
use model::{Catalog, Service};
use std::sync::Arc;
use translate::Change;

/// What all proxies' resources are made of. Replaced whole, never changed in place.
#[derive(Debug)]
pub(crate) struct World {
    /// Greater than that of every world before.
    pub(crate) generation: u64,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) intent: Arc<Intent>,
    /// What makes it different from the one before, whose generation is one less.
    pub(crate) change: Change,
}

// === impl World ===

impl World {
    /// The first one.
    pub(crate) fn new(catalog: Arc<Catalog>, intent: Arc<Intent>) -> Self {
        Self { generation: 1, catalog, intent, change: Change::whole() }
    }

    /// The one that follows.
    pub(crate) fn next(&self, catalog: Arc<Catalog>, intent: Arc<Intent>) -> Self {
        let is_same_intent = Arc::ptr_eq(&self.intent, &intent);
        let change = if is_same_intent { Change::between(&self.catalog, &catalog) } else { Change::whole() };
        Self { generation: self.generation + 1, catalog, intent, change }
    }
}

/// How soon a change should reach the proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Somebody wrote something: more is likely to follow.
    Configuration,
    /// Something came, went or broke: every moment counts.
    Endpoints,
}

/// How urgent the step from `old` to `new` is: only endpoints, offers, gateways, health and withdrawals hurry.
pub(crate) fn urgency(old: &Catalog, new: &Catalog) -> Urgency {
    let is_known = |service: &Service| {
        let before = old.services.get(&service.key);
        before.is_some_and(|before| is_same_but_for_endpoints(before, service))
    };
    let same_bundles = old.bundles == new.bundles;
    if same_bundles && new.services.values().all(|service| is_known(service)) {
        Urgency::Endpoints
    } else {
        Urgency::Configuration
    }
}

fn is_same_but_for_endpoints(a: &Service, b: &Service) -> bool {
    std::ptr::eq(a, b)
        || (a.ports == b.ports
            && a.addresses == b.addresses
            && a.networks == b.networks
            && a.visibility == b.visibility
            && a.resolution == b.resolution
            && a.location == b.location
            && a.audience == b.audience
            && a.subject_alt_names == b.subject_alt_names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{
        Address, Cluster, Endpoint, Gateway, Locality, Location, NetworkId, Port, Protocol, Resolution, ServiceKey,
    };
    use std::collections::BTreeMap;

    fn catalog(services: &[Service]) -> Catalog {
        let mut catalog = Catalog::new(Cluster {
            id: "east".parse().expect("valid"),
            uid: "u".parse().expect("valid"),
            trust_domain: "east".parse().expect("valid"),
        });
        catalog.services = services.iter().map(|s| (s.key.clone(), Arc::new(s.clone()))).collect();
        catalog
    }

    fn service(host: &str) -> Service {
        let key = ServiceKey { host: host.parse().expect("valid"), namespace: "shop".parse().expect("valid") };
        Service { resolution: Resolution::Static, location: Location::Internal, ..Service::new(key) }
    }

    #[test]
    fn only_what_comes_goes_or_breaks_hurries() {
        let (a, b) = (service("a.example"), service("b.example"));
        let mut more = a.clone();
        more.endpoints.push(Endpoint {
            address: Address::Ip([10, 0, 0, 1].into()),
            ports: BTreeMap::new(),
            labels: Arc::default(),
            locality: Locality::default(),
            network: NetworkId::default(),
            weight: 1,
            identity: None,
            workload: "a".into(),
            mtls: false,
        });
        let mut edited = a.clone();
        edited.ports.push(Port { number: 80, name: "http".into(), protocol: Protocol::Http, target: None });
        let old = catalog(&[a.clone(), b.clone()]);
        let mut gateway = old.clone();
        gateway.gateways.insert("g".into(), Arc::new(Gateway { addresses: vec![], paths: BTreeMap::new() }));
        assert_eq!(urgency(&old, &catalog(&[more, b.clone()])), Urgency::Endpoints);
        assert_eq!(urgency(&old, &catalog(std::slice::from_ref(&a))), Urgency::Endpoints, "a withdrawal");
        assert_eq!(urgency(&old, &gateway), Urgency::Endpoints);
        assert_eq!(urgency(&old, &catalog(&[edited, b.clone()])), Urgency::Configuration);
        assert_eq!(urgency(&old, &catalog(&[a, b, service("c.example")])), Urgency::Configuration);
    }
}
