//! Requests: routed, delayed or refused where a route says so, forwarded.
//!
//! ```text
//! request -> made canonical -> route -> limits -> policies -> faults -> CORS
//!         -> redirect | answer | forward: fields changed, sent, copied -> response
//! ```

use crate::attempt::Answered;
use crate::body::{Kept, RequestBody, ResponseBody};
use crate::connection::Held;
use crate::destination::Between;
use crate::event::Event;
use crate::exchange::{Asked, Exchange, Sent as Passed, own_answer};
use crate::limit::Shown;
use crate::requests::Requests;
use crate::sending::{Again, Outgoing, Refusal, Sending, Sent, TIMEOUT, passed};
use crate::shadow::{self, Shadow};
use crate::shared::Shared;
use crate::telemetry::{Flag, Series};
use crate::{dynamic, headers, overrides, screen, upgrade};
use http::header::{CONNECTION, LOCATION, SET_COOKIE};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use routing::{
    Abort, Action, Answer, Context, Crossing, Direction, Fault, Forward, HttpHandler, HttpVersion, Listener,
    RetryPolicy, Route, RouteSource, RouteTarget, RoutingTable, Upstream,
};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// What is known of a connection that carries requests.
pub(crate) struct Caller {
    pub(crate) shared: Arc<Shared>,
    /// The listener as it was when it came.
    pub(crate) listener: Arc<Listener>,
    pub(crate) handler: HttpHandler,
    pub(crate) direction: Direction,
    /// Where it was going.
    pub(crate) destination: SocketAddr,
    pub(crate) address: SocketAddr,
    /// What the application is told of who it proved to be.
    pub(crate) certificate: Option<HeaderValue>,
    pub(crate) over_tls: bool,
    pub(crate) held: Held,
    /// Those that came over the connection.
    pub(crate) requests: Arc<Requests>,
    /// Who it proved to be.
    pub(crate) principal: Option<String>,
    /// The server that its TLS names; empty if none.
    pub(crate) server_name: Box<str>,
    /// What requests to the workload are counted in.
    pub(crate) inbound: Option<Arc<Series>>,
}

/// Where a request goes, and what it takes along.
struct Way<'a> {
    route: &'a Route,
    forward: &'a Forward,
    target: &'a RouteTarget,
    retries: RetryPolicy,
    timeout: Option<Duration>,
    upstream: Arc<Upstream>,
    /// Those that get a copy.
    shadows: Vec<Arc<Upstream>>,
}

impl Caller {
    /// Answers one request.
    ///
    /// # Errors
    /// Never; what goes wrong becomes an answer.
    pub(crate) async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<ResponseBody>, Infallible> {
        let is_http1 = request.version() < Version::HTTP_2;
        let asks_upgrade = screen::asks_upgrade(&request);
        let refused = screen::refusal(&request, self.shared.settings.headers);
        let ends = asks_upgrade || (is_http1 && refused.is_some());
        let mut response = match refused {
            Some((status, words)) => own_answer(status, words.to_owned()),
            None => self.answer(request).await,
        };
        if ends && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        headers::sign(response.headers_mut(), &self.handler.server);
        Ok(response)
    }

    async fn answer(&self, mut request: Request<Incoming>) -> Response<ResponseBody> {
        let (authority, path) = match self.canonical(&mut request) {
            Ok(canonical) => canonical,
            Err(words) => return own_answer(StatusCode::BAD_REQUEST, words.to_owned()),
        };
        let mut asked = self.asked(&request, authority, path);
        let mut route = self.route(&asked, request.headers());
        let (shown, refused) = self.judge(&mut asked, &mut route, request.headers_mut());
        let mut response = match (refused, route) {
            (Some(refused), _) => refused,
            (None, Some(route)) => self.take(request, asked, &route).await,
            (None, None) => self.refuse(&asked, StatusCode::NOT_FOUND, Flag::NoRoute, String::new()),
        };
        shown.add(response.headers_mut());
        response
    }

