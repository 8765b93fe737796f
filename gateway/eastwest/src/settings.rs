//! What an east-west gateway is started with.

use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Addresses, limits and times of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// TCP, from this cluster's sidecars. Default 0.0.0.0:15443; Istio's port.
    pub listen: SocketAddr,
    /// Where this cluster's sidecars are told to connect. Default: `listen`.
    pub announce: Vec<SocketAddr>,
    /// UDP, from the peers' gateways. Default 0.0.0.0:15443.
    pub tunnel: SocketAddr,
    /// `HOST:PORT`s that peers are told to connect to. Default: `tunnel`.
    pub advertise: Vec<String>,
    /// Connections of sidecars at once; beyond, new ones are refused. Default 20 000.
    pub connections: usize,
    /// Streams of peers at once; beyond, new ones are refused with `OVERLOADED`. Default 20 000.
    pub streams: usize,
    /// How long a sidecar's hello may take, in milliseconds. Default 5000.
    pub hello_ms: u64,
    /// How long the first byte of an answer may take before another way is tried, in milliseconds. Default 10 000.
    pub first_byte_ms: u64,
    /// How long connecting to an endpoint may take, in milliseconds. Default 2000.
    pub connect_ms: u64,
    /// How many ways are tried for one connection. Default 4.
    pub attempts: usize,
    /// How long an endpoint that refused is passed over, in milliseconds. Default 5000.
    pub ejection_ms: u64,
    /// How long streams may go on after shutdown began, in milliseconds. Default 5000.
    pub drain_ms: u64,
    /// The labels whose values tell an exported service's groups apart. Default `version`.
    pub export_labels: Vec<String>,
    /// The life of this gateway's liveness key in the store after its last renewal, in seconds. Default 10.
    pub alive_seconds: u64,
    /// The life of the leader's key after its last renewal, in seconds: how long exports stand still when the leader
    /// dies. Default 3.
    pub leader_seconds: u64,
    /// The tunnels.
    pub tunnels: tunnel::Settings,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::UNSPECIFIED, 15443).into(),
            announce: Vec::new(),
            tunnel: (Ipv4Addr::UNSPECIFIED, 15443).into(),
            advertise: Vec::new(),
            connections: 20_000,
            streams: 20_000,
            hello_ms: 5000,
            first_byte_ms: 10_000,
            connect_ms: 2000,
            attempts: 4,
            ejection_ms: 5000,
            drain_ms: 5000,
            export_labels: vec!["version".to_owned()],
            alive_seconds: 10,
            leader_seconds: 3,
            tunnels: tunnel::Settings::default(),
        }
    }
}

impl Settings {
    pub(crate) fn hello(&self) -> Duration {
        Duration::from_millis(self.hello_ms)
    }

    pub(crate) fn first_byte(&self) -> Duration {
        Duration::from_millis(self.first_byte_ms)
    }

    pub(crate) fn connect(&self) -> Duration {
        Duration::from_millis(self.connect_ms)
    }

    pub(crate) fn ejection(&self) -> Duration {
        Duration::from_millis(self.ejection_ms)
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }
}
