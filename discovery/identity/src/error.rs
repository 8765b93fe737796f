//! The one error of this crate.

use model::{TrustDomain, WorkloadIdentity};

/// What was wrong with a certificate, a key, a bundle, a signature, or the way to the certificate authority.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Something cannot be parsed.
    #[error("{what} cannot be parsed: {reason}")]
    Malformed {
        /// What was given, e.g. `certificate chain`.
        what: &'static str,
        /// Why it was refused.
        reason: String,
    },
    /// SPIFFE X509-SVID, section 2: exactly one URI.
    #[error("the certificate has {0} URI names: exactly one SPIFFE id is expected")]
    UriNames(usize),
    /// The URI is not an identity in Istio's form.
    #[error(transparent)]
    Identity(#[from] model::Invalid),
    /// The key does not belong to the certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// There is no root in a bundle.
    #[error("trust bundle of {0}: no certificate in it, at least one root is expected")]
    EmptyBundle(TrustDomain),
    /// The files of TLS towards a server outside of the mesh cannot be used.
    #[error("TLS towards a server outside of the mesh: {0}")]
    Outside(String),
    /// What a proxy at the edge shows or trusts cannot be used.
    #[error("TLS at the edge of the mesh: {0}")]
    Edge(String),
    /// A root of a bundle cannot be parsed.
    #[error("trust bundle of {domain}: {reason}")]
    MalformedBundle {
        /// The domain.
        domain: TrustDomain,
        /// Why it was refused.
        reason: String,
    },
    /// No bundle is known for a peer's trust domain.
    #[error("no roots are known for trust domain {0}")]
    UnknownDomain(TrustDomain),
    /// A well-formed certificate of somebody else.
    #[error("the peer is {0}, which is not expected here")]
    Unexpected(WorkloadIdentity),
    /// The certificate shows something else than was asked for.
    #[error("the certificate authority answered for {found}, asked for {asked}")]
    WrongIdentity {
        /// What was asked for.
        asked: WorkloadIdentity,
        /// What came.
        found: WorkloadIdentity,
    },
    /// The path from the leaf to its domain's roots does not hold.
    #[error("the certificate does not verify: {0}")]
    Untrusted(String),
    /// Not a private registry key.
    #[error("registry key: a PKCS#8 PEM Ed25519 private key is expected")]
    RegistryPrivateKey,
    /// Not a public registry key.
    #[error("registry public key {0:?}: base64 of 32 bytes, or the PEM of an Ed25519 public key, is expected")]
    RegistryPublicKey(String),
    /// The signature is not this key's over these bytes.
    #[error("the signature does not verify")]
    Signature,
    /// The name cannot be sent as SNI.
    #[error("server name {0:?}: a DNS name of at most 253 characters is expected")]
    ServerName(String),
    /// A TLS configuration was refused by the library.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The other side cannot be reached, or its certificate was refused. Worth another attempt.
    #[error("{address}: {reason}")]
    Unreachable {
        /// `HOST:PORT`.
        address: String,
        /// The whole chain of causes.
        reason: String,
    },
    /// The certificate authority said no.
    #[error("the certificate authority refused: {0}")]
    Refused(#[from] Box<tonic::Status>),
    /// A key or a request cannot be made.
    #[error("cannot make a certificate request: {0}")]
    Request(#[from] rcgen::Error),
    /// There is nothing to authenticate with.
    #[error("the certificate has expired, and the token in {0:?} cannot be read: {1}")]
    NoCredential(String, String),
}

// === impl IdentityError ===

impl IdentityError {
    pub(crate) fn malformed(what: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Malformed { what, reason: reason.to_string() }
    }
}
