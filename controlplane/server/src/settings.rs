//! How a control plane behaves. Every field has a default.

use identity::grpc::IncomingSettings;
use serde::{Deserialize, Serialize};
use xds::ServerSettings;

/// How a control plane behaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// How long changes are gathered before they are pushed.
    pub debounce: DebounceSettings,
    /// How many proxies' resources are translated at once. Default 2.
    pub translations: usize,
    /// How long proxies are told to wait, after a start, for the peers' records to be read once and for a gateway's first
    /// report, in milliseconds: so that a restart takes nothing remote away from proxies that have it. Default 5000.
    pub settle_ms: u64,
    /// How long the control plane's own certificate lives, in seconds; it is renewed at half of that. Default 24 h.
    pub certificate_seconds: u64,
    /// How long open requests may take at shutdown, in milliseconds. Default 5000.
    pub drain_ms: u64,
    /// What proxies may ask.
    pub xds: ServerSettings,
    /// What gateways may report.
    pub reports: ReportSettings,
    /// How workloads register themselves.
    pub registration: RegistrationSettings,
    /// How the keys of tokens are fetched.
    pub keys: keys::Settings,
    /// Limits of the listening socket.
    pub incoming: IncomingSettings,
}

/// How long changes are gathered before they are pushed. A push comes when nothing more has happened for `quiet`, and at
/// the latest `max` after the first change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct DebounceSettings {
    /// For configuration, in milliseconds. Default 100.
    pub configuration_quiet_ms: u64,
    /// For configuration, in milliseconds. Default 1000.
    pub configuration_max_ms: u64,
    /// For endpoints, withdrawals and health, in milliseconds. Default 10.
    pub endpoints_quiet_ms: u64,
    /// For endpoints, withdrawals and health, in milliseconds. Default 100.
    pub endpoints_max_ms: u64,
}

/// What gateways may report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ReportSettings {
    /// How long a gateway counts as running after its stream ended, in milliseconds. Default 5000.
    pub grace_ms: u64,
    /// The greatest report, in bytes. Default 1 MiB.
    pub max_message_bytes: usize,
    /// The most gateways. Default 64.
    pub max_gateways: usize,
    /// The most addresses of one gateway. Default 16.
    pub max_addresses: usize,
    /// The most peers in one report. Default 4096.
    pub max_peers: usize,
}

/// How workloads register themselves as members of WorkloadGroups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RegistrationSettings {
    /// How long a workload stays registered once it is connected to no control plane, in milliseconds. Default 10 000.
    pub grace_ms: u64,
    /// How long a workload stays registered whose control plane is gone without a word, or that the store lost, in
    /// milliseconds. Default 60 000.
    pub orphan_ms: u64,
    /// The most workloads that are registered with one control plane. Default 10 000.
    pub max_workloads: usize,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            debounce: DebounceSettings::default(),
            translations: 2,
            settle_ms: 5000,
            certificate_seconds: 86_400,
            drain_ms: 5000,
            xds: ServerSettings::default(),
            reports: ReportSettings::default(),
            registration: RegistrationSettings::default(),
            keys: keys::Settings::default(),
            incoming: IncomingSettings::default(),
        }
    }
}

// === impl DebounceSettings ===

impl Default for DebounceSettings {
    fn default() -> Self {
        Self { configuration_quiet_ms: 100, configuration_max_ms: 1000, endpoints_quiet_ms: 10, endpoints_max_ms: 100 }
    }
}

// === impl RegistrationSettings ===

impl Default for RegistrationSettings {
    fn default() -> Self {
        Self { grace_ms: 10_000, orphan_ms: 60_000, max_workloads: 10_000 }
    }
}

// === impl ReportSettings ===

impl Default for ReportSettings {
    fn default() -> Self {
        Self { grace_ms: 5000, max_message_bytes: 1 << 20, max_gateways: 64, max_addresses: 16, max_peers: 4096 }
    }
}
