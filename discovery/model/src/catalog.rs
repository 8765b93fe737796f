//! Every service of the federation as one cluster sees it.

use crate::{Cluster, ClusterId, Host, Namespace, Service, ServiceKey, TrustBundle, TrustDomain};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// What exists: the first of the five values. Replaced whole, never changed in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// The own cluster.
    pub cluster: Arc<Cluster>,
    /// All services, by host and namespace.
    pub services: BTreeMap<ServiceKey, Arc<Service>>,
    /// The other clusters.
    pub peers: BTreeMap<ClusterId, Arc<Peer>>,
    /// The own cluster's east-west gateways, by name, as they report themselves.
    pub gateways: BTreeMap<Arc<str>, Arc<Gateway>>,
    /// The roots of the own and of every peer's trust domain.
    pub bundles: BTreeMap<TrustDomain, TrustBundle>,
}

/// Another cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name, uid and trust domain.
    pub cluster: Cluster,
    /// Its gateways that are, or were last, alive: name to `host:port` addresses taking QUIC.
    pub gateways: BTreeMap<Arc<str>, Vec<String>>,
    /// What is known of its health.
    pub health: PeerHealth,
}

/// What the two signals together say of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum PeerHealth {
    /// Its liveness is being refreshed and its data path works, as far as is known.
    #[default]
    Live,
    /// The control signal is lost: still routed to.
    Suspect,
    /// The data path is lost: not routed to.
    Unreachable,
    /// Both are lost, for less than `forgetAfter`.
    Stale,
}

/// One of the own cluster's east-west gateways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Where it takes this cluster's sidecars.
    pub addresses: Vec<SocketAddr>,
    /// The state of its path to each peer.
    pub paths: BTreeMap<ClusterId, Path>,
}

/// A gateway's path to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Path {
    /// Not tried yet.
    #[default]
    Unknown,
    /// A tunnel is up.
    Connected,
    /// No gateway of the peer answers.
    Unreachable,
}

impl Catalog {
    /// An empty catalog of `cluster`.
    pub fn new(cluster: Cluster) -> Self {
        Self {
            cluster: Arc::new(cluster),
            services: BTreeMap::new(),
            peers: BTreeMap::new(),
            gateways: BTreeMap::new(),
            bundles: BTreeMap::new(),
        }
    }

    /// The services declared for `host`, in all namespaces.
    pub fn by_host<'a>(&'a self, host: &'a Host) -> impl Iterator<Item = &'a Arc<Service>> {
        let first = ServiceKey { host: host.clone(), namespace: Namespace::first() };
        self.services.range(first..).take_while(move |(key, _)| key.host == *host).map(|(_, service)| service)
    }
}

impl Peer {
    /// Whether requests may be sent to this peer.
    pub fn is_routable(&self) -> bool {
        matches!(self.health, PeerHealth::Live | PeerHealth::Suspect)
    }
}
