//! Local rate limits: a request is let by or refused, and told what is left.

use crate::body::ResponseBody;
use crate::exchange::Asked;
use crate::http::Caller;
use crate::outside;
use crate::telemetry::Flag;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use routing::{HttpHandler, Level, Limited, Limiter, Route, Ruling};
use std::net::IpAddr;

/// What answers are told of rate limits.
#[derive(Default)]
pub(crate) struct Shown(Vec<Level>);

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
/// What a refused caller reads: Envoy's words, which tools look for.
const LIMITED: &str = "local_rate_limited";
/// gRPC's RESOURCE_EXHAUSTED.
const EXHAUSTED: u16 = 8;

impl Caller {
    /// Takes the tokens of a request that takes `route`, as `handler` limits it.
    ///
    /// # Errors
    /// The answer to a request for which there are none.
    pub(crate) fn admit(
        &self,
        handler: &HttpHandler,
        asked: &Asked,
        route: &Route,
        headers: &mut HeaderMap,
    ) -> Result<Shown, Box<Response<ResponseBody>>> {
        if !handler.is_limited() {
            return Ok(Shown::default());
        }
        let request = Limited {
            asked: asked.view(headers),
            remote: self.remote(headers),
            principal: self.principal.as_deref(),
            route: &route.name,
        };
        let rulings = handler.rulings(route, &request, self.shared.now(), rand::random);
        let context = self.context(asked, route);
        let mut shown = Shown::default();
        for (limiter, ruling) in rulings {
            match ruling {
                Ruling::Silent => {}
                Ruling::Passed(level) => shown.0.extend(level.filter(|_| limiter.shows)),
                Ruling::Unenforced => limiter.unenforced.apply(headers, None, &context),
                Ruling::Refused(level) => {
                    let mut response = self.limited(asked, limiter);
                    limiter.response.apply(response.headers_mut(), Some(headers), &context);
                    // As Envoy does it: of answers of this one status, and where nothing else is said.
                    if limiter.tells_when && response.status() == StatusCode::TOO_MANY_REQUESTS {
                        let wait = response.headers_mut().entry(RETRY_AFTER);
                        wait.or_insert_with(|| HeaderValue::from(seconds(level).max(1)));
                    }
                    shown.0.extend(limiter.shows.then_some(level));
                    shown.add(response.headers_mut());
                    return Err(Box::new(response));
                }
            }
        }
        Ok(shown)
    }

    fn limited(&self, asked: &Asked, limiter: &Limiter) -> Response<ResponseBody> {
        let why = LIMITED.to_owned();
        if asked.is_grpc && limiter.as_exhausted {
            return asked.refuse_grpc(&self.series(), EXHAUSTED, Flag::RateLimited, why);
        }
        let status = StatusCode::from_u16(limiter.status).unwrap_or(StatusCode::TOO_MANY_REQUESTS);
        self.refuse(asked, status, Flag::RateLimited, why)
    }

    /// Where a request comes from: what the last proxy that is trusted wrote down. At the edge of the mesh the last is this
    /// one.
    pub(crate) fn remote(&self, headers: &HeaderMap) -> IpAddr {
        let hops = if self.handler.from_outside { self.handler.trusted_hops } else { 0 };
        outside::said_by(headers, hops).unwrap_or(self.address.ip())
    }
}

// === impl Shown ===

impl Shown {
    /// Says what is left, of the first limit that lets it be known.
    pub(crate) fn add(&self, headers: &mut HeaderMap) {
        if let Some(level) = self.0.first() {
            headers.insert(LIMIT, HeaderValue::from(level.limit));
            headers.insert(REMAINING, HeaderValue::from(level.remaining));
            headers.insert(RESET, HeaderValue::from(seconds(*level)));
        }
    }
}

/// Until there is a token again, in whole seconds.
fn seconds(level: Level) -> u64 {
    level.reset.as_secs() + u64::from(level.reset.subsec_nanos() > 0)
}
