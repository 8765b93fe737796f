//! What a sidecar is started with: its limits and times.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Limits and times of a sidecar. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// Connections open at a time, both directions together; more wait in the kernel's queue. Default 20 000.
    pub max_connections: usize,
    /// Length asked for of a listening socket's queue; the kernel caps it (`net.core.somaxconn`). Default 4096.
    pub backlog: u32,
    /// The greatest TLS hello that is read, in bytes. Default 65 536.
    pub hello_bytes: usize,
    /// How long a TLS handshake may take. Default 10 000.
    pub handshake_ms: u64,
    /// How old what was read of the files of a certificate may become before they are read again. Default 10 000.
    pub files_ms: u64,
    /// The greatest head of a request or response, in bytes; less than 8192 counts as 8192. Default 65 536.
    pub header_bytes: usize,
    /// The greatest number of header fields. Default 100.
    pub headers: usize,
    /// How long a caller may take for a request's head over HTTP/1, from its first byte. Default 10 000.
    pub header_ms: u64,
    /// How long a TCP stream may carry nothing, and a connection of requests may have none; it ends after once to twice
    /// that. 0 is without end. Default 3 600 000.
    pub idle_ms: u64,
    /// How long an upstream connection waits for its next request; less than `idleMs` of the next proxy, which would
    /// close it. Default 30 000.
    pub pool_idle_ms: u64,
    /// Connections to one endpoint that wait for their next request. Default 1024.
    pub pool_idle: usize,
    /// HTTP/1 connections kept to one gateway, as far as there are requests: each ends at an endpoint of its own, and they
    /// take turns. Default 4.
    pub remote_connections: usize,
    /// Streams that a caller may have open on one HTTP/2 connection. Default 1024.
    pub streams: u32,
    /// Streams that a caller opened and reset before they were looked at; with more its HTTP/2 connection ends
    /// (ENHANCE_YOUR_CALM). Default 20.
    pub pending_resets: usize,
    /// Streams of an HTTP/2 connection that were reset for errors of the caller's; with more it ends. Default 128.
    pub error_resets: usize,
    /// HTTP/2 connections to one endpoint, opened as load asks for them. Default 4.
    pub http2_connections: usize,
    /// Requests on an HTTP/2 connection from which on another is opened. Default 64.
    pub http2_requests: usize,
    /// Bytes that a caller may send on one HTTP/2 stream before they are read. Default 262 144.
    pub stream_window: u32,
    /// The same for all streams of a connection. Default 1 048 576.
    pub connection_window: u32,
    /// Bytes of a request kept to send it again; a greater one is sent once. Default 65 536.
    pub retry_bytes: usize,
    /// Addresses outside of the mesh to which connections are kept for the next request; to more, each request has one
    /// of its own. Default 1024.
    pub passed_through: usize,
    /// Copies of requests (a route's mirrors) that may be under way at a time; more are not made. Default 1024.
    pub shadows: usize,
    /// Names that are known at once of those that are resolved when they are asked for; beyond them requests are answered
    /// 503. Default 1024.
    pub names: usize,
    /// How long requests may go on after a shutdown or a listener's removal began. Default 5000.
    pub drain_ms: u64,
    /// The buffer of each direction of a TCP stream, in bytes. Default 32 768.
    pub copy_bytes: usize,
    /// How long connecting may take where the upstream does not say. Default 10 000.
    pub connect_ms: u64,
}

/// The least buffer for a head that hyper takes.
const LEAST_HEADER_BYTES: usize = 8192;

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            backlog: 4096,
            hello_bytes: 65_536,
            handshake_ms: 10_000,
            files_ms: 10_000,
            header_bytes: 65_536,
            headers: 100,
            header_ms: 10_000,
            idle_ms: 3_600_000,
            pool_idle_ms: 30_000,
            pool_idle: 1024,
            remote_connections: 4,
            streams: 1024,
            pending_resets: 20,
            error_resets: 128,
            http2_connections: 4,
            http2_requests: 64,
            stream_window: 262_144,
            connection_window: 1_048_576,
            retry_bytes: 65_536,
            passed_through: 1024,
            shadows: 1024,
            names: 1024,
            drain_ms: 5000,
            copy_bytes: 32_768,
            connect_ms: 10_000,
        }
    }
}

impl Settings {
    pub(crate) fn handshake(&self) -> Duration {
        Duration::from_millis(self.handshake_ms)
    }

    pub(crate) fn files(&self) -> Duration {
        Duration::from_millis(self.files_ms)
    }

    pub(crate) fn header_limit(&self) -> usize {
        self.header_bytes.max(LEAST_HEADER_BYTES)
    }

    /// [`Self::header_limit`] as HTTP/2 has it.
    pub(crate) fn header_list(&self) -> u32 {
        u32::try_from(self.header_limit()).unwrap_or(u32::MAX)
    }

    pub(crate) fn header(&self) -> Duration {
        Duration::from_millis(self.header_ms)
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }

    pub(crate) fn pool_idle(&self) -> Duration {
        Duration::from_millis(self.pool_idle_ms)
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    pub(crate) fn connect(&self) -> Duration {
        Duration::from_millis(self.connect_ms)
    }
}
