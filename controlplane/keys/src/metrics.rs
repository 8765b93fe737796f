//! What is counted of fetches.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What is counted of fetches. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    fetches: Family<Labels, Counter>,
    pub(crate) unknown: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "label values are in lower case")]
enum Outcome {
    success,
    failure,
}

// === impl Metrics ===

impl Metrics {
    /// Adds them to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("isthmus_jwks_fetches", "Fetches of keys for tokens, by outcome", metrics.fetches.clone());
        let help = "Places of keys for tokens from which none are known";
        registry.register("isthmus_jwks_unknown", help, metrics.unknown.clone());
        metrics
    }

    pub(crate) fn count(&self, is_success: bool) {
        let outcome = if is_success { Outcome::success } else { Outcome::failure };
        self.fetches.get_or_create(&Labels { outcome }).inc();
    }
}
