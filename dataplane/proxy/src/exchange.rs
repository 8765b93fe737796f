//! One request and its response, from the first byte to the last: what it holds, and what is recorded of it.

use crate::authorize::Told;
use crate::body::ResponseBody;
use crate::destination::{Connection, Destination};
use crate::http2::Place;
use crate::requests::UnderWay;
use crate::sending::http_status;
use crate::shared::Shared;
use crate::telemetry::{Flag, Outcome, Series};
use crate::tokens;
use bytes::Bytes;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use hyper::body::Incoming;
use routing::{Claims, Direction, Endpoint, TokenRefusal, Use, Verdict};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::time::sleep_until;

/// What is known of a request when it comes in.
pub(crate) struct Asked {
    pub(crate) began: Instant,
    pub(crate) direction: Direction,
    pub(crate) caller: SocketAddr,
    pub(crate) method: Method,
    pub(crate) scheme: &'static str,
    pub(crate) authority: Authority,
    pub(crate) path: PathAndQuery,
    pub(crate) version: Version,
    pub(crate) is_grpc: bool,
    pub(crate) sent: Sent,
    /// What its tokens say, if any are looked at.
    pub(crate) claims: Option<Box<Claims>>,
    /// Why its tokens do not hold.
    pub(crate) token_refusal: Option<TokenRefusal>,
    /// What policies said of it, if there are any.
    pub(crate) verdict: Option<Verdict>,
    pub(crate) _under_way: UnderWay,
}

/// How many bytes the request's body has.
pub(crate) enum Sent {
    /// So many.
    Known(u64),
    /// As many as have passed.
    Passing(Arc<AtomicU64>),
}

/// What carries the request to the upstream.
pub(crate) enum Carrier {
    /// A connection for itself, which goes back when the response was read.
    Http1(Connection),
    /// A share of a connection.
    Http2(#[expect(dead_code, reason = "held, so that the request counts on its connection")] Place),
}

/// A request that counts as load of its endpoint, and as one of its upstream's, for as long as this lives.
pub(crate) struct Busy(Arc<Endpoint>, Option<Use>);

/// A request that is answered by an upstream. Whatever ends it, it is recorded once.
pub(crate) struct Exchange {
    shared: Arc<Shared>,
    asked: Asked,
    series: Arc<Series>,
    destination: Arc<Destination>,
    carrier: Option<Carrier>,
    outcome: Outcome,
    received: u64,
    recorded: bool,
    _busy: Busy,
}

// === impl Busy ===

impl Busy {
    pub(crate) fn new(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.load.begin();
        Self(endpoint.clone(), None)
    }

    /// The same, holding `place` as well.
    pub(crate) fn with(mut self, place: Use) -> Self {
        self.1 = Some(place);
        self
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.load.end();
    }
}

// === impl Exchange ===

impl Exchange {
    pub(crate) fn new(
        shared: Arc<Shared>,
        asked: Asked,
        series: Arc<Series>,
        destination: Arc<Destination>,
        carrier: Carrier,
        busy: Busy,
    ) -> Self {
        let outcome = Outcome { status: 0, flag: Flag::None, grpc: None };
        Self {
            shared,
            asked,
            series,
            destination,
            carrier: Some(carrier),
            outcome,
            received: 0,
            recorded: false,
            _busy: busy,
        }
    }

    /// It is recorded with this flag, unless something worse happens.
    pub(crate) fn flagged(&mut self, flag: Flag) {
        self.outcome.flag = flag;
    }

    /// The upstream's response, whose body carries the exchange to its end, before the deadline.
    pub(crate) fn answer(mut self, response: Response<Incoming>, deadline: Option<Instant>) -> Response<ResponseBody> {
        self.head(response.status(), response.headers());
        if hyper::body::Body::is_end_stream(response.body()) {
            self.complete();
            return response.map(|_| ResponseBody::Own(None));
        }
        let deadline = deadline.map(|deadline| Box::pin(sleep_until(deadline.into())));
        response.map(|body| ResponseBody::Upstream { body, exchange: Box::new(self), deadline })
    }

    /// The head of the response came.
    pub(crate) fn head(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.outcome.status = status.as_u16();
        self.outcome.grpc = self.asked.is_grpc.then(|| grpc_status(headers).unwrap_or(0));
    }

    /// A piece of the response's body passed.
    pub(crate) fn passed(&mut self, bytes: u64, trailers: Option<&HeaderMap>) {
        self.received += bytes;
        if let (Some(status), Some(trailers)) = (&mut self.outcome.grpc, trailers) {
            *status = grpc_status(trailers).unwrap_or(*status);
        }
    }

    /// The response was read to its end: its connection can carry the next.
    pub(crate) fn complete(&mut self) {
        if let Some(Carrier::Http1(connection)) = self.carrier.take() {
            self.destination.keep(connection, self.shared.settings.pool_idle);
        }
        self.record();
    }

