//! MeshConfig's `defaultConfig`: what holds for all proxies (Istio's `istio.mesh.v1alpha1.ProxyConfig`).

use crate::proxy_start::{environment, workers};
use crate::{ProxyHeaders, ProxyStart, ProxyTopology};
use resource::{Field, ResourceError, Source};
use std::time::Duration;

/// What holds for all proxies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxyDefaults {
    /// How they are started.
    pub start: ProxyStart,
    /// What stands before gateways.
    pub topology: ProxyTopology,
    /// What they say of themselves.
    pub headers: ProxyHeaders,
}

const FIELDS: &[&str] =
    &["concurrency", "drainDuration", "gatewayTopology", "proxyHeaders", "proxyMetadata", "terminationDrainDuration"];
/// The shortest drain, which is also Istio's.
const LEAST_DRAIN: Duration = Duration::from_secs(1);

// === impl ProxyDefaults ===

impl ProxyDefaults {
    /// Reads what is known of `at`; everything else is warned of.
    pub(crate) fn read(at: &Field<'_>, source: &mut Source) -> Result<Self, ResourceError> {
        for (_, member) in at.members()?.into_iter().filter(|(name, _)| !FIELDS.contains(name)) {
            source.warn(&member, "not honoured");
        }
        let of = |name| at.any_field(name);
        Ok(Self {
            start: ProxyStart {
                workers: workers(&of("concurrency"))?,
                environment: environment(&of("proxyMetadata"))?,
                drain: of("drainDuration").duration(LEAST_DRAIN)?,
                last_drain: of("terminationDrainDuration").duration(LEAST_DRAIN)?,
            },
            topology: ProxyTopology::read(&of("gatewayTopology"), source)?,
            headers: ProxyHeaders::read(&of("proxyHeaders"), source)?,
        })
    }
}
