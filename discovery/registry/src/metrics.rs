//! What the registry counts.

use federation::peer::Transition;
use model::ClusterId;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// What the registry counts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) services: Gauge,
    pub(crate) file_errors: Gauge,
    pub(crate) conflicts: Gauge,
    pub(crate) record_age: Family<Peer, Gauge>,
    pub(crate) rejected: Family<Rejection, Counter>,
    pub(crate) health: Family<Health, Gauge>,
    pub(crate) transitions: Family<Change, Counter>,
    pub(crate) lag: Histogram,
}

/// The label of a metric about a peer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Peer {
    pub(crate) cluster: String,
}

/// The labels of a refused record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Rejection {
    pub(crate) cluster: String,
    pub(crate) reason: &'static str,
}

/// The labels of a peer's health.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Health {
    pub(crate) cluster: String,
    pub(crate) health: &'static str,
}

/// The labels of a change of a peer's health.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Change {
    pub(crate) cluster: String,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
}

/// Seconds: from one poll of a fast loop to the slowest that is still service.
const LAG: [f64; 8] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

// === impl Metrics ===

impl Metrics {
    /// Adds the registry's metrics, all named `isthmus_registry_...`, to `registry`.
    pub fn register(registry: &mut prometheus_client::registry::Registry) -> Self {
        let metrics = Self {
            services: Gauge::default(),
            file_errors: Gauge::default(),
            conflicts: Gauge::default(),
            record_age: Family::default(),
            rejected: Family::default(),
            health: Family::default(),
            transitions: Family::default(),
            lag: Histogram::new(LAG),
        };
        let registry = registry.sub_registry_with_prefix("isthmus_registry");
        registry.register("services", "Services in the catalog", metrics.services.clone());
        registry.register(
            "file_errors",
            "Files that failed, and keep what they last said",
            metrics.file_errors.clone(),
        );
        registry.register("conflicts", "Contradictions between sources", metrics.conflicts.clone());
        registry.register(
            "record_age_seconds",
            "Seconds since the store last vouched for a peer's records; 0 while it is watched",
            metrics.record_age.clone(),
        );
        registry.register("rejected_records", "Records of peers that were refused", metrics.rejected.clone());
        registry.register("peer_health", "1 for the health that a peer has now", metrics.health.clone());
        registry.register("peer_transitions", "Changes of a peer's health", metrics.transitions.clone());
        registry.register("lag_seconds", "From an event's arrival to the catalog that shows it", metrics.lag.clone());
        metrics
    }

    pub(crate) fn transition(&self, cluster: &ClusterId, transition: &Transition) {
        let (cluster, from, to) = (cluster.to_string(), transition.from.as_str(), transition.to.as_str());
        self.health.get_or_create(&Health { cluster: cluster.clone(), health: from }).set(0);
        self.health.get_or_create(&Health { cluster: cluster.clone(), health: to }).set(1);
        self.transitions.get_or_create(&Change { cluster, from, to }).inc();
    }

    pub(crate) fn reject(&self, cluster: &ClusterId, reason: &'static str, count: u64) {
        self.rejected.get_or_create(&Rejection { cluster: cluster.to_string(), reason }).inc_by(count);
    }
}
