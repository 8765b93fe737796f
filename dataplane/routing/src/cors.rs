//! Which pages of other origins may ask (the Fetch standard's CORS protocol), as Envoy's filter does it.

use crate::text_match::TextMatch;
use api::envoy::envoy::extensions::filters::http::cors::v3 as proto;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// A route's policy.
#[derive(Debug, Clone)]
pub struct Cors {
    origins: Vec<TextMatch>,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    exposed: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    credentials: bool,
    forwards_unmatched: bool,
}

/// What becomes of a request of another origin.
#[derive(Debug)]
pub enum Crossing {
    /// It is answered here, with status 200 and these fields: it only asked whether it may.
    Preflight(HeaderMap),
    /// It goes on, and its answer bears this origin.
    Allowed(HeaderValue),
    /// It goes on as if nothing had been asked.
    Plain,
}

// === impl Cors ===

impl Cors {
    pub(crate) fn parse(policy: &proto::CorsPolicy) -> Result<Self, String> {
        let value = |text: &str| {
            let text = Some(text).filter(|text| !text.is_empty());
            text.map(|text| text.parse().map_err(|_| format!("cors: {text:?} is no field's value"))).transpose()
        };
        Ok(Self {
            origins: policy.allow_origin_string_match.iter().map(TextMatch::parse).collect::<Result<_, _>>()?,
            methods: value(&policy.allow_methods)?,
            headers: value(&policy.allow_headers)?,
            exposed: value(&policy.expose_headers)?,
            max_age: value(&policy.max_age)?,
            credentials: policy.allow_credentials.as_ref().is_some_and(|flag| flag.value),
            forwards_unmatched: policy.forward_not_matching_preflights.as_ref().is_none_or(|flag| flag.value),
        })
    }

    /// What becomes of a request with these fields.
    pub fn crossing(&self, method: &Method, headers: &HeaderMap) -> Crossing {
        let Some(origin) = headers.get(ORIGIN).filter(|origin| !origin.is_empty()) else { return Crossing::Plain };
        let is_preflight = method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let is_allowed = origin.to_str().is_ok_and(|origin| self.origins.iter().any(|wanted| wanted.matches(origin)));
        match (is_allowed, is_preflight) {
            (true, true) => Crossing::Preflight(self.answer(origin)),
            (true, false) => Crossing::Allowed(origin.clone()),
            (false, true) if !self.forwards_unmatched => Crossing::Preflight(HeaderMap::new()),
            (false, _) => Crossing::Plain,
        }
    }

    fn answer(&self, origin: &HeaderValue) -> HeaderMap {
        let mut fields = HeaderMap::new();
        self.allow(&mut fields, origin);
        fields.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
        let mut insert = |name: HeaderName, value: &Option<HeaderValue>| {
            if let Some(value) = value {
                fields.insert(name, value.clone());
            }
        };
        insert(ACCESS_CONTROL_ALLOW_METHODS, &self.methods);
        insert(ACCESS_CONTROL_ALLOW_HEADERS, &self.headers);
        insert(ACCESS_CONTROL_MAX_AGE, &self.max_age);
        fields
    }

    /// Completes an answer for `origin`.
    pub fn allow(&self, fields: &mut HeaderMap, origin: &HeaderValue) {
        fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            fields.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(exposed) = &self.exposed {
            fields.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
    }
}
