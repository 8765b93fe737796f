//! Requests: routed, balanced, sent, and sent again where that is safe.
//!
//! ```text
//! request -> route -> [pick endpoint -> connection of its pool -> send] (again?) -> response, body, record
//! ```

use crate::body::{Kept, Repeat, RequestBody, ResponseBody};
use crate::destination::Destination;
use crate::exchange::{Asked, Busy, Carrier, Exchange, Sent, grpc_status, own_answer};
use crate::http2::{Found, Share};
use crate::open::{self, open_http1, open_http2};
use crate::shared::Shared;
use crate::telemetry::{Flag, Series};
use crate::{ProxyError, headers, path, upgrade};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use routing::{Action, Direction, Forward, HttpHandler, HttpVersion, RouteSource, Upstream};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// What is known of a connection that carries requests.
pub(crate) struct Caller {
    pub(crate) shared: Arc<Shared>,
    pub(crate) handler: HttpHandler,
    pub(crate) direction: Direction,
    /// Where it was going.
    pub(crate) destination: SocketAddr,
    pub(crate) address: SocketAddr,
    /// What the application is told of who it proved to be.
    pub(crate) certificate: Option<HeaderValue>,
    pub(crate) over_tls: bool,
    /// What requests to the workload are counted in.
    pub(crate) inbound: Option<Arc<Series>>,
}

/// A request that is ready to be sent, and how to make it again.
struct Outgoing {
    request: Request<RequestBody>,
    again: Option<Again>,
}

/// All of a request that its body can be sent again with.
struct Again {
    head: Parts,
    body: Option<Repeat>,
}

/// An answer, and what carries it.
struct Answered {
    response: Response<Incoming>,
    carrier: Carrier,
    series: Arc<Series>,
    busy: Busy,
}

/// Why no answer came from one endpoint.
struct Failure {
    /// The request, if not a byte of it was sent.
    request: Option<Request<RequestBody>>,
    kind: Kind,
    reason: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// No connection came about.
    Connect,
    /// The upstream said, or it is certain, that it did not begin with the request.
    Refused,
    /// A connection that had waited was gone, perhaps before the request arrived.
    Stale,
    /// The connection broke while the request was on its way.
    Reset,
}

/// How often a request is sent again because a waiting connection turned out to be gone; not counted as a retry.
const STALE_LIMIT: usize = 8;
/// The wait before an endpoint that failed is tried again, doubled each time: Envoy's 25 ms.
const BACKOFF: Duration = Duration::from_millis(25);
/// The longest wait: Envoy's, ten times the first.
const LONGEST_BACKOFF: Duration = Duration::from_millis(250);

impl Caller {
    /// Answers one request.
    ///
    /// # Errors
    /// Never; what goes wrong becomes an answer.
    pub(crate) async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        Ok(self.answer(request).await)
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Response<ResponseBody> {
        let Some(authority) = headers::authority(&request) else {
            return own_answer(StatusCode::BAD_REQUEST, "one Host is expected\n".into());
        };
        if request.method() == Method::CONNECT {
            return own_answer(StatusCode::METHOD_NOT_ALLOWED, "CONNECT is not served here\n".into());
        }
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        let path = path::normalized(&path).unwrap_or(path);
        let asked = self.asked(&request, authority, path);

        let table = self.shared.table.load();
        let routes = match &self.handler.routes {
            RouteSource::Inline(routes) => Some(routes),
            RouteSource::Named(name) => table.routes.get(name),
        };
        let action = routes.and_then(|routes| routes.route(asked.authority.as_str(), asked.path.as_str()));
        let forward = match action {
            Some(Action::Forward(forward)) => forward.clone(),
            Some(Action::Answer(status)) => {
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY);
                return self.refuse(&asked, status, Flag::NoRoute, String::new());
            }
            None => return self.refuse(&asked, StatusCode::NOT_FOUND, Flag::NoRoute, String::new()),
        };
        let Some(upstream) = table.upstreams.get(&forward.upstream).cloned() else {
            let why = format!("{} is not known\n", forward.upstream);
            return self.refuse(&asked, StatusCode::SERVICE_UNAVAILABLE, Flag::NoUpstream, why);
        };
        drop(table);

        let is_websocket = headers::is_websocket(request.version(), request.headers());
        headers::strip_hop_by_hop(request.headers_mut(), is_websocket);
        let certificate = self.certificate.as_ref().filter(|_| self.handler.sets_client_certificate);
        headers::complete(request.headers_mut(), certificate, self.over_tls);
        let switching = is_websocket.then(|| hyper::upgrade::on(&mut request));
        let outgoing = self.outgoing(request, &asked, &upstream, &forward);

