//! What is counted.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// Counters of the DNS server; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Queries received, malformed ones too.
    pub requests: Counter,
    /// Queries that went to an upstream or to its cache.
    pub forwarded: Counter,
    /// Forwarded queries that were answered SERVFAIL: upstream dead or too slow, or too many at once.
    pub failures: Counter,
}

// === impl Metrics ===

impl Metrics {
    /// Counters, registered.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("isthmus_dns_requests", "DNS queries received", metrics.requests.clone());
        registry.register("isthmus_dns_forwarded", "DNS queries forwarded", metrics.forwarded.clone());
        registry.register("isthmus_dns_failures", "Forwarded DNS queries that failed", metrics.failures.clone());
        metrics
    }
}
