//! What the control plane counts, under Istio's names.

use model::Catalog;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::time::Duration;
use xds::type_url;

/// What the control plane counts. Cheap to clone.
///
/// Pushes and rejections are gauges in type and counters in meaning: the exposition format would add `_total` to a
/// counter's name, and dashboards made for Istio ask for these names.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) authority: ca::Metrics,
    pub(crate) keys: keys::Metrics,
    proxies: Gauge,
    pushes: Family<TypeLabel, Gauge>,
    rejects: Gauge,
    rejects_by_type: Family<TypeLabel, Gauge>,
    convergence: Histogram,
    services: Gauge,
}

/// The label of a metric about a resource type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabel {
    r#type: &'static str,
}

/// Seconds: from one debounce to the slowest that anybody would wait for.
const CONVERGENCE: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

// === impl Metrics ===

impl Metrics {
    /// Adds the control plane's metrics, and those of its authority, to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            authority: ca::Metrics::register(registry),
            keys: keys::Metrics::register(registry),
            proxies: Gauge::default(),
            pushes: Family::default(),
            rejects: Gauge::default(),
            rejects_by_type: Family::default(),
            convergence: Histogram::new(CONVERGENCE),
            services: Gauge::default(),
        };
        registry.register("pilot_xds", "Proxies connected", metrics.proxies.clone());
        registry.register("pilot_xds_pushes", "Pushes of changed resources, by type", metrics.pushes.clone());
        registry.register("pilot_total_xds_rejects", "Responses that proxies rejected", metrics.rejects.clone());
        registry.register(
            "isthmus_xds_rejects",
            "Responses that proxies rejected, by type",
            metrics.rejects_by_type.clone(),
        );
        registry.register(
            "pilot_proxy_convergence_time",
            "Seconds from a change to the first proxy's acknowledgement of its push, for each proxy",
            metrics.convergence.clone(),
        );
        registry.register("pilot_services", "Services known", metrics.services.clone());
        metrics
    }

    pub(crate) fn connected(&self, proxies: usize) {
        self.proxies.set(i64::try_from(proxies).unwrap_or(i64::MAX));
    }

    pub(crate) fn pushed(&self, of: &'static str) {
        self.pushes.get_or_create(&TypeLabel { r#type: short(of) }).inc();
    }

    pub(crate) fn rejected(&self, of: &'static str) {
        self.rejects.inc();
        self.rejects_by_type.get_or_create(&TypeLabel { r#type: short(of) }).inc();
    }

    pub(crate) fn converged(&self, after: Duration) {
        self.convergence.observe(after.as_secs_f64());
    }

    pub(crate) fn knows(&self, catalog: &Catalog) {
        self.services.set(i64::try_from(catalog.services.len()).unwrap_or(i64::MAX));
    }
}

/// Istio's short name of a type.
pub(crate) fn short(of: &'static str) -> &'static str {
    match of {
        type_url::CLUSTER => "cds",
        type_url::ENDPOINT => "eds",
        type_url::LISTENER => "lds",
        type_url::ROUTE => "rds",
        type_url::SECRET => "sds",
        _ => "nds",
    }
}
