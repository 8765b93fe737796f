//! What can happen to the registry.

use crate::address::Slot;
use crate::status::FileView;
pub(crate) use federation::offers::View as PeerView;
use model::{ClusterId, Gateway, Host, Path};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use store::Workload;

/// What can happen to the registry.
#[derive(Debug)]
pub(crate) enum Event {
    /// The files say something else.
    Files(FileView),
    /// A peer's records or liveness are different.
    Peer(ClusterId, PeerView),
    /// The store gives hosts these slots; `None` where it has nothing any more.
    Addresses(Vec<(Host, Option<Slot>)>),
    /// These workloads have registered themselves, and no others.
    Workloads(Arc<Vec<Workload>>),
}

/// What a gateway of the own cluster tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayEvent {
    /// It runs. Sent whenever anything in it changes.
    Reported {
        /// Its name.
        name: Arc<str>,
        /// Where it takes this cluster's sidecars.
        addresses: Vec<SocketAddr>,
        /// The state of its path to each peer.
        paths: BTreeMap<ClusterId, Path>,
    },
    /// It has not been heard of for too long, or said goodbye.
    Gone {
        /// Its name.
        name: Arc<str>,
    },
}

// === impl GatewayEvent ===

impl GatewayEvent {
    /// Applies the event; whether anything is different now.
    pub(crate) fn apply(self, gateways: &mut BTreeMap<Arc<str>, Arc<Gateway>>) -> bool {
        match self {
            Self::Gone { name } => gateways.remove(&name).is_some(),
            Self::Reported { name, addresses, paths } => {
                let gateway = Gateway { addresses, paths };
                if gateways.get(&name).is_some_and(|known| **known == gateway) {
                    return false;
                }
                gateways.insert(name, Arc::new(gateway));
                true
            }
        }
    }
}
