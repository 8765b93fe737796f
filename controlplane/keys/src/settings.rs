//! How keys are fetched. Every field has a default.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// How keys are fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// How often keys are fetched again, in seconds. Default 1200, as Istio's.
    pub refresh_seconds: u64,
    /// How long keys that can no longer be fetched are good, in seconds. Default 3600; then tokens are refused.
    pub stale_seconds: u64,
    /// How long one answer may take, in milliseconds. Default 5000.
    pub timeout_ms: u64,
    /// The longest answer, in bytes. Default 1 MiB.
    pub max_bytes: usize,
    /// The most places that are asked. Default 1000; keys of more are not known.
    pub max_places: usize,
    /// The roots of issuers' certificates, PEM. Default the system's, `/etc/ssl/certs/ca-certificates.crt`.
    pub roots: PathBuf,
    /// Addresses that may be asked though no issuer is there: loopback and link-local addresses and their like are refused
    /// otherwise, after DNS, because whoever may write a RequestAuthentication is not to reach what only this machine may.
    /// Default none.
    pub allow: Vec<IpNet>,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            refresh_seconds: 1200,
            stale_seconds: 3600,
            timeout_ms: 5000,
            max_bytes: 1 << 20,
            max_places: 1000,
            roots: "/etc/ssl/certs/ca-certificates.crt".into(),
            allow: Vec::new(),
        }
    }
}

impl Settings {
    pub(crate) fn refresh(&self) -> Duration {
        Duration::from_secs(self.refresh_seconds.max(1))
    }

    pub(crate) fn stale(&self) -> Duration {
        Duration::from_secs(self.stale_seconds)
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}
