//! What the server is started with.

use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Limits, times and addresses of the DNS server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// Where to listen, over UDP and TCP. Default `127.0.0.1:15053`.
    pub listen: Vec<SocketAddr>,
    /// The resolvers to forward to. Default: those of `/etc/resolv.conf`, port 53.
    pub upstreams: Option<Vec<SocketAddr>>,
    /// The most responses kept in the cache. Default 8192.
    pub cache_entries: u64,
    /// Everything that upstreams may take, in milliseconds; then SERVFAIL. Default 4800: stub resolvers wait 5 seconds.
    pub timeout_ms: u64,
    /// How often an upstream is asked. Default 2.
    pub tries: u32,
    /// How long answers from the zone may be kept, in seconds. Default 5.
    pub ttl: u32,
    /// The most forwarded queries under way; more are answered SERVFAIL. Default 1024.
    pub max_forwarded: usize,
    /// The most TCP connections at once; more wait to be accepted. Default 256.
    pub max_connections: usize,
    /// How long a TCP connection may be idle, or slow with one message, in milliseconds. Default 5000.
    pub idle_ms: u64,
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec![(Ipv4Addr::LOCALHOST, 15053).into()],
            upstreams: None,
            cache_entries: 8192,
            timeout_ms: 4800,
            tries: 2,
            ttl: 5,
            max_forwarded: 1024,
            max_connections: 256,
            idle_ms: 5000,
        }
    }
}

impl Settings {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }
}
