//! What the authority counts, under Istio's names.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// Istio's counters end in `_count`. As OpenMetrics counters they would end in `_count_total`, and no dashboard would
/// find them: hence gauges, which only ever grow.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub(crate) requests: Gauge,
    pub(crate) issued: Gauge,
    pub(crate) unauthenticated: Gauge,
    pub(crate) malformed: Gauge,
    pub(crate) failed: Gauge,
    pub(crate) limited: Gauge,
    expiry: Expiry,
}

/// When the root ends, in seconds since 1970; zero while unknown. What is left of it is computed at each scrape.
#[derive(Debug, Clone, Default)]
struct Expiry(Arc<AtomicU64>);

// === impl Metrics ===

impl Metrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        for (name, help, gauge) in [
            ("citadel_server_csr_count", "Certificate requests received", &metrics.requests),
            ("citadel_server_success_cert_issuance_count", "Certificates issued", &metrics.issued),
            ("citadel_server_authentication_failure_count", "Requests of nobody known", &metrics.unauthenticated),
            ("citadel_server_csr_parsing_err_count", "Requests that were not well-formed", &metrics.malformed),
            ("citadel_server_csr_sign_err_count", "Requests that could not be signed", &metrics.failed),
            ("isthmus_ca_rate_limited_count", "Requests above their sender's rate", &metrics.limited),
        ] {
            registry.register(name, help, gauge.clone());
        }
        registry.register_collector(Box::new(metrics.expiry.clone()));
        metrics
    }

    pub(crate) fn set_root_expiry(&self, not_after: SystemTime) {
        self.expiry.0.store(seconds(not_after), Ordering::Relaxed);
    }
}

// === impl Expiry ===

impl Collector for Expiry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let end = self.0.load(Ordering::Relaxed);
        if end == 0 {
            return Ok(());
        }
        let left = end.cast_signed() - seconds(SystemTime::now()).cast_signed();
        for (name, help, value) in [
            ("citadel_server_root_cert_expiry_timestamp", "When the root expires, since 1970", end.cast_signed()),
            ("citadel_server_root_cert_expiry_seconds", "The time that the root has left", left),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)?;
        }
        Ok(())
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
