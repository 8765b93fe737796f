//! One try of a request at one endpoint: over a connection of its pool, or one that is opened.

use crate::ProxyError;
use crate::body::RequestBody;
use crate::destination::{Connection, Destination};
use crate::exchange::{Busy, Carrier};
use crate::http::chain;
use crate::http2::{Found, Share};
use crate::open::{self, open_http1, open_http2};
use crate::shared::Shared;
use crate::telemetry::Series;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use routing::{Upstream, UseKind};
use std::sync::Arc;

/// An answer, and what carries it.
pub(crate) struct Answered {
    pub(crate) response: Response<Incoming>,
    pub(crate) carrier: Carrier,
    pub(crate) series: Arc<Series>,
    pub(crate) busy: Busy,
}

/// Why no answer came from one endpoint.
pub(crate) struct Failure {
    /// The request, if not a byte of it was sent.
    pub(crate) request: Option<Request<RequestBody>>,
    pub(crate) kind: Kind,
    pub(crate) reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No connection came about.
    Connect,
    /// The upstream said, or it is certain, that it did not begin with the request.
    Refused,
    /// A connection that had waited was gone, perhaps before the request arrived.
    Stale,
    /// The connection broke while the request was on its way.
    Reset,
    /// What came is no answer.
    Protocol,
    /// No answer came within the time of one try.
    Late,
    /// As much is under way as may be.
    Overflow,
}

/// Sends `request` to `destination`, an endpoint of `upstream`.
pub(crate) async fn attempt(
    shared: &Arc<Shared>,
    upstream: &Upstream,
    destination: &Arc<Destination>,
    request: Request<RequestBody>,
) -> Result<Answered, Failure> {
    let busy = Busy::new(&destination.endpoint);
    if request.version() == Version::HTTP_2 {
        over_http2(shared, upstream, destination, request, busy).await
    } else {
        over_http1(shared, upstream, destination, request, busy).await
    }
}

async fn over_http1(
    shared: &Arc<Shared>,
    upstream: &Upstream,
    destination: &Arc<Destination>,
    request: Request<RequestBody>,
    busy: Busy,
) -> Result<Answered, Failure> {
    let waiting = waiting(upstream, destination);
    let had_waited = waiting.is_some();
    if had_waited {
        open::widen(shared, upstream, destination);
    }
    let mut connection = match waiting {
        Some(connection) => connection,
        None => match connection(shared, upstream, destination).await {
            Ok(connection) => connection,
            Err(error) => return Err(Failure::before(request, error)),
        },
    };
    let is_idempotent = request.method().is_idempotent();
    match connection.sender.try_send_request(request).await {
        Ok(response) => {
            let series = connection.series.clone();
            Ok(Answered { response, carrier: Carrier::Http1(connection), series, busy })
        }
        Err(mut error) => {
            let request = error.take_message();
            let kind = match &request {
                Some(_) => Kind::Stale,
                None if had_waited && is_idempotent && is_silent_close(error.error()) => Kind::Stale,
                None if error.error().is_parse() => Kind::Protocol,
                None => Kind::Reset,
            };
            Err(Failure { request, kind, reason: chain(error.error()) })
        }
    }
}

/// A connection that waits. Where more are open than may be by now, those that wait are closed but for the endpoint's last.
fn waiting(upstream: &Upstream, destination: &Destination) -> Option<Connection> {
    let most = upstream.settings.policy.limits.connections;
    loop {
        let waiting = destination.idle()?;
        if upstream.usage.count(UseKind::Connection) <= most || !destination.has_several() {
            return Some(waiting);
        }
    }
}

