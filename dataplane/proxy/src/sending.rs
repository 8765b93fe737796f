//! A request on its way to an upstream: sent, and sent again where the route wants that and it is safe.
//!
//! ```text
//! [pick endpoint -> attempt] (again?) -> answer
//! ```

use crate::attempt::{Answered, Failure, Kind, attempt};
use crate::body::{Repeat, RequestBody};
use crate::destination::{Between, Destination};
use crate::dynamic::Asked;
use crate::event::Event;
use crate::exchange::grpc_status;
use crate::shared::Shared;
use crate::telemetry::Flag;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, StatusCode};
use routing::{Report, RetryPolicy, Upstream, Use, UseKind, Wanted};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// A request that is ready to be sent, and how to make it again.
pub(crate) struct Outgoing {
    pub(crate) request: Request<RequestBody>,
    pub(crate) again: Option<Again>,
    /// The end of its body; none if it has none.
    pub(crate) end: Option<Event>,
}

/// All of a request that its body can be sent again with.
pub(crate) struct Again {
    pub(crate) head: Parts,
    pub(crate) body: Option<Repeat>,
}

/// Where a request goes, and how often.
pub(crate) struct Sending<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) upstream: &'a Upstream,
    pub(crate) retries: &'a RetryPolicy,
    /// What the request is alike in with others.
    pub(crate) hash: Option<u64>,
    /// What it asks for.
    pub(crate) asked: Asked,
    /// Where the caller was going.
    pub(crate) destination: SocketAddr,
    /// Who asks whom, for upstreams that are told.
    pub(crate) between: Between,
    /// Whether the upstream is told how often the request was tried.
    pub(crate) counts_attempts: bool,
}

/// An answer, from whom, and with what flag it is recorded.
pub(crate) struct Sent {
    pub(crate) answered: Answered,
    pub(crate) destination: Arc<Destination>,
    pub(crate) flag: Flag,
    /// Counts the request for as long as it is under way.
    pub(crate) place: Use,
}

/// Why there is no answer.
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) flag: Flag,
    pub(crate) reason: String,
}

/// How often a request is sent again because a waiting connection turned out to be gone; not counted as a retry.
const STALE_LIMIT: usize = 8;
/// What a caller reads that was not answered in time.
pub(crate) const TIMEOUT: &str = "upstream request timeout";
const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

// === impl Sending ===

