//! What there is to tell about the registry's sources.

use model::{ClusterId, PeerHealth, ServiceKey};
use resource::{Position, ResourceError, Warning};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// What there is to tell.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Status {
    /// The files that failed; what they last said well is kept.
    pub file_errors: Vec<ResourceError>,
    /// What files say that is not honoured.
    pub warnings: Vec<Warning>,
    /// Where two sources contradict each other.
    pub conflicts: Vec<Conflict>,
    /// Each peer.
    pub peers: BTreeMap<ClusterId, PeerStatus>,
    /// The workloads that registered themselves, by namespace and name.
    pub workloads: Vec<WorkloadStatus>,
}

/// What there is to tell about a workload that registered itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadStatus {
    /// `NAMESPACE/NAME`.
    pub name: String,
    /// Its WorkloadGroup.
    pub group: String,
    /// Where it is.
    pub address: IpAddr,
    /// The control plane that it is, or was last, connected to.
    pub controller: String,
    /// Whether it is connected.
    pub connected: bool,
    /// Why it is no endpoint, if it is none.
    pub unhealthy: Option<String>,
}

/// What there is to tell about a peer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerStatus {
    /// Its health by both signals.
    pub health: PeerHealth,
    /// Whether the store has been read once for this peer.
    pub read: bool,
    /// Whether the store is being watched now.
    pub watched: bool,
    /// How many of its gateways are alive.
    pub gateways_alive: usize,
    /// How many services it offers.
    pub services: usize,
    /// How many seconds ago the store last vouched for its records; 0 while it is watched, absent before the first time.
    pub age_seconds: Option<u64>,
    /// Refused records, by reason, since the start.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Whether both signals have been lost for longer than `forgetAfter`: what it offered is not used.
    pub forgotten: bool,
}

/// Two sources contradict each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// About which service.
    pub service: ServiceKey,
    /// Who lost.
    pub origin: Origin,
    /// What is not used, and why.
    pub message: String,
}

/// Where something was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In a file.
    File(Position),
    /// By a peer.
    Cluster(ClusterId),
}

/// What all good files say, and what is wrong with the others.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct FileView {
    pub(crate) documents: Arc<Vec<resource::Document>>,
    pub(crate) errors: Vec<ResourceError>,
    pub(crate) warnings: Vec<Warning>,
}

// === impl Conflict ===

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::File(position) => write!(f, "{position}: {}: {}", self.service, self.message),
            Origin::Cluster(cluster) => write!(f, "cluster {cluster}: {}: {}", self.service, self.message),
        }
    }
}
