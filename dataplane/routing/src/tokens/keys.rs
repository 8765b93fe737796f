//! The keys of an issuer: a JSON Web Key Set (RFC 7517).

use super::TokenRefusal;
use super::jwt::Jwt;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde_json::Value;
use std::fmt;

/// The keys by which tokens are verified; none if they are not known.
#[derive(Debug, Clone)]
pub(super) struct Keys(Option<Vec<Key>>);

#[derive(Clone)]
struct Key {
    name: Option<String>,
    /// What is signed by it.
    algorithms: Vec<Algorithm>,
    verifier: DecodingKey,
}

const RSA: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];
/// More keys are looked at for no token.
const MOST: usize = 100;

// === impl Keys ===

impl Keys {
    /// Keys that nobody knows: no token is good.
    pub(super) fn unknown() -> Self {
        Self(None)
    }

    /// The keys in `text`; those that are not for this, or of a kind that is not known, are passed over.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let set: Value = serde_json::from_str(text).map_err(|error| format!("local_jwks: {error}"))?;
        let keys = set["keys"].as_array().ok_or("local_jwks: a set of keys is expected")?;
        if keys.len() > MOST {
            return Err(format!("local_jwks: at most {MOST} keys are accepted"));
        }
        Ok(Self(Some(keys.iter().filter_map(Key::parse).collect())))
    }

    /// Whether one of the keys has signed `jwt`.
    pub(super) fn verify(&self, jwt: &Jwt<'_>) -> Result<(), TokenRefusal> {
        let keys = self.0.as_ref().ok_or(TokenRefusal::NoKeys)?;
        let mut may_be = keys.iter().filter(|key| key.may_have_signed(jwt)).peekable();
        if may_be.peek().is_none() {
            return Err(TokenRefusal::NoKey);
        }
        let is_by = |key: &Key| crypto::verify(jwt.signature, jwt.signed.as_bytes(), &key.verifier, jwt.algorithm);
        if may_be.any(|key| is_by(key).unwrap_or_default()) { Ok(()) } else { Err(TokenRefusal::Signature) }
    }
}

// === impl Key ===

impl Key {
    fn parse(key: &Value) -> Option<Self> {
        let text = |name: &str| key[name].as_str();
        if text("use").is_some_and(|usage| usage != "sig") {
            return None;
        }
        let (mut algorithms, decoding) = match (text("kty")?, text("crv")) {
            ("RSA", _) => (RSA.to_vec(), DecodingKey::from_rsa_components(text("n")?, text("e")?)),
            ("EC", Some("P-256")) => (vec![Algorithm::ES256], DecodingKey::from_ec_components(text("x")?, text("y")?)),
            ("EC", Some("P-384")) => (vec![Algorithm::ES384], DecodingKey::from_ec_components(text("x")?, text("y")?)),
            ("OKP", Some("Ed25519")) => (vec![Algorithm::EdDSA], DecodingKey::from_ed_components(text("x")?)),
            _ => return None,
        };
        if let Some(only) = text("alg") {
            algorithms.retain(|algorithm| format!("{algorithm:?}") == only);
        }
        Some(Self { name: text("kid").map(str::to_owned), algorithms, verifier: decoding.ok()? })
    }

    fn may_have_signed(&self, jwt: &Jwt<'_>) -> bool {
        let is_named = self.name.as_ref().zip(jwt.key.as_ref()).is_none_or(|(own, said)| own == said);
        is_named && self.algorithms.contains(&jwt.algorithm)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}
