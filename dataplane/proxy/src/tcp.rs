//! Bytes: from a caller to an endpoint and back, each direction ended as it was ended there.

use crate::connect::{Connected, connect};
use crate::destination::{Between, Destination};
use crate::dynamic::Asked;
use crate::exchange::Busy;
use crate::shared::Shared;
use crate::stream::Stream;
use crate::taken::Taken;
use crate::telemetry::Bytes;
use crate::{ProxyError, tunnel};
use model::WorkloadIdentity;
use prometheus_client::metrics::counter::Counter;
use routing::{Direction, Report, StreamHandler, Upstream, UseKind, Wanted};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio_util::sync::CancellationToken;

/// A connection that carries bytes.
pub(crate) struct Caller<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) direction: Direction,
    /// Where it was going.
    pub(crate) destination: SocketAddr,
    pub(crate) address: SocketAddr,
    /// Stop at once.
    pub(crate) cut: &'a CancellationToken,
    pub(crate) peer: Option<WorkloadIdentity>,
    /// The same as a text.
    pub(crate) principal: Option<String>,
    /// How it was taken.
    pub(crate) taken: &'a Taken,
    /// The server that its TLS names.
    pub(crate) server_name: Option<&'a str>,
}

/// Counts what is read, as it is read.
struct Counted<'a> {
    stream: &'a mut Stream,
    read: &'a Counter,
    total: &'a AtomicU64,
}

/// Endpoints that are tried before the caller is turned away.
const ATTEMPTS: usize = 3;