/// A new connection, or one that becomes free while there may be no more.
async fn connection(
    shared: &Arc<Shared>,
    upstream: &Upstream,
    destination: &Arc<Destination>,
) -> Result<Connection, Option<ProxyError>> {
    let limits = &upstream.settings.policy.limits;
    let _pending = upstream.usage.begin(UseKind::Pending, limits).ok_or(None)?;
    loop {
        let freed = destination.freed.notified();
        let place = upstream.usage.begin(UseKind::Connection, limits);
        // As in Envoy each endpoint may have one connection, whatever the others have.
        let place = place.or_else(|| destination.is_unopened().then(|| upstream.usage.force(UseKind::Connection)));
        if let Some(place) = place {
            return open_http1(shared, destination, place).await.map_err(Some);
        }
        if let Some(connection) = destination.idle() {
            return Ok(connection);
        }
        freed.await;
    }
}

async fn over_http2(
    shared: &Arc<Shared>,
    upstream: &Upstream,
    destination: &Arc<Destination>,
    request: Request<RequestBody>,
    busy: Busy,
) -> Result<Answered, Failure> {
    let mut share = match share(shared, upstream, destination).await {
        Ok(share) => share,
        Err(error) => return Err(Failure::before(request, Some(error))),
    };
    match share.sender.try_send_request(request).await {
        Ok(response) => Ok(Answered { response, carrier: Carrier::Http2(share.place), series: share.series, busy }),
        Err(mut error) => {
            let request = error.take_message();
            let kind = match &request {
                Some(_) => Kind::Stale,
                None if is_refused_stream(error.error()) => Kind::Refused,
                None => Kind::Reset,
            };
            Err(Failure { request, kind, reason: chain(error.error()) })
        }
    }
}

/// A share of an HTTP/2 connection; a new one if there is none, or if all are busy and there may be more.
async fn share(shared: &Arc<Shared>, upstream: &Upstream, destination: &Arc<Destination>) -> Result<Share, ProxyError> {
    let (settings, policy) = (&shared.settings, &upstream.settings.policy);
    let streams = policy.life.streams.map_or(settings.http2_requests, |streams| streams as usize);
    let connections = if policy.life.streams.is_some() { usize::MAX } else { settings.http2_connections };
    let find = || destination.http2.share(streams, connections, &policy.life);
    let place = || upstream.usage.begin(UseKind::Connection, &policy.limits);
    let (_opening, place) = match find() {
        Found::Room(share) => return Ok(share),
        Found::Busy(share) => match destination.http2.opening.try_lock().ok().zip(place()) {
            Some(may_open) => may_open,
            None => return Ok(share),
        },
        Found::Nothing => {
            let opening = destination.http2.opening.lock().await;
            (opening, place().unwrap_or_else(|| upstream.usage.force(UseKind::Connection)))
        }
    };
    if let Found::Room(share) = find() {
        return Ok(share);
    }
    open_http2(shared, destination, place).await
}

/// Whether the connection ended without a byte of an answer.
fn is_silent_close(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.is_closed() || error.is_canceled() || io_kind(error).is_some()
}

fn io_kind(error: &hyper::Error) -> Option<std::io::ErrorKind> {
    let io = std::error::Error::source(error)?.downcast_ref::<std::io::Error>()?;
    Some(io.kind()).filter(|kind| {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        matches!(kind, BrokenPipe | ConnectionReset | UnexpectedEof)
    })
}

fn is_refused_stream(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    source.is_some_and(|error| error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

// === impl Failure ===

impl Failure {
    /// Nothing was sent, because of `error`, or because as much is under way as may be.
    fn before(request: Request<RequestBody>, error: Option<ProxyError>) -> Self {
        let (kind, reason) = match error {
            // Where it was is in the log, and no matter of the caller's.
            Some(ProxyError::Connect { source, .. }) => (Kind::Connect, source.to_string()),
            Some(ProxyError::Late { .. }) => (Kind::Connect, "connection timeout".to_owned()),
            Some(error) => (Kind::Connect, error.to_string()),
            None => (Kind::Overflow, "as many requests wait for a connection as may".to_owned()),
        };
        Self { request: Some(request), kind, reason }
    }
}
