//! One issuer's tokens: where they stand, when they hold, who is told what they say.

use super::jwt::Jwt;
use super::keys::Keys;
use super::place::Place;
use super::{Held, TokenRefusal};
use crate::Datum;
use api::envoy::envoy::config::core::v3::data_source::Specifier;
use api::envoy::envoy::extensions::filters::http::jwt_authn::v3 as proto;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, HeaderValue};
use proto::jwt_provider::JwksSourceSpecifier;
use std::collections::BTreeMap;

/// One issuer's tokens.
#[derive(Debug, Clone)]
pub(super) struct Provider {
    /// Anybody if empty.
    issuer: Box<str>,
    audiences: Vec<Box<str>>,
    keys: Keys,
    pub(super) places: Vec<Place>,
    pub(super) forwards: bool,
    pub(super) reroutes: bool,
    /// The key under which the claims are kept for those who ask.
    pub(super) metadata: Option<Box<str>>,
    /// Claims that are lists with spaces between.
    delimited: Vec<Box<str>>,
    payload_field: Option<HeaderName>,
    claim_fields: Vec<(HeaderName, Vec<Box<str>>)>,
}

// === impl Provider ===

impl Provider {
    pub(super) fn parse(name: &str, provider: &proto::JwtProvider) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("providers[{name:?}]: {what}"));
        let field = |text: &str| {
            let parsed = text.parse::<HeaderName>();
            parsed.map_err(|_| format!("providers[{name:?}]: {text:?} is no header field's name"))
        };
        if provider.subjects.is_some() || provider.require_expiration || provider.max_lifetime.is_some() {
            return wrong("subjects, require_expiration and max_lifetime are not accepted");
        }
        let keys = match &provider.jwks_source_specifier {
            Some(JwksSourceSpecifier::LocalJwks(source)) => match &source.specifier {
                Some(Specifier::InlineString(text)) => Keys::parse(text)?,
                _ => return wrong("local_jwks: inline_string is accepted"),
            },
            // Keys are for the control plane to fetch: where it has none, there are none.
            Some(JwksSourceSpecifier::RemoteJwks(_)) => Keys::unknown(),
            None => return wrong("keys are expected"),
        };
        let of_header = |header: &proto::JwtHeader| {
            Ok::<_, String>(Place::Field(field(&header.name)?, header.value_prefix.as_str().into()))
        };
        let mut places: Vec<Place> = provider.from_headers.iter().map(of_header).collect::<Result<_, _>>()?;
        places.extend(provider.from_params.iter().map(|name| Place::Parameter(name.as_str().into())));
        places.extend(provider.from_cookies.iter().map(|name| Place::Cookie(name.as_str().into())));
        let of_claim = |claim: &proto::JwtClaimToHeader| {
            let path = claim.claim_name.split('.').map(Into::into).collect();
            Ok::<_, String>((field(&claim.header_name)?, path))
        };
        let normalized = provider.normalize_payload_in_metadata.as_ref();
        let payload_field = Some(provider.forward_payload_header.as_str()).filter(|name| !name.is_empty());
        Ok(Self {
            issuer: provider.issuer.as_str().into(),
            audiences: provider.audiences.iter().map(|audience| sanitized(audience).into()).collect(),
            keys,
            places: if places.is_empty() { Place::usual() } else { places },
            forwards: provider.forward,
            reroutes: provider.clear_route_cache,
            metadata: Some(provider.payload_in_metadata.as_str()).filter(|key| !key.is_empty()).map(Into::into),
            delimited: normalized
                .map(|normalized| normalized.space_delimited_claims.iter().map(|name| name.as_str().into()).collect())
                .unwrap_or_default(),
            payload_field: payload_field.map(field).transpose()?,
            claim_fields: provider.claim_to_headers.iter().map(of_claim).collect::<Result<_, _>>()?,
        })
    }

    /// `token`, which stood in `field`, if it holds at `now`.
    pub(super) fn held(&self, token: &str, field: Option<HeaderName>, now: u64) -> Result<Held<'_>, TokenRefusal> {
        let jwt = Jwt::parse(token)?;
        if !self.issuer.is_empty() && jwt.known.issuer.as_deref() != Some(&*self.issuer) {
            return Err(TokenRefusal::Issuer);
        }
        jwt.known.at(now)?;
        let is_for = |audience: &String| self.audiences.iter().any(|own| **own == *sanitized(audience));
        if !self.audiences.is_empty() && !jwt.known.audiences.iter().any(is_for) {
            return Err(TokenRefusal::Audience);
        }
        self.keys.verify(&jwt)?;
        Ok(Held { provider: self, payload: jwt.payload.to_owned(), claims: jwt.claims, field })
    }

    /// The header fields that only this may set.
    pub(super) fn fields(&self) -> impl Iterator<Item = &HeaderName> {
        self.payload_field.iter().chain(self.claim_fields.iter().map(|(name, _)| name))
    }

    /// What the application is told of a token that holds.
    pub(super) fn told(&self, held: &Held<'_>) -> Vec<(HeaderName, HeaderValue)> {
        let payload = self.payload_field.iter().map(|name| (name.clone(), held.payload.clone()));
        let claims =
            self.claim_fields.iter().filter_map(|(name, path)| Some((name.clone(), claim(&held.claims, path)?)));
        payload.chain(claims).filter_map(|(name, text)| Some((name, HeaderValue::from_str(&text).ok()?))).collect()
    }

    /// `claims`, with lists where lists were written with spaces.
    pub(super) fn normalized(&self, mut claims: BTreeMap<Box<str>, Datum>) -> Datum {
        for name in &self.delimited {
            if let Some(Datum::Text(text)) = claims.get(name) {
                let items = text.split(' ').map(|item| Datum::Text(item.into())).collect();
                claims.insert(name.clone(), Datum::List(items));
            }
        }
        Datum::Fields(claims)
    }
}

/// An audience as it is compared: without scheme and last slash (Envoy's rule).
fn sanitized(audience: &str) -> &str {
    let rest = audience.strip_prefix("https://").or_else(|| audience.strip_prefix("http://")).unwrap_or(audience);
    rest.strip_suffix('/').unwrap_or(rest)
}

/// A claim as a header field has it: texts, numbers and truths as they are, all else as JSON in base64url (Envoy's rule).
fn claim(claims: &BTreeMap<Box<str>, Datum>, path: &[Box<str>]) -> Option<String> {
    let (first, rest) = path.split_first()?;
    let found = rest.iter().try_fold(claims.get(first)?, |at, key| match at {
        Datum::Fields(fields) => fields.get(key),
        _ => None,
    });
    match found? {
        Datum::Null => None,
        Datum::Text(text) => Some(text.to_string()),
        Datum::Bool(truth) => Some(truth.to_string()),
        Datum::Number(number) => Some(number.to_string()),
        other => Some(URL_SAFE_NO_PAD.encode(json(other).to_string())),
    }
}

fn json(datum: &Datum) -> serde_json::Value {
    match datum {
        Datum::Null => serde_json::Value::Null,
        Datum::Bool(truth) => (*truth).into(),
        Datum::Number(number) => whole(*number).map_or_else(|| (*number).into(), Into::into),
        Datum::Text(text) => (&**text).into(),
        Datum::List(all) => all.iter().map(json).collect(),
        Datum::Fields(fields) => fields.iter().map(|(name, value)| (name.to_string(), json(value))).collect(),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it is whole, and small enough to be exact")]
fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
}
