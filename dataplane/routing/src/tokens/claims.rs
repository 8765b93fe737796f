//! JSON in which nothing is said twice, and the claims that are known (RFC 7519, section 4.1).

use super::TokenRefusal;
use crate::Datum;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// The claims that a token is judged by.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Known {
    pub(super) issuer: Option<String>,
    pub(super) audiences: Vec<String>,
    expires: Option<u64>,
    begins: Option<u64>,
}

/// How far clocks may be apart, in seconds (Envoy's).
const SKEW: u64 = 60;
/// The greatest number that every reader of JSON has exactly (RFC 8259, section 6).
const GREATEST: f64 = 9_007_199_254_740_991.0;

/// The members of the JSON object `text`; none if it is no object, or says something twice.
pub(super) fn object(text: &[u8]) -> Option<BTreeMap<Box<str>, Datum>> {
    match serde_json::from_slice(text) {
        Ok(Datum::Fields(fields)) => Some(fields),
        _ => None,
    }
}

// === impl Known ===

impl Known {
    pub(super) fn of(claims: &BTreeMap<Box<str>, Datum>) -> Result<Self, TokenRefusal> {
        let text = |name: &'static str| match claims.get(name) {
            None => Ok(None),
            Some(Datum::Text(text)) => Ok(Some(text.to_string())),
            Some(_) => Err(TokenRefusal::Claim(name)),
        };
        let _ = text("sub")?;
        let _ = time(claims, "iat")?;
        Ok(Self {
            issuer: text("iss")?,
            audiences: audiences(claims.get("aud"))?,
            expires: time(claims, "exp")?,
            begins: time(claims, "nbf")?,
        })
    }

    /// Whether the token holds at `now`.
    pub(super) fn at(&self, now: u64) -> Result<(), TokenRefusal> {
        if self.begins.is_some_and(|begins| now.saturating_add(SKEW) < begins) {
            return Err(TokenRefusal::NotYet);
        }
        if self.expires.is_some_and(|expires| now > expires.saturating_add(SKEW)) {
            return Err(TokenRefusal::Expired);
        }
        Ok(())
    }
}

fn audiences(claim: Option<&Datum>) -> Result<Vec<String>, TokenRefusal> {
    let text = |one: &Datum| match one {
        Datum::Text(text) => Ok(text.to_string()),
        _ => Err(TokenRefusal::Claim("aud")),
    };
    match claim {
        None => Ok(Vec::new()),
        Some(Datum::List(all)) => all.iter().map(text).collect(),
        Some(one) => Ok(vec![text(one)?]),
    }
}

/// A time in whole seconds of the Unix epoch. What is none is refused: it must not count as absent.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole, and within both")]
fn time(claims: &BTreeMap<Box<str>, Datum>, name: &'static str) -> Result<Option<u64>, TokenRefusal> {
    match claims.get(name) {
        None => Ok(None),
        Some(Datum::Number(time)) if (0.0..=GREATEST).contains(time) && time.fract() == 0.0 => Ok(Some(*time as u64)),
        Some(_) => Err(TokenRefusal::Claim(name)),
    }
}

// === impl Datum ===

impl<'de> Deserialize<'de> for Datum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Json)
    }
}

struct Json;

impl<'de> Visitor<'de> for Json {
    type Value = Datum;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON in which nothing is said twice")
    }

    fn visit_unit<E>(self) -> Result<Datum, E> {
        Ok(Datum::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Datum, E> {
        Ok(Datum::Bool(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "JSON's numbers are as exact as that")]
    fn visit_i64<E>(self, value: i64) -> Result<Datum, E> {
        Ok(Datum::Number(value as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "JSON's numbers are as exact as that")]
    fn visit_u64<E>(self, value: u64) -> Result<Datum, E> {
        Ok(Datum::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Datum, E> {
        Ok(Datum::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Datum, E> {
        Ok(Datum::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Datum, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Datum::List(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Datum, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((name, value)) = members.next_entry::<Box<str>, Datum>()? {
            if fields.insert(name, value).is_some() {
                return Err(A::Error::custom("a member comes twice"));
            }
        }
        Ok(Datum::Fields(fields))
    }
}