    /// What limits, tokens and policies say of a request: what its answer is told of limits, and the answer if it is
    /// refused. What its tokens say may take it another way.
    fn judge(
        &self,
        asked: &mut Asked,
        route: &mut Option<Arc<Route>>,
        headers: &mut HeaderMap,
    ) -> (Shown, Option<Response<ResponseBody>>) {
        let table = self.shared.table.load();
        let handler = self.newest(&table);
        let limited = route.as_deref().map(|route| self.admit(handler, asked, route, headers));
        let shown = match limited.unwrap_or_else(|| Ok(Shown::default())) {
            Ok(shown) => shown,
            Err(refused) => return (Shown::default(), Some(*refused)),
        };
        if let Some(refused) = self.authenticate(handler, asked, headers) {
            return (shown, Some(refused));
        }
        if asked.claims.as_ref().is_some_and(|claims| claims.reroutes) {
            *route = self.route(asked, headers);
        }
        (shown, self.authorize(handler, asked, headers))
    }

    /// Does with a request what its route says.
    async fn take(&self, request: Request<Incoming>, asked: Asked, route: &Route) -> Response<ResponseBody> {
        if let Some(fault) = &route.fault
            && let Some(refused) = self.fail(fault, &asked).await
        {
            return refused;
        }
        let crossing = route.cors.as_ref().map(|cors| (cors, cors.crossing(request.method(), request.headers())));
        let origin = match crossing {
            Some((_, Crossing::Preflight(fields))) => return self.preflight(&asked, fields),
            Some((cors, Crossing::Allowed(origin))) => Some((cors, origin)),
            _ => None,
        };
        let mut response = match &route.action {
            Action::Forward(forward) => self.forward(request, asked, route, forward).await,
            Action::Redirect(redirect) => {
                let location = route.location(redirect, &asked.view(request.headers()));
                self.local(&asked, route, redirect.status, location.parse().ok(), request.headers())
            }
            Action::Answer(answer) => self.direct(&asked, route, answer, request.headers()),
        };
        if let Some((cors, origin)) = origin {
            cors.allow(response.headers_mut(), &origin);
        }
        response
    }

    /// How requests are handled by now: a connection that is kept has the limits and the policies of its listener's newest
    /// form.
    fn newest<'a>(&'a self, table: &'a RoutingTable) -> &'a HttpHandler {
        let newest = table.listeners.get(&self.listener.name);
        let newest = newest.filter(|newest| !Arc::ptr_eq(newest, &self.listener));
        newest.and_then(|newest| newest.http(&self.handler.name)).unwrap_or(&self.handler)
    }

    fn route(&self, asked: &Asked, headers: &HeaderMap) -> Option<Arc<Route>> {
        let table = self.shared.table.load();
        let routes = match &self.handler.routes {
            RouteSource::Inline(routes) => Some(routes),
            RouteSource::Named(name) => table.routes.get(name),
        };
        routes?.route(&asked.view(headers)).cloned()
    }

    /// What goes wrong on purpose: a wait, and an answer if the request goes no further.
    async fn fail(&self, fault: &Fault, asked: &Asked) -> Option<Response<ResponseBody>> {
        if let Some(delay) = fault.delay(rand::random()) {
            tokio::time::sleep(delay).await;
        }
        let status = match fault.abort(rand::random())? {
            Abort::Http(status) => StatusCode::from_u16(status).ok()?,
            Abort::Grpc(code) => return Some(self.refuse_grpc(asked, code)),
        };
        Some(self.refuse(asked, status, Flag::Fault, "fault filter abort".into()))
    }

    fn refuse_grpc(&self, asked: &Asked, code: u16) -> Response<ResponseBody> {
        let series = self.series();
        asked.refuse_grpc(&series, code, Flag::Fault, "fault filter abort".into())
    }

