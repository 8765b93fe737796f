//! A token, taken apart; nothing of it is believed yet.

use super::TokenRefusal;
use super::claims::{Known, object};
use crate::Datum;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use std::collections::BTreeMap;

/// A token in its parts.
#[derive(Debug)]
pub(super) struct Jwt<'a> {
    /// How it says that it is signed.
    pub(super) algorithm: Algorithm,
    /// The key by which it says that it is signed.
    pub(super) key: Option<String>,
    pub(super) known: Known,
    /// All that it says.
    pub(super) claims: BTreeMap<Box<str>, Datum>,
    /// The payload as it came, base64url.
    pub(super) payload: &'a str,
    /// What is signed.
    pub(super) signed: &'a str,
    /// The signature, base64url.
    pub(super) signature: &'a str,
}

/// No token is longer, in bytes.
const LONGEST: usize = 16 << 10;
/// How tokens may be signed: by keys whose other half only the issuer has.
const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

// === impl Jwt ===

impl<'a> Jwt<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, TokenRefusal> {
        if token.len() > LONGEST {
            return Err(TokenRefusal::TooLong);
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenRefusal::Form);
        };
        let head = decoded(header).ok_or(TokenRefusal::HeaderEncoding)?;
        let head = object(&head).ok_or(TokenRefusal::HeaderJson)?;
        let algorithm = algorithm(&head)?;
        let key = match head.get("kid") {
            None => None,
            Some(Datum::Text(name)) => Some(name.to_string()),
            Some(_) => return Err(TokenRefusal::KeyName),
        };
        if head.contains_key("crit") {
            return Err(TokenRefusal::Critical);
        }
        let claims = decoded(payload).ok_or(TokenRefusal::PayloadEncoding)?;
        let claims = object(&claims).ok_or(TokenRefusal::PayloadJson)?;
        decoded(signature).ok_or(TokenRefusal::SignatureEncoding)?;
        let signed = &token[..header.len() + 1 + payload.len()];
        Ok(Self { algorithm, key, known: Known::of(&claims)?, claims, payload, signed, signature })
    }
}

fn decoded(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

fn algorithm(head: &BTreeMap<Box<str>, Datum>) -> Result<Algorithm, TokenRefusal> {
    let Some(Datum::Text(name)) = head.get("alg") else { return Err(TokenRefusal::Algorithm) };
    let known = ALGORITHMS.iter().find(|(known, _)| **known == **name);
    known.map(|(_, algorithm)| *algorithm).ok_or(TokenRefusal::UnknownAlgorithm)
}
