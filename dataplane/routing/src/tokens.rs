//! The tokens of requests (JWT, RFC 7519): Envoy's filter of them, compiled, and what it says of a request.
//!
//! ```text
//! request -> places -> tokens -> issuer, times, audience -> key -> signature -> claims
//! ```
//!
//! The algorithm comes from the key: what a token says of it can only rule keys out.

mod claims;
mod jwt;
mod keys;
mod place;
mod provider;
mod refusal;
mod requirement;

pub use refusal::TokenRefusal;

use crate::decode::unpack;
use crate::{Asked, Datum, Metadata};
use api::envoy::envoy::config::route::v3::route_match::PathSpecifier;
use api::envoy::envoy::extensions::filters::http::jwt_authn::v3 as proto;
use api::envoy::google::protobuf::Any;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proto::requirement_rule::RequirementType;
use provider::Provider;
use requirement::Requirement;
use std::collections::BTreeMap;

/// The tokens that requests to a listener may bring, and must.
#[derive(Debug, Clone)]
pub struct Tokens {
    providers: Vec<Provider>,
    requirement: Requirement,
    /// Whether a preflight of CORS needs no token: browsers send none.
    spares_preflight: bool,
    /// Header fields that only this filter may set.
    own: Vec<HeaderName>,
}

/// What the tokens of a request say.
#[derive(Debug, Default)]
pub struct Claims {
    /// By filter, as policies and routes ask for it.
    pub metadata: Metadata,
    set: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
    /// Whether the route is to be looked for again: it may depend on claims.
    pub reroutes: bool,
}

/// A token that holds.
struct Held<'a> {
    provider: &'a Provider,
    claims: BTreeMap<Box<str>, Datum>,
    /// As it came, base64url.
    payload: String,
    /// The header field in which it stood.
    field: Option<HeaderName>,
}

/// The filter's name, under which policies ask for claims.
const FILTER: &str = "envoy.filters.http.jwt_authn";

// === impl Tokens ===

impl Tokens {
    /// The filter in `config`, if it is one.
    ///
    /// # Errors
    /// If something in it is not known: it could not be enforced.
    pub(crate) fn parse(config: &Any) -> Option<Result<Self, String>> {
        let filter = unpack::<proto::JwtAuthentication>(config)?;
        let parsed = filter.map_err(|error| error.to_string()).and_then(|filter| Self::from_proto(&filter));
        Some(parsed.map_err(|reason| format!("jwt_authn: {reason}")))
    }

    fn from_proto(filter: &proto::JwtAuthentication) -> Result<Self, String> {
        let named: BTreeMap<&String, &proto::JwtProvider> = filter.providers.iter().collect();
        let names: Vec<&str> = named.keys().map(|name| name.as_str()).collect();
        let [rule] = &filter.rules[..] else { return Err("one rule is accepted, for all paths".into()) };
        let path = rule.r#match.as_ref().and_then(|matches| matches.path_specifier.as_ref());
        if !matches!(path, Some(PathSpecifier::Prefix(prefix)) if prefix == "/") {
            return Err("one rule is accepted, for all paths".into());
        }
        let Some(RequirementType::Requires(requires)) = &rule.requirement_type else {
            return Err("requires is accepted".into());
        };
        let providers: Vec<Provider> =
            named.iter().map(|(name, one)| Provider::parse(name, one)).collect::<Result<_, _>>()?;
        Ok(Self {
            requirement: Requirement::parse(requires, &names)?,
            own: providers.iter().flat_map(Provider::fields).cloned().collect(),
            providers,
            spares_preflight: filter.bypass_cors_preflight,
        })
    }

    /// What the tokens of `asked` say at `now`, in seconds of the Unix epoch.
    ///
    /// # Errors
    /// Why the request is turned away.
    pub fn check(&self, asked: &Asked<'_>, now: u64) -> Result<Claims, TokenRefusal> {
        if self.spares_preflight && is_preflight(asked) {
            return Ok(Claims::default());
        }
        let held = self.requirement.check(&self.providers, asked, now)?;
        let mut claims = Claims::default();
        for one in held {
            let provider = one.provider;
            claims.reroutes |= provider.reroutes;
            claims.set.extend(provider.told(&one));
            claims.remove.extend(one.field.filter(|_| !provider.forwards));
            if let Some(key) = &provider.metadata {
                let payload = BTreeMap::from([(key.clone(), provider.normalized(one.claims))]);
                claims.metadata.insert(FILTER.into(), Datum::Fields(payload));
            }
        }
        Ok(claims)
    }

    /// Takes from `headers` what only this filter may set.
    pub fn sanitize(&self, headers: &mut HeaderMap) {
        for name in &self.own {
            headers.remove(name);
        }
    }
}

// === impl Claims ===

impl Claims {
    /// Tells the application what it is to know, and takes away the tokens that it is not to get.
    pub fn tell(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
    }
}

fn is_preflight(asked: &Asked<'_>) -> bool {
    asked.method == Method::OPTIONS
        && asked.headers.contains_key(ORIGIN)
        && asked.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

#[cfg(test)]
mod tests;
