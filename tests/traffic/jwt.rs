//! The tokens that callers bring, and what stands for them in a case.
//!
//! `$jwks` is the set of public keys, `$jwks(KEY)` that of one key, and `$jwks-uri` where the set is served. `$jwt(KEY CLAIMS)$` is a token, signed by KEY: RS256,
//! PS256, ES256, ES384 and EdDSA are in the set; `other` is in none, but says that it is RS256's; `none` is not signed; `HS256` is
//! signed with RS256's public key for a secret. CLAIMS is JSON, in which `+60s` is in a minute and `-60s` was a minute ago;
//! `|JSON` behind it is more for the header.

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize,
    SignatureAlgorithm,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;

/// The keys, and where the public ones are served.
pub struct Issuer {
    keys: BTreeMap<&'static str, Signing>,
    at: SocketAddr,
}

struct Signing {
    algorithm: Algorithm,
    key: EncodingKey,
    public: Value,
}

const KEYS: [(&str, Algorithm, &SignatureAlgorithm); 6] = [
    ("RS256", Algorithm::RS256, &PKCS_RSA_SHA256),
    ("PS256", Algorithm::PS256, &PKCS_RSA_SHA256),
    ("ES256", Algorithm::ES256, &PKCS_ECDSA_P256_SHA256),
    ("ES384", Algorithm::ES384, &PKCS_ECDSA_P384_SHA384),
    ("EdDSA", Algorithm::EdDSA, &PKCS_ED25519),
    ("other", Algorithm::RS256, &PKCS_RSA_SHA256),
];
/// The key that nobody publishes.
const OTHER: &str = "other";

// === impl Issuer ===

impl Issuer {
    /// Makes all keys, and serves the public ones.
    pub async fn start() -> anyhow::Result<Self> {
        let mut keys = BTreeMap::new();
        for (name, algorithm, kind) in KEYS {
            keys.insert(name, Signing::make(name, algorithm, kind)?);
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let issuer = Self { keys, at: listener.local_addr()? };
        tokio::spawn(serve(listener, issuer.set("")?));
        Ok(issuer)
    }

    /// `text` with tokens and keys in the places of their names.
    ///
    /// # Errors
    /// If there is no such key, or claims are no JSON.
    pub fn filled(&self, text: &str) -> anyhow::Result<String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("$jw") {
            filled.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(spec) = rest.strip_prefix("$jwt(") {
                let end = spec.find(")$").with_context(|| format!("{rest:?}: $jwt(KEY CLAIMS)$ is expected"))?;
                filled.push_str(&self.token(&spec[..end])?);
                rest = &spec[end + 2..];
            } else if let Some(one) = rest.strip_prefix("$jwks(") {
                let end = one.find(')').context("$jwks(KEY) is expected")?;
                filled.push_str(&self.set(&one[..end])?);
                rest = &one[end + 1..];
            } else if let Some(tail) = rest.strip_prefix("$jwks-uri") {
                filled.push_str(&format!("http://{}/keys", self.at));
                rest = tail;
            } else {
                let tail =
                    rest.strip_prefix("$jwks").with_context(|| format!("{rest:?}: $jwt or $jwks is expected"))?;
                filled.push_str(&self.set("")?);
                rest = tail;
            }
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// The public keys whose names begin so, but the one that nobody publishes.
    fn set(&self, name: &str) -> anyhow::Result<String> {
        let keys = self.keys.iter().filter(|(key, _)| **key != OTHER && key.starts_with(name));
        let keys: Vec<&Value> = keys.map(|(_, signing)| &signing.public).collect();
        anyhow::ensure!(!keys.is_empty(), "no key is named {name:?}");
        Ok(json!({"keys": keys}).to_string())
    }

    fn token(&self, spec: &str) -> anyhow::Result<String> {
        let (name, rest) = spec.split_once(' ').with_context(|| format!("{spec:?}: KEY CLAIMS is expected"))?;
        let (claims, more) = rest.split_once('|').unwrap_or((rest, "{}"));
        let mut head = match name {
            "none" => json!({"alg": "none"}),
            "HS256" => json!({"alg": "HS256", "kid": "RS256"}),
            OTHER => json!({"alg": "RS256", "kid": "RS256"}),
            _ => json!({"alg": name, "kid": name}),
        };
        for (key, value) in serde_json::from_str::<BTreeMap<String, Value>>(more).context("the header")? {
            head[key] = value;
        }
        let claims = timed(claims);
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(head.to_string()), URL_SAFE_NO_PAD.encode(claims));
        let signature = match name {
            "none" => String::new(),
            "HS256" => {
                let secret = EncodingKey::from_secret(self.set("RS256")?.as_bytes());
                crypto::sign(signed.as_bytes(), &secret, Algorithm::HS256)?
            }
            _ => {
                let signing = self.keys.get(name).with_context(|| format!("no key is named {name:?}"))?;
                crypto::sign(signed.as_bytes(), &signing.key, signing.algorithm)?
            }
        };
        Ok(format!("{signed}.{signature}"))
    }
}

// === impl Signing ===

impl Signing {
    fn make(name: &str, algorithm: Algorithm, kind: &'static SignatureAlgorithm) -> anyhow::Result<Self> {
        let pair = match algorithm {
            Algorithm::RS256 | Algorithm::PS256 => KeyPair::generate_rsa_for(kind, RsaKeySize::_2048)?,
            _ => KeyPair::generate_for(kind)?,
        };
        let pem = pair.serialize_pem();
        let key = match algorithm {
            Algorithm::RS256 | Algorithm::PS256 => EncodingKey::from_rsa_pem(pem.as_bytes())?,
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem.as_bytes())?,
            _ => EncodingKey::from_ed_pem(pem.as_bytes())?,
        };
        let mut public = match algorithm {
            Algorithm::EdDSA => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key_raw())})
            }
            _ => serde_json::to_value(Jwk::from_encoding_key(&key, algorithm)?)?,
        };
        public["kid"] = name.into();
        Ok(Self { algorithm, key, public })
    }
}

/// Answers every request with `set`.
async fn serve(listener: TcpListener, set: String) {
    while let Ok((tcp, _)) = listener.accept().await {
        let set = set.clone();
        let answer = service_fn(move |_| {
            let answer = Response::new(Full::new(Bytes::from(set.clone())));
            async move { Ok::<_, Infallible>(answer) }
        });
        tokio::spawn(async move {
            // Callers leave as they like.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(tcp), answer).await;
        });
    }
}

/// `claims` with `+60s` as the time in a minute.
fn timed(claims: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
    let (mut all, mut rest) = (String::new(), claims);
    while let Some(at) = rest.find([':', ',']).map(|at| at + 1) {
        all.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.find([',', '}']).unwrap_or(rest.len());
        let relative = rest[..end].trim().strip_suffix('s').filter(|text| text.starts_with(['+', '-']));
        if let Some(seconds) = relative.and_then(|text| text.parse::<i64>().ok()) {
            all.push_str(&(now + seconds).to_string());
            rest = &rest[end..];
        }
    }
    all.push_str(rest);
    all
}