        let sending = self.send(&upstream, &forward, outgoing);
        let sent = match forward.timeout {
            None => sending.await,
            Some(limit) => {
                let Ok(sent) = tokio::time::timeout(limit, sending).await else {
                    let why = format!("no answer within {limit:?}\n");
                    return self.refuse(&asked, StatusCode::GATEWAY_TIMEOUT, Flag::Timeout, why);
                };
                sent
            }
        };
        match sent {
            Ok((answered, destination)) => self.respond(asked, answered, destination, switching),
            Err((flag, reason)) => {
                let series = self.inbound.clone();
                let series = series.unwrap_or_else(|| self.shared.telemetry.outbound(&upstream.settings, None, None));
                asked.refuse(&series, StatusCode::SERVICE_UNAVAILABLE, flag, format!("{reason}\n"))
            }
        }
    }

    fn respond(
        &self,
        asked: Asked,
        answered: Answered,
        destination: Arc<Destination>,
        switching: Option<hyper::upgrade::OnUpgrade>,
    ) -> Response<ResponseBody> {
        let Answered { mut response, carrier, series, busy } = answered;
        let series = self.inbound.clone().unwrap_or(series);
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if switches && switching.is_none() {
            let why = "the upstream switched protocols unasked\n".into();
            return asked.refuse(&series, StatusCode::BAD_GATEWAY, Flag::UpstreamReset, why);
        }
        let mut exchange = Exchange::new(self.shared.clone(), asked, series, destination, carrier, busy);
        // The version is each hop's own (RFC 9110, section 6.2); the caller's connection lowers it where it must.
        *response.version_mut() = Version::HTTP_11;
        headers::strip_hop_by_hop(response.headers_mut(), switches);
        match switching {
            Some(caller) if switches => {
                exchange.head(response.status(), response.headers());
                let upstream = hyper::upgrade::on(&mut response);
                upgrade::join(&self.shared, caller, upstream, exchange);
                response.map(|_| ResponseBody::Own(None))
            }
            _ => exchange.answer(response),
        }
    }

    fn asked(&self, request: &Request<Incoming>, authority: Authority, path: PathAndQuery) -> Asked {
        let sent = match request.body().size_hint().exact() {
            Some(bytes) => Sent::Known(bytes),
            None => Sent::Passing(Arc::new(AtomicU64::new(0))),
        };
        Asked {
            began: Instant::now(),
            direction: self.direction,
            caller: self.address,
            method: request.method().clone(),
            authority,
            path,
            is_grpc: headers::is_grpc(request.headers()),
            sent,
        }
    }

    /// The request as the upstream gets it. It can be made again if it has no body, or is gRPC, whose bodies are kept.
    fn outgoing(&self, request: Request<Incoming>, asked: &Asked, upstream: &Upstream, forward: &Forward) -> Outgoing {
        let (mut head, body) = request.into_parts();
        let is_http2 = match upstream.settings.http {
            HttpVersion::Http1 => false,
            HttpVersion::Http2 => true,
            HttpVersion::AsAsked => head.version == Version::HTTP_2,
        };
        headers::address(&mut head, &asked.authority, &asked.path, is_http2);
        let retries = forward.retries.attempts > 0;
        if body.is_end_stream() {
            let again = retries.then(|| Again { head: head.clone(), body: None });
            return Outgoing { request: Request::from_parts(head, RequestBody::Empty), again };
        }
        if retries && asked.is_grpc {
            let kept = Kept::new(body, self.shared.settings.retry_bytes);
            let again = Some(Again { head: head.clone(), body: Some(kept.repeat()) });
            return Outgoing { request: Request::from_parts(head, RequestBody::Kept(kept)), again };
        }
        let passed = match &asked.sent {
            Sent::Known(_) => None,
            Sent::Passing(passed) => Some(passed.clone()),
        };
        Outgoing { request: Request::from_parts(head, RequestBody::Streaming { body, passed }), again: None }
    }

    async fn send(
        &self,
        upstream: &Upstream,
        forward: &Forward,
        outgoing: Outgoing,
    ) -> Result<(Answered, Arc<Destination>), (Flag, String)> {
        let Outgoing { mut request, again } = outgoing;
        let (mut tried, mut left, mut stale) = (Vec::new(), forward.retries.attempts, STALE_LIMIT);
        let mut backoff = BACKOFF;
        loop {
            let Some(endpoint) = upstream.pick(self.destination, &tried, self.shared.now(), rand::random) else {
                return Err((Flag::NoEndpoint, format!("{}: no endpoint is known", upstream.settings.name)));
            };
            let id = endpoint.id;
            let destination = self.shared.destinations.of(upstream, endpoint);
            match self.attempt(&destination, request).await {
                Ok(answered) => {
                    let repeat = again.as_ref().filter(|_| left > 0 && is_refused_by_grpc(&answered, forward));
                    match repeat.and_then(Again::request) {
                        Some(repeated) => request = repeated,
                        None => return Ok((answered, destination)),
                    }
                    left -= 1;
                }
                Err(failure) => {
                    let flag = if failure.kind == Kind::Connect { Flag::ConnectFailure } else { Flag::UpstreamReset };
                    let free = matches!(failure.kind, Kind::Stale | Kind::Refused) && stale > 0;
                    let may_repeat = free || (left > 0 && failure.is_retried(forward));
                    let repeated =
                        failure.request.or_else(|| again.as_ref().filter(|_| failure.kind != Kind::Reset)?.request());
                    let Some(repeated) = repeated.filter(|_| may_repeat) else {
                        return Err((flag, format!("{}: {}", upstream.settings.name, failure.reason)));
                    };
                    request = repeated;
                    if free {
                        stale -= 1;
                    } else {
                        left -= 1;
                    }
                    if failure.kind == Kind::Stale {
                        continue;
                    }
                }
            }
            if tried.contains(&id) {
                tokio::time::sleep(backoff.mul_f64(rand::random_range(0.5..1.0))).await;
                backoff = (backoff * 2).min(LONGEST_BACKOFF);
            } else {
                tried.push(id);
            }
        }
    }

    async fn attempt(
        &self,
        destination: &Arc<Destination>,
        request: Request<RequestBody>,
    ) -> Result<Answered, Failure> {
        let busy = Busy::new(&destination.endpoint);
        if request.version() == Version::HTTP_2 {
            self.attempt_http2(destination, request, busy).await
        } else {
            self.attempt_http1(destination, request, busy).await
        }
    }

    async fn attempt_http1(
        &self,
        destination: &Arc<Destination>,
        request: Request<RequestBody>,
        busy: Busy,
    ) -> Result<Answered, Failure> {
        let waiting = destination.idle();
        let had_waited = waiting.is_some();
        if had_waited {
            open::widen(&self.shared, destination);
        }
        let mut connection = match waiting {
            Some(connection) => connection,
            None => match open_http1(&self.shared, destination).await {
                Ok(connection) => connection,
                Err(error) => return Err(Failure::connect(request, &error)),
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
                    None => Kind::Reset,
                };
                Err(Failure { request, kind, reason: chain(error.error()) })
            }
        }
    }

    async fn attempt_http2(
        &self,
        destination: &Arc<Destination>,
        request: Request<RequestBody>,
        busy: Busy,
    ) -> Result<Answered, Failure> {
        let mut share = match self.share(destination).await {
            Ok(share) => share,
            Err(error) => return Err(Failure::connect(request, &error)),
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

    /// A share of an HTTP/2 connection; a new one if there is none, or if all are busy.
    async fn share(&self, destination: &Arc<Destination>) -> Result<Share, ProxyError> {
        let settings = &self.shared.settings;
        let find = || destination.http2.share(settings.http2_requests, settings.http2_connections);
        let _opening = match find() {
            Found::Room(share) => return Ok(share),
            Found::Busy(share) => match destination.http2.opening.try_lock() {
                Ok(opening) => opening,
                Err(_) => return Ok(share),
            },
            Found::Nothing => destination.http2.opening.lock().await,
        };
        if let Found::Room(share) = find() {
            return Ok(share);
        }
        open_http2(&self.shared, destination).await
    }

    fn refuse(&self, asked: &Asked, status: StatusCode, flag: Flag, why: String) -> Response<ResponseBody> {
        let series = self.inbound.clone().unwrap_or_else(|| self.shared.telemetry.nowhere());
        asked.refuse(&series, status, flag, why)
    }
}

/// Whether the upstream answered, in gRPC, that it did not do it, and the route wants that tried again.
fn is_refused_by_grpc(answered: &Answered, forward: &Forward) -> bool {
    const CANCELLED: u16 = 1;
    const UNAVAILABLE: u16 = 14;
    match grpc_status(answered.response.headers()) {
        Some(UNAVAILABLE) => forward.retries.on_unavailable,
        Some(CANCELLED) => forward.retries.on_cancelled,
        _ => false,
    }
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

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

// === impl Again ===

impl Again {
    /// The request once more; none if its body was not kept.
    fn request(&self) -> Option<Request<RequestBody>> {
        let body = match &self.body {
            None => RequestBody::Empty,
            Some(body) => RequestBody::Kept(body.again()?),
        };
        Some(Request::from_parts(self.head.clone(), body))
    }
}

// === impl Failure ===

impl Failure {
    fn connect(request: Request<RequestBody>, error: &ProxyError) -> Self {
        Self { request: Some(request), kind: Kind::Connect, reason: error.to_string() }
    }

    /// Whether the route wants this tried again.
    fn is_retried(&self, forward: &Forward) -> bool {
        match self.kind {
            Kind::Connect => forward.retries.on_connect_failure,
            Kind::Refused | Kind::Stale => forward.retries.on_refused_stream,
            Kind::Reset => false,
        }
    }
}
