//! The limits of connections and requests to a service.

use resource::{Field, ResourceError};
use std::time::Duration;

/// Limits; what is absent is not limited, or as the proxy does it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnectionPool {
    /// Connections at a time.
    pub max_connections: Option<u32>,
    /// How long connecting may take.
    pub connect_timeout: Option<Duration>,
    /// How connections are probed.
    pub keepalive: Option<Keepalive>,
    /// How long a connection may last.
    pub max_connection_duration: Option<Duration>,
    /// How long a stream of bytes may carry nothing; for ever if 0.
    pub tcp_idle_timeout: Option<Duration>,
    /// Requests that wait for a connection.
    pub max_pending_requests: Option<u32>,
    /// Requests at a time.
    pub max_requests: Option<u32>,
    /// Requests in the life of a connection.
    pub max_requests_per_connection: Option<u32>,
    /// Retries at a time.
    pub max_retries: Option<u32>,
    /// How long a connection waits for its next request.
    pub http_idle_timeout: Option<Duration>,
    /// Whether HTTP/1.1 becomes HTTP/2.
    pub h2_upgrade: Option<bool>,
    /// Whether the upstream is spoken to as the client speaks.
    pub use_client_protocol: bool,
    /// Requests at a time on one HTTP/2 connection.
    pub max_concurrent_streams: Option<u32>,
    /// How HTTP/2 connections are probed: the interval, and how long an answer may take.
    pub http2_keepalive: Option<(Duration, Duration)>,
}

/// How a TCP connection is probed; what is absent is as the system does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keepalive {
    /// Probes without an answer before the connection is given up.
    pub probes: Option<u32>,
    /// How long it may be silent before the first probe.
    pub time: Option<Duration>,
    /// How long between probes.
    pub interval: Option<Duration>,
}

const TCP: &[&str] = &["maxConnections", "connectTimeout", "tcpKeepalive", "maxConnectionDuration", "idleTimeout"];
const HTTP: &[&str] = &[
    "http1MaxPendingRequests",
    "http2MaxRequests",
    "maxRequestsPerConnection",
    "maxRetries",
    "idleTimeout",
    "h2UpgradePolicy",
    "useClientProtocol",
    "maxConcurrentStreams",
    "http2KeepAlive",
];
const LEAST: Duration = Duration::from_millis(1);
const GREATEST: u32 = i32::MAX as u32;

// === impl ConnectionPool ===

impl ConnectionPool {
    pub(crate) fn read(at: &Field<'_>) -> Result<Option<Self>, ResourceError> {
        if !at.is_present() {
            return Ok(None);
        }
        let fields = at.fields(&["tcp", "http"])?;
        let (tcp, http) = (fields.get("tcp").fields(TCP)?, fields.get("http").fields(HTTP)?);
        // 0 is what Istio's resources have where nothing is said.
        let count = |at: Field<'_>| -> Result<Option<u32>, ResourceError> {
            Ok(at.integer(0..=GREATEST, "a number, 0 to 2147483647; 0 is no limit")?.filter(|count| *count != 0))
        };
        let connect = tcp.get("connectTimeout");
        if connect.duration(LEAST)?.is_some_and(|time| time.subsec_nanos() % 1_000_000 != 0) {
            return Err(connect.refuse("whole milliseconds"));
        }
        let h2_upgrade = upgrade(&http.get("h2UpgradePolicy"))?;
        let use_client_protocol = http.get("useClientProtocol").boolean()?.unwrap_or_default();
        if use_client_protocol && h2_upgrade == Some(true) {
            return Err(http.get("useClientProtocol").refuse("false beside the h2UpgradePolicy UPGRADE"));
        }
        Ok(Some(Self {
            max_connections: count(tcp.get("maxConnections"))?,
            connect_timeout: connect.duration(LEAST)?,
            keepalive: keepalive(&tcp.get("tcpKeepalive"))?,
            max_connection_duration: tcp.get("maxConnectionDuration").duration(LEAST)?,
            tcp_idle_timeout: tcp.get("idleTimeout").duration(Duration::ZERO)?,
            max_pending_requests: count(http.get("http1MaxPendingRequests"))?,
            max_requests: count(http.get("http2MaxRequests"))?,
            max_requests_per_connection: count(http.get("maxRequestsPerConnection"))?,
            max_retries: count(http.get("maxRetries"))?,
            http_idle_timeout: http.get("idleTimeout").duration(LEAST)?,
            h2_upgrade,
            use_client_protocol,
            max_concurrent_streams: count(http.get("maxConcurrentStreams"))?,
            http2_keepalive: http2_keepalive(&http.get("http2KeepAlive"))?,
        }))
    }
}

fn upgrade(at: &Field<'_>) -> Result<Option<bool>, ResourceError> {
    match at.text()? {
        None | Some("DEFAULT") => Ok(None),
        Some("UPGRADE") => Ok(Some(true)),
        Some("DO_NOT_UPGRADE") => Ok(Some(false)),
        Some(_) => Err(at.refuse("DEFAULT, DO_NOT_UPGRADE or UPGRADE")),
    }
}

pub(crate) fn keepalive(at: &Field<'_>) -> Result<Option<Keepalive>, ResourceError> {
    if !at.is_present() {
        return Ok(None);
    }
    let fields = at.fields(&["probes", "time", "interval"])?;
    let probes = fields.get("probes").integer(0..=127, "a number of probes, 0 to 127 (tcp(7))")?;
    let time = |name: &str| fields.get(name).duration(LEAST);
    Ok(Some(Keepalive { probes: probes.filter(|n| *n != 0), time: time("time")?, interval: time("interval")? }))
}

fn http2_keepalive(at: &Field<'_>) -> Result<Option<(Duration, Duration)>, ResourceError> {
    if !at.is_present() {
        return Ok(None);
    }
    let fields = at.fields(&["interval", "timeout"])?;
    let time = |name: &str| -> Result<Duration, ResourceError> {
        let field = fields.get(name);
        field.duration(LEAST)?.ok_or_else(|| field.refuse("a time such as 30s; this field is required"))
    };
    Ok(Some((time("interval")?, time("timeout")?)))
}