impl Caller<'_> {
    /// Brings `stream` to an endpoint of the upstream. What cannot be brought there, or breaks, is reset.
    pub(crate) async fn carry(&self, mut stream: Stream, handler: &StreamHandler) {
        let (began, name) = (Instant::now(), handler.target(rand::random()));
        let upstream = self.shared.table.load().upstreams.get(name).cloned();
        let Some(upstream) = upstream else {
            tracing::info!(target: "access", caller = %self.address, upstream = %name, flags = "NC", "connection refused");
            return stream.reset_on_close();
        };
        let Some(_place) = upstream.usage.begin(UseKind::Connection, &upstream.settings.policy.limits) else {
            tracing::info!(target: "access", caller = %self.address, upstream = %name, flags = "UO", "connection refused");
            return stream.reset_on_close();
        };
        let mut tried = Vec::new();
        let mut reason = "no endpoint is known".to_owned();
        while tried.len() < ATTEMPTS {
            let hash = handler.by_source.then(|| routing::source_hash(self.address.ip()));
            let wanted = Wanted { destination: self.destination, hash, tried: &tried, now: self.shared.now() };
            let named = self.shared.named(&upstream, self.asked(handler).as_ref());
            let Some(endpoint) = named.unwrap_or_else(|| upstream.pick(&wanted, rand::random)) else { break };
            if tried.contains(&endpoint.id) {
                break;
            }
            tried.push(endpoint.id);
            let between = Between { source: self.address, destination: self.destination };
            let destination = self.shared.destinations.of(&upstream, endpoint, between);
            match self.join(&mut stream, &upstream, &destination, handler, began).await {
                Ok(()) => return,
                Err(error) => {
                    upstream.report(&destination.endpoint, Report::Nothing, self.shared.now());
                    reason = error.to_string();
                }
            }
        }
        tracing::info!(target: "access", caller = %self.address, upstream = %name, flags = "UF", reason, "connection refused");
        stream.reset_on_close();
    }

    /// The server that it asks for, where that is resolved.
    fn asked(&self, handler: &StreamHandler) -> Option<Asked> {
        let host = self.server_name.filter(|name| !name.is_empty())?;
        Some(Asked { host: host.into(), port: Some(handler.named_port?) })
    }

    /// Connects and copies.
    ///
    /// # Errors
    /// If no connection came about; then nothing was read from the caller.
    async fn join(
        &self,
        stream: &mut Stream,
        upstream: &Upstream,
        destination: &Destination,
        handler: &StreamHandler,
        began: Instant,
    ) -> Result<(), ProxyError> {
        let busy = Busy::new(&destination.endpoint);
        let mut connected = tokio::select! {
            connected = self.reach(destination, handler) => connected?,
            () = self.cut.cancelled() => {
                stream.reset_on_close();
                return Ok(());
            }
        };
        upstream.report(&destination.endpoint, Report::Connected, self.shared.now());
        let telemetry = &self.shared.telemetry;
        let series = match self.direction {
            Direction::Outbound => {
                telemetry.outbound(&upstream.settings, Some(&destination.endpoint), connected.peer.as_ref())
            }
            Direction::Inbound => telemetry.inbound(&upstream.settings.host, self.peer.as_ref()),
        };
        let bytes = series.bytes();
        bytes.opened.inc();
        let copied = self.copy(stream, &mut connected.stream, bytes, handler).await;
        bytes.closed.inc();
        drop(busy);
        tracing::info!(
            target: "access",
            direction = match self.direction { Direction::Outbound => "outbound", Direction::Inbound => "inbound" },
            flags = if copied.outcome.is_ok() { "-" } else { "UC" },
            received = copied.received,
            sent = copied.sent,
            duration_ms = began.elapsed().as_millis(),
            caller = %self.address,
            source = series.source(),
            destination = series.destination(),
            upstream = %upstream.settings.name,
            endpoint = %destination.endpoint.facts.target,
        );
        if copied.outcome.is_err() {
            stream.reset_on_close();
            connected.stream.reset_on_close();
        }
        Ok(())
    }

    /// Connects, and has the upstream connect further if `handler` says so.
    async fn reach(&self, destination: &Destination, handler: &StreamHandler) -> Result<Connected, ProxyError> {
        let connected = connect(self.shared, destination).await?;
        match &handler.tunnel {
            None => Ok(connected),
            Some(tunnel) => tunnel::open(self.shared, destination, connected, tunnel).await,
        }
    }

    async fn copy(&self, caller: &mut Stream, upstream: &mut Stream, bytes: &Bytes, handler: &StreamHandler) -> Copied {
        let (received, sent) = (AtomicU64::new(0), AtomicU64::new(0));
        let mut caller = Counted { stream: caller, read: &bytes.received, total: &received };
        let mut upstream = Counted { stream: upstream, read: &bytes.sent, total: &sent };
        let size = self.shared.settings.copy_bytes;
        let idle = handler.idle.unwrap_or_else(|| self.shared.settings.idle());
        let moved = || received.load(Ordering::Relaxed) + sent.load(Ordering::Relaxed);
        let outcome = tokio::select! {
            copied = copy_bidirectional_with_sizes(&mut caller, &mut upstream, size, size) => copied.map(|_| ()),
            () = stillness(idle, &moved) => Err(io::ErrorKind::TimedOut.into()),
            () = lifetime(handler.longest) => Err(io::ErrorKind::TimedOut.into()),
            () = self.cut.cancelled() => Err(io::Error::other("shutting down")),
            () = self.forbidden() => Err(io::Error::other("a policy turns it away now")),
        };
        Copied { outcome, received: received.into_inner(), sent: sent.into_inner() }
    }
}

/// Returns once `longest` has passed, or never.
async fn lifetime(longest: Option<Duration>) {
    match longest {
        Some(longest) => tokio::time::sleep(longest).await,
        None => std::future::pending().await,
    }
}

/// Returns once nothing has moved for `limit` to twice that; never if it is 0.
async fn stillness(limit: Duration, moved: &impl Fn() -> u64) {
    if limit.is_zero() {
        std::future::pending::<()>().await;
    }
    let mut before = None;
    while before != Some(moved()) {
        before = Some(moved());
        tokio::time::sleep(limit).await;
    }
}

struct Copied {
    outcome: io::Result<()>,
    received: u64,
    sent: u64,
}

// === impl Counted ===

impl AsyncRead for Counted<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut *self.stream).poll_read(cx, buf))?;
        let read = (buf.filled().len() - before) as u64;
        self.read.inc_by(read);
        self.total.fetch_add(read, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}