impl Sending<'_> {
    /// Sends it until an answer comes that is not to be tried again.
    pub(crate) async fn send(&self, outgoing: Outgoing) -> Result<Sent, Refusal> {
        let Outgoing { mut request, again, end } = outgoing;
        let (upstream, limits) = (self.upstream, &self.upstream.settings.policy.limits);
        let place = upstream.usage.begin(UseKind::Request, limits).ok_or_else(overflow)?;
        upstream.usage.note(limits, self.shared.now());
        let (mut tried, mut left, mut stale) = (Vec::new(), self.retries.attempts, STALE_LIMIT);
        let mut backoff = self.retries.backoff;
        let mut number: u32 = 1;
        let mut _retry: Option<Use> = None;
        loop {
            let wanted =
                Wanted { destination: self.destination, hash: self.hash, tried: &tried, now: self.shared.now() };
            let named = self.shared.named(upstream, Some(&self.asked));
            let Some(endpoint) = named.unwrap_or_else(|| upstream.pick(&wanted, rand::random)) else {
                let reason = "no healthy upstream".to_owned();
                return Err(Refusal { status: StatusCode::SERVICE_UNAVAILABLE, flag: Flag::NoEndpoint, reason });
            };
            if self.counts_attempts {
                request.headers_mut().insert(ATTEMPT_COUNT, HeaderValue::from(number));
            }
            let id = endpoint.id;
            let most = self.shared.settings.passed_through;
            let destination = self.shared.destinations.pooled(upstream, endpoint, self.between, most);
            let mut waits = true;
            match self.try_once(&destination, request, end.as_ref()).await {
                Ok(answered) => {
                    let (status, grpc) = (answered.response.status(), grpc_status(answered.response.headers()));
                    self.report(&destination, Report::Status(http_status(status.as_u16(), grpc)));
                    let wants = self.retries.wants(status.as_u16(), grpc, answered.response.headers());
                    let repeated = again.as_ref().filter(|_| wants && left > 0).and_then(Again::request);
                    let Some((repeated, retry)) = repeated.zip(self.retry()) else {
                        let exhausted = wants && self.retries.attempts > 0;
                        let flag = if exhausted { Flag::RetryLimit } else { Flag::None };
                        return Ok(Sent { answered, destination, flag, place });
                    };
                    (request, _retry) = (repeated, Some(retry));
                    left -= 1;
                }
                Err(_) if end.as_ref().is_some_and(Event::failed) => return Err(broken_request()),
                Err(failure) => {
                    if failure.kind != Kind::Stale && failure.kind != Kind::Overflow {
                        self.report(&destination, Report::Nothing);
                    }
                    let free = stale > 0 && self.is_free(&failure);
                    let retry = (!free).then(|| self.retry());
                    let may_repeat = free || (left > 0 && self.is_retried(failure.kind) && retry.is_some());
                    let refusal = self.refusal(&failure);
                    let kind = failure.kind;
                    let repeated = failure.request.or_else(|| again.as_ref()?.request());
                    let Some(repeated) = repeated.filter(|_| may_repeat) else { return Err(refusal) };
                    (request, _retry) = (repeated, retry.flatten());
                    if free {
                        stale -= 1;
                    } else {
                        left -= 1;
                    }
                    if kind == Kind::Stale {
                        continue;
                    }
                    // Another endpoint can be asked at once.
                    waits = kind != Kind::Connect;
                }
            }
            number = number.saturating_add(1);
            if tried.contains(&id) || (waits && !self.has_other(id)) {
                sleep(backoff.mul_f64(rand::random_range(0.5..1.0))).await;
                backoff = (backoff * 2).min(self.retries.longest_backoff);
            }
            self.leave_out(&mut tried, id);
        }
    }

    async fn try_once(
        &self,
        destination: &Arc<Destination>,
        request: Request<RequestBody>,
        end: Option<&Event>,
    ) -> Result<Answered, Failure> {
        let trying = attempt(self.shared, self.upstream, destination, request);
        let Some(limit) = self.retries.per_try_timeout else { return trying.await };
        tokio::select! {
            answered = trying => answered,
            () = passed(end, limit) => {
                Err(Failure { request: None, kind: Kind::Late, reason: format!("no answer within {limit:?}") })
            }
        }
    }

    /// Leave for one more retry.
    fn retry(&self) -> Option<Use> {
        self.upstream.usage.begin_retry(&self.upstream.settings.policy.limits, self.shared.now())
    }

    /// Whether it may be sent again without counting as a retry: nothing of it was looked at.
    fn is_free(&self, failure: &Failure) -> bool {
        match failure.kind {
            Kind::Refused => true,
            // If something was sent, a route that tries again after that counts it.
            Kind::Stale => failure.request.is_some() || !self.retries.wants_after(routing::Failure::Reset),
            _ => false,
        }
    }

    fn is_retried(&self, kind: Kind) -> bool {
        self.retries.wants_after(match kind {
            Kind::Connect => routing::Failure::Connect,
            Kind::Refused => routing::Failure::Refused,
            Kind::Stale | Kind::Reset | Kind::Late | Kind::Protocol => routing::Failure::Reset,
            Kind::Overflow => return false,
        })
    }

    fn has_other(&self, id: u64) -> bool {
        self.retries.ignores_previous && self.upstream.endpoints.iter().any(|endpoint| endpoint.id != id)
    }

    /// Adds what the next try is to leave out.
    fn leave_out(&self, tried: &mut Vec<u64>, id: u64) {
        let of_priority = |priority: u32| {
            let endpoints = self.upstream.endpoints.iter().filter(move |e| e.facts.priority == priority);
            endpoints.map(|endpoint| endpoint.id)
        };
        if self.retries.next_priority
            && let Some(endpoint) = self.upstream.endpoints.iter().find(|endpoint| endpoint.id == id)
        {
            tried.extend(of_priority(endpoint.facts.priority));
        } else if self.retries.ignores_previous && !tried.contains(&id) {
            tried.push(id);
        }
    }

    fn report(&self, destination: &Destination, report: Report) {
        self.upstream.report(&destination.endpoint, report, self.shared.now());
    }

    fn refusal(&self, failure: &Failure) -> Refusal {
        let (status, flag) = match failure.kind {
            Kind::Connect => (StatusCode::SERVICE_UNAVAILABLE, Flag::ConnectFailure),
            Kind::Late => (StatusCode::GATEWAY_TIMEOUT, Flag::Timeout),
            Kind::Overflow => (StatusCode::SERVICE_UNAVAILABLE, Flag::Overflow),
            Kind::Protocol => (StatusCode::BAD_GATEWAY, Flag::UpstreamProtocol),
            Kind::Refused | Kind::Stale | Kind::Reset => (StatusCode::SERVICE_UNAVAILABLE, Flag::UpstreamReset),
        };
        tracing::debug!(upstream = %self.upstream.settings.name, reason = failure.reason, "no answer");
        let reason = match failure.kind {
            Kind::Connect => format!("{}, transport failure reason: {}", told(failure.kind), failure.reason),
            kind => told(kind),
        };
        Refusal { status, flag, reason }
    }
}

/// As much is under way as may be.
fn overflow() -> Refusal {
    Refusal { status: StatusCode::SERVICE_UNAVAILABLE, flag: Flag::Overflow, reason: told(Kind::Overflow) }
}

/// The caller broke its own request; that is no fault of whoever was to answer it.
fn broken_request() -> Refusal {
    Refusal { status: StatusCode::BAD_REQUEST, flag: Flag::DownstreamProtocol, reason: "Bad Request".to_owned() }
}

/// What the caller reads: Envoy's words, which tools look for. More would tell it of addresses that are not its matter.
fn told(kind: Kind) -> String {
    let reason = match kind {
        Kind::Late => return TIMEOUT.to_owned(),
        Kind::Connect => "remote connection failure",
        Kind::Protocol => "protocol error",
        Kind::Overflow => "overflow",
        Kind::Refused => "remote refused stream reset",
        Kind::Stale | Kind::Reset => "connection termination",
    };
    format!("upstream connect error or disconnect/reset before headers. reset reason: {reason}")
}

/// Returns once `limit` has passed since the request's end.
pub(crate) async fn passed(end: Option<&Event>, limit: Duration) {
    if let Some(end) = end {
        end.wait().await;
    }
    sleep(limit).await;
}

/// What a gRPC status comes to in HTTP (the gRPC project's "HTTP to gRPC status code mapping", the other way round).
pub(crate) fn http_status(status: u16, grpc: Option<u16>) -> u16 {
    match grpc {
        None | Some(0) => status,
        Some(1) => 499,
        Some(3 | 9 | 11) => 400,
        Some(4) => 504,
        Some(5) => 404,
        Some(6 | 10) => 409,
        Some(7) => 403,
        Some(8) => 429,
        Some(12) => 501,
        Some(14) => 503,
        Some(16) => 401,
        Some(_) => 500,
    }
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
