//! What a step from one catalog to the next means for what proxies were told.
//!
//! ```text
//! old, new -> Change: whole | services of which only the endpoints are different
//!             Change, proxy, what it was told -> their EDS, and their CDS and names if it shows -> what it is told now
//! ```
//!
//! A change is found once for all proxies. It is careful: what is not known to touch endpoints alone is whole.

use crate::cluster::Discovery;
use crate::scope::{Scope, serves_alike, visible_to};
use crate::{cluster, endpoint, names};
use config::Intent;
use model::{Address, Catalog, Endpoint, Gateway, Path, Peer, Resolution, Service, WorkloadIdentity};
use std::collections::BTreeSet;
use std::sync::Arc;
use xds::{Node, Snapshot, type_url};

/// What is different between two catalogs.
#[derive(Debug, Clone)]
pub struct Change(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// More than is listed here.
    Whole,
    /// Nothing but what stands behind these services.
    Endpoints(Vec<Touched>),
}

/// A service before and after, the same but for its endpoints and offers.
#[derive(Debug, Clone)]
pub(crate) struct Touched {
    old: Arc<Service>,
    new: Arc<Service>,
    /// Whether its upstreams may be told otherwise, beside their endpoints.
    upstreams: bool,
    /// Whether names may stand for other addresses.
    names: bool,
}

// === impl Change ===

impl Change {
    /// A change of anything.
    pub fn whole() -> Self {
        Self(Kind::Whole)
    }

    /// The step from `old` to `new`. Services that both share are passed over.
    pub fn between(old: &Catalog, new: &Catalog) -> Self {
        // Named one by one: whoever adds a field decides here what a change of it means.
        let Catalog { cluster, services, peers, gateways, bundles } = old;
        let is_alike = cluster == &new.cluster
            && bundles == &new.bundles
            && peers.len() == new.peers.len()
            && peers.iter().zip(&new.peers).all(|(a, b)| a.0 == b.0 && is_same_peer(a.1, b.1))
            && gateways.len() == new.gateways.len()
            && gateways.iter().zip(&new.gateways).all(|(a, b)| a.0 == b.0 && is_same_gateway(a.1, b.1))
            && services.len() == new.services.len();
        if !is_alike {
            return Self::whole();
        }
        let mut touched = Vec::new();
        for ((old_key, old), (new_key, new)) in services.iter().zip(&new.services) {
            if Arc::ptr_eq(old, new) {
                continue;
            }
            match (old_key == new_key).then(|| Touched::between(old, new)).flatten() {
                Some(one) => touched.push(one),
                None => return Self::whole(),
            }
        }
        Self(Kind::Endpoints(touched))
    }

    /// The services whose endpoints alone make the difference to this proxy; none if all of it must be translated.
    pub(crate) fn for_proxy(&self, node: &Node, identity: &WorkloadIdentity, intent: &Intent) -> Option<&[Touched]> {
        let Kind::Endpoints(touched) = &self.0 else { return None };
        // Where zones share requests, where the others of the proxy's own service are means something for all services.
        if intent.shares_zones && touched.iter().any(|one| one.new.key.namespace == node.namespace) {
            return None;
        }
        let is_alike = touched.iter().all(|one| serves_alike(node, identity, &one.old, &one.new));
        is_alike.then_some(touched)
    }
}

/// Whether upstreams are made anew, beside their endpoints.
pub(crate) fn renews(touched: &[Touched]) -> bool {
    touched.iter().any(|one| one.upstreams)
}

