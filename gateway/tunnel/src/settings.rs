//! What tunnels are started with, and the quinn configuration that follows.

use crate::congestion::Congestion;
use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Limits and times of tunnels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// `auto`, `cubic` or `bbr`. Default `auto`.
    pub congestion: Congestion,
    /// Bytes that a peer may send on one stream before they are read. Default 1.25 MB.
    pub stream_window: u32,
    /// Bytes that a peer may send on all streams of a connection before they are read. Default 16 MiB.
    pub connection_window: u32,
    /// Bytes that wait for a peer's acknowledgement. Default 16 MiB.
    pub send_window: u64,
    /// Streams that a peer may have open on one connection. Default 4096.
    pub streams: u32,
    /// Handshakes under way; beyond, new ones are dropped. Default 4096.
    pub max_incoming: usize,
    /// Handshakes under way from which on a peer must first prove its address (Retry). Default 256.
    pub retry_above: usize,
    /// Size asked for of the socket's buffers, in bytes. Default 4 MiB; the kernel may grant less.
    pub socket_buffer: usize,
    /// A silent tunnel is probed this often, in milliseconds. Default 250.
    pub keep_alive_ms: u32,
    /// A tunnel that is silent for so long is closed, in milliseconds. Default 10 000.
    pub idle_ms: u32,
    /// How long opening a tunnel may take, in milliseconds. Default 5000.
    pub connect_ms: u64,
    /// How long a stream's header may take to arrive, in milliseconds. Default 2000.
    pub header_ms: u64,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            congestion: Congestion::Auto,
            stream_window: 1_250_000,
            connection_window: 16 << 20,
            send_window: 16 << 20,
            streams: 4096,
            max_incoming: 4096,
            retry_above: 256,
            socket_buffer: 4 << 20,
            keep_alive_ms: 250,
            idle_ms: 10_000,
            connect_ms: 5000,
            header_ms: 2000,
        }
    }
}

impl Settings {
    pub(crate) fn transport(&self) -> Arc<TransportConfig> {
        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(self.streams))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .stream_receive_window(VarInt::from_u32(self.stream_window))
            .receive_window(VarInt::from_u32(self.connection_window))
            .send_window(self.send_window)
            .keep_alive_interval(Some(Duration::from_millis(self.keep_alive_ms.into())))
            .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(self.idle_ms))))
            .mtu_discovery_config(Some(MtuDiscoveryConfig::default()))
            .datagram_receive_buffer_size(None)
            .congestion_controller_factory(self.congestion.factory());
        Arc::new(transport)
    }

    pub(crate) fn connect(&self) -> Duration {
        Duration::from_millis(self.connect_ms)
    }

    pub(crate) fn header(&self) -> Duration {
        Duration::from_millis(self.header_ms)
    }
}
