//! What a running control plane can be asked about itself.

use crate::metrics::short;
use crate::proxies::{Proxies, Proxy};
use config::Intent;
use model::{Catalog, WorkloadIdentity};
use resource::ResourceError;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::watch;
use xds::{Snapshot, type_url};

/// What a running control plane can be asked. Cheap to clone; every answer is of the moment.
#[derive(Clone)]
pub struct State {
    pub(crate) proxies: Proxies,
    pub(crate) errors: watch::Receiver<Arc<Vec<ResourceError>>>,
}

/// One connected proxy. Prints as one line.
#[derive(Debug, Clone)]
pub struct ProxySummary {
    /// Its node id.
    pub node: String,
    /// What its certificate says.
    pub identity: WorkloadIdentity,
    /// Since when it is connected.
    pub connected: SystemTime,
    /// Whether it was told the newest world.
    pub is_current: bool,
    /// How many resources it has, by Istio's short name of the type.
    pub resources: BTreeMap<&'static str, usize>,
    /// What it rejected last, by type, and has not accepted since.
    pub rejected: BTreeMap<&'static str, String>,
}

// === impl State ===

impl State {
    /// Whether proxies are served: the peers' records have been read once, or waited for long enough.
    pub fn is_ready(&self) -> bool {
        self.proxies.is_ready()
    }

    /// What exists, as proxies are told it.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.proxies.world().catalog.clone()
    }

    /// What is wanted, as proxies are told it.
    pub fn intent(&self) -> Arc<Intent> {
        self.proxies.world().intent.clone()
    }

    /// What is wrong with the configuration; while anything is, the last good one is used.
    pub fn errors(&self) -> Arc<Vec<ResourceError>> {
        self.errors.borrow().clone()
    }

    /// The connected proxies, by node id.
    pub fn proxies(&self) -> Vec<ProxySummary> {
        let generation = self.proxies.world().generation;
        self.proxies.each(|proxy| ProxySummary::of(proxy, generation))
    }

    /// What the proxy with this node id was told.
    pub fn snapshot(&self, node: &str) -> Option<Arc<Snapshot>> {
        let told = self.proxies.each(|proxy| (proxy.node.id == node).then(|| proxy.snapshots.borrow().clone()));
        told.into_iter().flatten().next()
    }
}

// === impl ProxySummary ===

impl ProxySummary {
    fn of(proxy: &Proxy, generation: u64) -> Self {
        let snapshot = proxy.snapshots.borrow().clone();
        Self {
            node: proxy.node.id.clone(),
            identity: proxy.identity.clone(),
            connected: proxy.connected,
            is_current: proxy.generation == generation,
            resources: type_url::ORDER.into_iter().map(|of| (short(of), snapshot.get(of).len())).collect(),
            rejected: proxy.rejected.iter().map(|(of, message)| (short(of), message.clone())).collect(),
        }
    }
}

impl fmt::Display for ProxySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_current { "current" } else { "behind" };
        write!(f, "{} {} {state}", self.node, self.identity)?;
        for (of, count) in &self.resources {
            write!(f, " {of}={count}")?;
        }
        for (of, message) in &self.rejected {
            write!(f, " rejected {of}: {message:?}")?;
        }
        Ok(())
    }
}
