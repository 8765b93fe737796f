//! Workload tokens: JSON Web Tokens with which a workload asks for its first certificate.
//!
//! Signed with the cluster's token key (ES256). The algorithm is the key's and never what a token says of itself.

use aws_lc_rs::digest::{SHA256, digest};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use model::{Namespace, TrustDomain, WorkloadIdentity};
use rcgen::{KeyPair, PublicKeyData};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// The audience of tokens for certificates, Istio's.
pub const AUDIENCE: &str = "istio-ca";

const TOKEN_LIMIT: usize = 16 << 10;
/// How far two machines' clocks may differ, in seconds.
const LEEWAY: u64 = 30;
const SUBJECT: &str = "system:serviceaccount";

/// Why a token was refused, or a key.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The key is not one.
    #[error("token key: a PKCS#8 PEM P-256 private key is expected: {0}")]
    Key(String),
    /// The token does not verify, or is not for us.
    #[error("token: {0}")]
    Refused(String),
    /// The token cannot be made.
    #[error("token: {0}")]
    Mint(#[from] jsonwebtoken::errors::Error),
    /// The token is longer than any of ours.
    #[error("token: longer than 16 KiB")]
    TooLong,
    /// Its subject names no service account.
    #[error("token: the subject is not {SUBJECT}:NAMESPACE:NAME")]
    Subject,
    /// Its subject names one that cannot exist.
    #[error("token: {0}")]
    Name(#[from] model::Invalid),
}

/// Mints and checks the tokens of one cluster.
pub struct TokenKey {
    domain: TrustDomain,
    header: Header,
    private: EncodingKey,
    public: DecodingKey,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: Vec<String>,
    sub: String,
    iat: u64,
    nbf: u64,
    exp: u64,
}

// === impl TokenKey ===

impl TokenKey {
    /// A new private key as PEM.
    ///
    /// # Errors
    /// If the library cannot make one.
    pub fn generate() -> Result<String, TokenError> {
        KeyPair::generate().map(|key| key.serialize_pem()).map_err(|error| TokenError::Key(error.to_string()))
    }

    /// The key of the cluster whose trust domain is `domain`, from PEM.
    ///
    /// # Errors
    /// If it is not a P-256 private key.
    pub fn from_pem(domain: TrustDomain, pem: &str) -> Result<Self, TokenError> {
        let pair = KeyPair::from_pem(pem).map_err(|error| TokenError::Key(error.to_string()))?;
        if pair.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(TokenError::Key("it is of another kind".to_owned()));
        }
        let private = EncodingKey::from_ec_pem(pem.as_bytes()).map_err(|error| TokenError::Key(error.to_string()))?;
        let public = DecodingKey::from_ec_pem(pair.public_key_pem().as_bytes())
            .map_err(|error| TokenError::Key(error.to_string()))?;
        let header = Header { kid: Some(key_id(&pair)), ..Header::new(Algorithm::ES256) };
        Ok(Self { domain, header, private, public })
    }

    /// The trust domain whose identities the tokens name.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// A token that lets its bearer have the certificate of this one identity for `ttl` from now.
    ///
    /// # Errors
    /// If the names are not valid.
    pub fn mint(&self, namespace: &Namespace, service_account: &str, ttl: Duration) -> Result<String, TokenError> {
        WorkloadIdentity::new(self.domain.clone(), namespace.clone(), service_account)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = Claims {
            iss: self.domain.to_string(),
            aud: vec![AUDIENCE.to_owned()],
            sub: format!("{SUBJECT}:{namespace}:{service_account}"),
            iat: now,
            nbf: now,
            exp: now.saturating_add(ttl.as_secs()),
        };
        Ok(encode(&self.header, &claims, &self.private)?)
    }

    /// Whose certificate the bearer of `token` may have.
    ///
    /// # Errors
    /// If it is not signed by this key, not for us, expired, not yet valid, or names no service account.
    pub fn verify(&self, token: &str) -> Result<WorkloadIdentity, TokenError> {
        if token.len() > TOKEN_LIMIT {
            return Err(TokenError::TooLong);
        }
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[self.domain.as_str()]);
        validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY;
        let claims = decode::<Claims>(token, &self.public, &validation).map_err(|error| refusal(&error))?.claims;
        let parts: Vec<&str> = claims.sub.split(':').collect();
        let ["system", "serviceaccount", namespace, account] = parts[..] else {
            return Err(TokenError::Subject);
        };
        Ok(WorkloadIdentity::new(self.domain.clone(), namespace.parse()?, account)?)
    }
}

/// Names the key in a token's header, for people who look for the right one. It is never believed.
fn key_id(pair: &KeyPair) -> String {
    let digest = digest(&SHA256, &pair.subject_public_key_info());
    let first = digest.as_ref().first_chunk().expect("SHA-256 has more than eight bytes");
    format!("{:016x}", u64::from_be_bytes(*first))
}

fn refusal(error: &jsonwebtoken::errors::Error) -> TokenError {
    let reason = match error.kind() {
        ErrorKind::ExpiredSignature => "it has expired",
        ErrorKind::ImmatureSignature => "it is not valid yet",
        ErrorKind::InvalidAudience => "it is for another audience, `istio-ca` is expected",
        ErrorKind::InvalidIssuer => "another cluster issued it",
        ErrorKind::InvalidSignature => "it is not signed by this cluster's token key",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::MissingAlgorithm => {
            "its algorithm is not the token key's, ES256"
        }
        ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
            return TokenError::Refused(format!("the claim {claim} is missing or malformed"));
        }
        _ => "it is malformed",
    };
    TokenError::Refused(reason.to_owned())
}
