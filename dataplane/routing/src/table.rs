//! What a proxy knows of the mesh at one moment: immutable, replaced as a whole.

use crate::{Listener, Name, RouteTable, ServerSecret, Upstream};
use model::TrustBundle;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// The table.
#[derive(Debug, Default)]
pub struct RoutingTable {
    /// Listeners by name.
    pub listeners: BTreeMap<Arc<str>, Arc<Listener>>,
    /// Those to which connections are handed by the address that they were going to.
    pub(crate) captured: HashMap<SocketAddr, Arc<Listener>>,
    /// Routes by name.
    pub routes: HashMap<Arc<str>, Arc<RouteTable>>,
    /// Upstreams by name.
    pub upstreams: HashMap<Arc<str>, Arc<Upstream>>,
    /// The roots of each trust domain.
    pub bundles: Arc<[TrustBundle]>,
    /// What listeners show and trust beside the proxy's identity, by name.
    pub secrets: HashMap<Arc<str>, Arc<ServerSecret>>,
    /// Names for DNS.
    pub names: Arc<[Name]>,
}

// === impl RoutingTable ===

impl RoutingTable {
    /// The listener for a redirected connection that was going to `destination`: that of its address and port, or
    /// that of the port.
    pub fn captured(&self, destination: SocketAddr) -> Option<&Arc<Listener>> {
        let any = match destination.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let wildcard = SocketAddr::new(any, destination.port());
        self.captured.get(&destination).or_else(|| self.captured.get(&wildcard))
    }
}