    fn preflight(&self, asked: &Asked, fields: HeaderMap) -> Response<ResponseBody> {
        let mut response = asked.reply(&self.series(), StatusCode::OK, Flag::None, &[]);
        response.headers_mut().extend(fields);
        response
    }

    fn direct(&self, asked: &Asked, route: &Route, answer: &Answer, fields: &HeaderMap) -> Response<ResponseBody> {
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let mut response = if asked.is_grpc {
            let message = String::from_utf8_lossy(&answer.body).into_owned();
            asked.refuse(&self.series(), status, Flag::None, message)
        } else {
            asked.reply(&self.series(), status, Flag::None, &answer.body)
        };
        route.response.apply(response.headers_mut(), Some(fields), &self.context(asked, route));
        response
    }

    fn local(
        &self,
        asked: &Asked,
        route: &Route,
        status: u16,
        location: Option<HeaderValue>,
        fields: &HeaderMap,
    ) -> Response<ResponseBody> {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::MOVED_PERMANENTLY);
        let mut response = asked.reply(&self.series(), status, Flag::None, &[]);
        if let Some(location) = location {
            response.headers_mut().insert(LOCATION, location);
        }
        route.response.apply(response.headers_mut(), Some(fields), &self.context(asked, route));
        response
    }

    async fn forward(
        &self,
        mut request: Request<Incoming>,
        asked: Asked,
        route: &Route,
        forward: &Forward,
    ) -> Response<ResponseBody> {
        let way = match self.way(route, forward, request.headers()) {
            Ok(way) => way,
            Err(unknown) => {
                let why = format!("{unknown} is not known\n");
                let status = StatusCode::from_u16(forward.unknown).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
                return self.refuse(&asked, status, Flag::NoUpstream, why);
            }
        };
        let is_http1 = request.version() < Version::HTTP_2;
        let source = || self.remote(request.headers());
        let alike = forward.alike(&asked.view(request.headers()), source, rand::random);
        let is_websocket = headers::is_websocket(request.version(), request.headers());
        headers::complete(request.headers_mut(), self.over_tls, self.handler.makes_ids);
        let reads_request = route.response.reads_request() || way.target.response.reads_request();
        let fields = reads_request.then(|| request.headers().clone());
        let switching = is_websocket.then(|| hyper::upgrade::on(&mut request));
        let outgoing = self.outgoing(request, &asked, &way);
        let sending = Sending {
            shared: &self.shared,
            upstream: &way.upstream,
            retries: &way.retries,
            hash: alike.hash,
            asked: dynamic::Asked::of(&asked.authority),
            destination: self.destination,
            between: self.between(),
            counts_attempts: route.counts_attempts && self.direction == Direction::Outbound,
        };
        let (end, began) = (outgoing.end.clone(), Instant::now());
        let sent = match way.timeout {
            None => sending.send(outgoing).await,
            Some(limit) => tokio::select! {
                sent = sending.send(outgoing) => sent,
                () = passed(end.as_ref(), limit) => Err(Refusal {
                    status: StatusCode::GATEWAY_TIMEOUT,
                    flag: Flag::Timeout,
                    reason: TIMEOUT.to_owned(),
                }),
            },
        };
        let took = began.elapsed();
        match sent {
            Ok(sent) => {
                // The time runs from the request's end; while that is not there, nobody knows how long there is.
                let ended = end.as_ref().map_or(Some(began), Event::when);
                let deadline = way.timeout.zip(ended).map(|(limit, ended)| ended + limit);
                let mut response = self.respond(asked, sent, switching, &way, fields.as_ref(), deadline);
                if response.status() != StatusCode::SWITCHING_PROTOCOLS && !self.handler.is_terse {
                    headers::tell_time(response.headers_mut(), took);
                }
                if let Some(cookie) = alike.cookie.and_then(|cookie| cookie.parse().ok()) {
                    response.headers_mut().append(SET_COOKIE, cookie);
                }
                response
            }
            Err(Refusal { status, flag, reason }) => {
                let series = self.inbound.clone();
                let of_upstream = || self.shared.telemetry.outbound(&way.upstream.settings, None, None);
                let series = series.unwrap_or_else(of_upstream);
                let mut response = asked.refuse(&series, status, flag, reason);
                if flag == Flag::DownstreamProtocol && is_http1 {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                if flag == Flag::Overflow && !self.handler.is_terse {
                    response.headers_mut().insert(headers::OVERLOADED, HeaderValue::from_static("true"));
                }
                response
            }
        }
    }

    /// Where a request goes that takes `route`.
    ///
    /// # Errors
    /// The name of the upstream, if it is not known.
    fn way<'a>(&self, route: &'a Route, forward: &'a Forward, fields: &HeaderMap) -> Result<Way<'a>, Arc<str>> {
        let target = forward.target(rand::random());
        let table = self.shared.table.load();
        let upstream = table.upstreams.get(&target.upstream).cloned().ok_or_else(|| target.upstream.clone())?;
        let mirrors = forward.mirrors(rand::random);
        let shadows = mirrors.filter_map(|name| table.upstreams.get(name).cloned()).collect();
        let (mut retries, mut timeout) = (forward.retries.clone(), forward.timeout);
        if self.direction == Direction::Outbound {
            overrides::apply(fields, &mut retries, &mut timeout);
        }
        Ok(Way { route, forward, target, retries, timeout, upstream, shadows })
    }

    fn respond(
        &self,
        asked: Asked,
        sent: Sent,
        switching: Option<hyper::upgrade::OnUpgrade>,
        way: &Way<'_>,
        fields: Option<&HeaderMap>,
        deadline: Option<Instant>,
    ) -> Response<ResponseBody> {
        let Sent { answered, destination, flag, place } = sent;
        let Answered { mut response, carrier, series, busy } = answered;
        let series = self.inbound.clone().unwrap_or(series);
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if switches && switching.is_none() {
            let why = "the upstream switched protocols unasked\n".into();
            return asked.refuse(&series, StatusCode::BAD_GATEWAY, Flag::UpstreamReset, why);
        }
        // The version is each hop's own (RFC 9110, section 6.2); the caller's connection lowers it where it must.
        *response.version_mut() = Version::HTTP_11;
        headers::strip_hop_by_hop(response.headers_mut(), switches);
        let context = self.context(&asked, way.route);
        way.target.response.apply(response.headers_mut(), fields, &context);
        way.route.response.apply(response.headers_mut(), fields, &context);
        let mut exchange = Exchange::new(self.shared.clone(), asked, series, destination, carrier, busy.with(place));
        exchange.flagged(flag);
        match switching {
            Some(caller) if switches => {
                exchange.head(response.status(), response.headers());
                let upstream = hyper::upgrade::on(&mut response);
                upgrade::join(&self.shared, self.held.clone(), caller, upstream, exchange);
                response.map(|_| ResponseBody::Own(None))
            }
            _ => exchange.answer(response, deadline),
        }
    }

    fn asked(&self, request: &Request<Incoming>, authority: Authority, path: PathAndQuery) -> Asked {
        let sent = match request.body().size_hint().exact() {
            Some(bytes) => Passed::Known(bytes),
            None => Passed::Passing(Arc::new(AtomicU64::new(0))),
        };
        Asked {
            began: Instant::now(),
            direction: self.direction,
            caller: self.address,
            method: request.method().clone(),
            scheme: headers::scheme(request, self.over_tls),
            authority,
            path,
            version: request.version(),
            is_grpc: headers::is_grpc(request.headers()),
            claims: None,
            token_refusal: None,
            verdict: None,
            sent,
            _under_way: self.requests.begin(),
        }
    }

    pub(crate) fn context<'a>(&self, asked: &'a Asked, route: &'a Route) -> Context<'a> {
        Context {
            line: (asked.method.as_str(), asked.authority.as_str(), asked.path.as_str()),
            remote: self.address,
            local: self.destination,
            protocol: if asked.version == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" },
            route: &route.name,
        }
    }

    /// The request as the upstream gets it. It can be made again if it has no body, or if its body is kept: that of
    /// gRPC, of a route that tries again after answers, and of one that is copied.
    fn outgoing(&self, request: Request<Incoming>, asked: &Asked, way: &Way<'_>) -> Outgoing {
        let (mut head, body) = request.into_parts();
        let is_http2 = match way.upstream.settings.http {
            HttpVersion::Http1 => false,
            HttpVersion::Http2 => true,
            HttpVersion::AsAsked => head.version == Version::HTTP_2,
        };
        let context = self.context(asked, way.route);
        way.target.request.apply(&mut head.headers, None, &context);
        way.route.request.apply(&mut head.headers, None, &context);
        let is_terse = self.handler.is_terse;
        headers::expect_within(&mut head.headers, way.timeout.filter(|_| !is_terse));
        let authority = way.forward.authority(way.target).and_then(|text| text.parse().ok());
        let authority = authority.unwrap_or_else(|| asked.authority.clone());
        let path = way.route.rewritten(asked.path.as_str()).and_then(|text| text.parse().ok());
        if path.is_some() && !is_terse {
            headers::remember_path(&mut head.headers, &asked.path);
        }
        let path = path.unwrap_or_else(|| asked.path.clone());
        headers::address(&mut head, &authority, &path, is_http2);
        let retries = way.retries.attempts > 0;
        if body.is_end_stream() {
            self.shadow(way, &head, &authority, &path, None);
            let again = retries.then(|| Again { head: head.clone(), body: None });
            return Outgoing { request: Request::from_parts(head, RequestBody::Empty), again, end: None };
        }
        let (end, cause) = Event::new();
        let is_kept = !way.shadows.is_empty() || (retries && (asked.is_grpc || way.retries.looks_at_answers()));
        if is_kept {
            let kept = Kept::new(body, self.shared.settings.retry_bytes, Some(cause));
            self.shadow(way, &head, &authority, &path, Some(&kept));
            let again = retries.then(|| Again { head: head.clone(), body: Some(kept.repeat()) });
            return Outgoing { request: Request::from_parts(head, RequestBody::Kept(kept)), again, end: Some(end) };
        }
        let passed = match &asked.sent {
            Passed::Known(_) => None,
            Passed::Passing(passed) => Some(passed.clone()),
        };
        let body = RequestBody::Streaming { body, passed, end: Some(cause) };
        Outgoing { request: Request::from_parts(head, body), again: None, end: Some(end) }
    }

    /// Sends the copies that the route wants.
    fn shadow(
        &self,
        way: &Way<'_>,
        head: &http::request::Parts,
        authority: &Authority,
        path: &PathAndQuery,
        body: Option<&Kept>,
    ) {
        for upstream in &way.shadows {
            let mut head = head.clone();
            let is_http2 = match upstream.settings.http {
                HttpVersion::Http1 => false,
                HttpVersion::Http2 => true,
                HttpVersion::AsAsked => head.version == Version::HTTP_2,
            };
            headers::address(&mut head, &shadow::authority(authority), path, is_http2);
            let body = body.map(Kept::copy);
            let (destination, between) = (self.destination, self.between());
            let shadow = Shadow { upstream: upstream.clone(), head, body, destination, between };
            shadow.send(&self.shared, way.timeout);
        }
    }

    fn between(&self) -> Between {
        Between { source: self.address, destination: self.destination }
    }

    pub(crate) fn series(&self) -> Arc<Series> {
        self.inbound.clone().unwrap_or_else(|| self.shared.telemetry.nowhere())
    }

    pub(crate) fn refuse(&self, asked: &Asked, status: StatusCode, flag: Flag, why: String) -> Response<ResponseBody> {
        asked.refuse(&self.series(), status, flag, why)
    }
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