    /// The upstream broke the response off.
    pub(crate) fn broken(&mut self) {
        self.outcome.flag = Flag::UpstreamReset;
        self.record();
    }

    /// It took longer than its route lets it.
    pub(crate) fn late(&mut self) {
        self.outcome.flag = Flag::Timeout;
        self.record();
    }

    fn record(&mut self) {
        if std::mem::replace(&mut self.recorded, true) {
            return;
        }
        self.asked.record(&self.series, self.outcome, self.received, Some(&self.destination));
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.recorded {
            // The caller went away before the end; a connection with half a response on it closes here.
            self.outcome.flag = Flag::DownstreamReset;
            self.record();
        }
    }
}

// === impl Asked ===

impl Asked {
    /// What a route is chosen by.
    pub(crate) fn view<'a>(&'a self, headers: &'a HeaderMap) -> routing::Asked<'a> {
        routing::Asked {
            method: &self.method,
            scheme: self.scheme,
            authority: self.authority.as_str(),
            target: self.path.as_str(),
            headers,
            metadata: self.claims.as_ref().map(|claims| &claims.metadata),
        }
    }

    /// The answer that a route gives, recorded.
    pub(crate) fn reply(&self, series: &Series, status: StatusCode, flag: Flag, body: &[u8]) -> Response<ResponseBody> {
        self.record(series, Outcome { status: status.as_u16(), flag, grpc: None }, body.len() as u64, None);
        let own = (!body.is_empty()).then(|| Bytes::copy_from_slice(body));
        let mut response = Response::new(ResponseBody::Own(own));
        *response.status_mut() = status;
        if !body.is_empty() {
            response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        }
        response
    }

    /// An answer with a gRPC status of our own, recorded; in HTTP's words for a caller who does not speak gRPC.
    pub(crate) fn refuse_grpc(&self, series: &Series, code: u16, flag: Flag, why: String) -> Response<ResponseBody> {
        if !self.is_grpc {
            let status = StatusCode::from_u16(http_status(200, Some(code))).unwrap_or(StatusCode::OK);
            return self.refuse(series, status, flag, why);
        }
        self.record(series, Outcome { status: 200, flag, grpc: Some(code) }, why.len() as u64, None);
        grpc_answer(code, &why)
    }

    /// An answer of our own, recorded.
    pub(crate) fn refuse(
        &self,
        series: &Series,
        status: StatusCode,
        flag: Flag,
        why: String,
    ) -> Response<ResponseBody> {
        let grpc = self.is_grpc.then(|| grpc_code(status));
        let outcome = Outcome { status: if grpc.is_some() { 200 } else { status.as_u16() }, flag, grpc };
        self.record(series, outcome, why.len() as u64, None);
        if self.is_grpc { grpc_answer(grpc_code(status), &why) } else { own_answer(status, why) }
    }

    fn record(&self, series: &Series, outcome: Outcome, received: u64, destination: Option<&Destination>) {
        let took = self.began.elapsed();
        let sent = self.sent.bytes();
        let told = Told::of(self.verdict.as_ref());
        series.requests(outcome).record(took, sent, received);
        tracing::info!(
            target: "access",
            direction = match self.direction { Direction::Outbound => "outbound", Direction::Inbound => "inbound" },
            method = %self.method,
            authority = %self.authority,
            path = %self.path,
            status = outcome.status,
            flags = outcome.flag.as_str(),
            details = told.details.or_else(|| self.token_refusal.map(tokens::details)),
            policy = told.policy,
            audit = told.audit,
            dry_run = told.dry_run,
            received = sent,
            sent = received,
            duration_ms = took.as_millis(),
            caller = %self.caller,
            source = series.source(),
            destination = series.destination(),
            upstream = destination.map(|destination| &*destination.settings.name),
            endpoint = destination.map(|destination| tracing::field::display(&destination.endpoint.facts.target)),
        );
    }
}

/// An answer of the proxy itself.
pub(crate) fn own_answer(status: StatusCode, text: String) -> Response<ResponseBody> {
    let body = (!text.is_empty()).then(|| Bytes::from(text));
    let mut response = Response::new(ResponseBody::Own(body));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    response
}

/// The same for a gRPC caller, who reads its status from headers without a body (gRPC over HTTP/2, Trailers-Only).
fn grpc_answer(code: u16, why: &str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Own(None));
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(code));
    if let Ok(message) = HeaderValue::from_str(why.trim()) {
        headers.insert("grpc-message", message);
    }
    response
}

/// gRPC's code for an HTTP status (the gRPC project's "HTTP to gRPC status code mapping").
fn grpc_code(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// The gRPC status in headers or trailers.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

// === impl Sent ===

impl Sent {
    fn bytes(&self) -> u64 {
        match self {
            Self::Known(bytes) => *bytes,
            Self::Passing(passed) => passed.load(Ordering::Relaxed),
        }
    }
}