/// `before` with what `touched` makes different.
pub(crate) fn told(
    before: &Snapshot,
    touched: &[Touched],
    catalog: &Catalog,
    intent: &Intent,
    node: &Node,
    identity: &WorkloadIdentity,
) -> Snapshot {
    let hosts = touched.iter().map(|one| &one.new.key.host);
    let scope = Scope::of_hosts(catalog, intent, node, identity, hosts);
    let mut snapshot = before.clone();
    // Of several services of one host the proxy may see another than the one that is different.
    let seen = touched.iter().filter_map(|one| Some((one, scope.service(&one.new.key.host)?)));
    let seen: Vec<_> = seen.filter(|(one, service)| one.new.key == service.key).collect();
    for (one, service) in &seen {
        if one.upstreams {
            for upstream in cluster::of_service(&scope, service) {
                snapshot.insert(type_url::CLUSTER, upstream);
            }
        }
        if cluster::discovery(&scope, service) != Discovery::Eds {
            for (port, subset) in cluster::upstreams(&scope, service) {
                snapshot.remove(type_url::ENDPOINT, &cluster::upstream_name(service, port, subset));
            }
        }
        for assignment in endpoint::of_service(&scope, service) {
            snapshot.insert(type_url::ENDPOINT, assignment);
        }
        for (port, subset) in cluster::upstreams(&scope, service) {
            let name = cluster::passed_name(service, port, subset);
            if before.get(type_url::ENDPOINT).contains_key(name.as_str()) {
                snapshot.insert(type_url::ENDPOINT, endpoint::passed(&scope, name, service, port, subset));
            }
        }
    }
    // All names are one resource: it is made of all services, once.
    if seen.iter().any(|(one, _)| one.names) {
        snapshot.insert(type_url::NAME_TABLE, names::resource(&visible_to(catalog, intent, node)));
    }
    snapshot
}

/// As far as it is translated.
fn is_same_peer(old: &Arc<Peer>, new: &Arc<Peer>) -> bool {
    Arc::ptr_eq(old, new)
        || (old.is_routable() == new.is_routable() && old.cluster.trust_domain == new.cluster.trust_domain)
}

/// As far as it is translated.
fn is_same_gateway(old: &Arc<Gateway>, new: &Arc<Gateway>) -> bool {
    let lost = |gateway: &Gateway| -> Vec<_> {
        gateway.paths.iter().filter(|(_, path)| **path == Path::Unreachable).map(|(peer, _)| peer.clone()).collect()
    };
    Arc::ptr_eq(old, new) || (old.addresses == new.addresses && lost(old) == lost(new))
}

// === impl Touched ===

impl Touched {
    /// None if more than endpoints and offers is different.
    fn between(old: &Arc<Service>, new: &Arc<Service>) -> Option<Self> {
        // Named one by one: whoever adds a field decides here what a change of it means.
        let Service {
            key,
            ports,
            addresses,
            networks,
            allocates: _,
            visibility,
            resolution,
            location,
            audience: _,
            subject_alt_names,
            endpoints,
            imports,
        } = &**old;
        let is_same = key == &new.key
            && ports == &new.ports
            && addresses == &new.addresses
            && networks == &new.networks
            && visibility == &new.visibility
            && resolution == &new.resolution
            && location == &new.location
            && subject_alt_names == &new.subject_alt_names;
        // How a service is resolved may depend on its endpoints, which stand in its upstream then.
        let is_plain = *resolution == Resolution::Static && is_numbered(endpoints) && is_numbered(&new.endpoints);
        let answers_alike = imports == &new.imports && identities(endpoints) == identities(&new.endpoints);
        is_same.then(|| Self {
            old: old.clone(),
            new: new.clone(),
            upstreams: !is_plain || !answers_alike,
            names: names::addresses(old) != names::addresses(new),
        })
    }
}

fn is_numbered(endpoints: &[Endpoint]) -> bool {
    endpoints.iter().all(|endpoint| matches!(endpoint.address, Address::Ip(_)))
}

/// Who may answer.
fn identities(endpoints: &[Endpoint]) -> BTreeSet<&WorkloadIdentity> {
    endpoints.iter().filter(|endpoint| endpoint.mtls).filter_map(|endpoint| endpoint.identity.as_ref()).collect()
}
