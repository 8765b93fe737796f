//! Checks a peer's certificate the SPIFFE way: whose it claims to be first, and then only by that domain's roots.
//!
//! ```text
//! leaf ─▶ exactly one URI name ─▶ its trust domain's roots ─▶ path, time, usage ─▶ is it who was expected?
//! ```

use crate::certificate::{parse, uri_name};
use crate::{Bundles, IdentityError};
use arc_swap::ArcSwap;
use model::WorkloadIdentity;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::X509Certificate;

/// More certificates than this above a leaf are refused unread: nobody has them, and looking for a path among them costs.
const MAX_INTERMEDIATES: usize = 8;

/// Who may be at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Anybody for whom a known trust domain vouches.
    Any,
    /// One of these. An empty set admits nobody.
    Exactly(Arc<BTreeSet<WorkloadIdentity>>),
}

/// What a certificate must be fit for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Usage {
    Server,
    Client,
}

/// A reason within a rustls error, which prints its causes by `Debug`: so that people can read them.
#[derive(thiserror::Error)]
#[error(transparent)]
struct Refusal(IdentityError);

/// Verifies both servers and clients, against the bundles of the moment.
#[derive(Debug)]
pub(crate) struct SpiffeVerifier {
    bundles: Arc<ArcSwap<Bundles>>,
    expected: Expected,
    client_required: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

// === impl Expected ===

impl Expected {
    /// Exactly this one.
    pub fn one(identity: WorkloadIdentity) -> Self {
        Self::Exactly(Arc::new(BTreeSet::from([identity])))
    }

    /// Whether `identity` may be at the other end.
    pub fn admits(&self, identity: &WorkloadIdentity) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(identities) => identities.contains(identity),
        }
    }
}

// === impl Usage ===

impl Usage {
    /// A leaf must name its use (RFC 5280, section 4.2.1.12). Leaving that out would allow every use.
    fn is_named_by(self, leaf: &X509Certificate<'_>) -> bool {
        let Ok(Some(uses)) = leaf.extended_key_usage() else { return false };
        match self {
            Self::Server => uses.value.server_auth,
            Self::Client => uses.value.client_auth,
        }
    }

    /// What the certificates above must allow, if they restrict uses at all.
    fn of_path(self) -> KeyUsage {
        match self {
            Self::Server => KeyUsage::server_auth(),
            Self::Client => KeyUsage::client_auth(),
        }
    }
}

// === impl Refusal ===

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

// === impl SpiffeVerifier ===

impl SpiffeVerifier {
    pub(crate) fn new(
        bundles: Arc<ArcSwap<Bundles>>,
        expected: Expected,
        client_required: bool,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self { bundles, expected, client_required, algorithms }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: Usage,
    ) -> Result<(), Error> {
        let claimed = verify_chain(&self.bundles.load(), &self.algorithms, leaf, intermediates, now, usage)?;
        if self.expected.admits(&claimed) { Ok(()) } else { Err(other(IdentityError::Unexpected(claimed))) }
    }
}

impl ServerCertVerifier for SpiffeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, now, Usage::Server)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for SpiffeVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.client_required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, now, Usage::Client)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The identity of `leaf`, once the roots of its own trust domain, and no others, have vouched for it.
pub(crate) fn verify_chain(
    bundles: &Bundles,
    algorithms: &WebPkiSupportedAlgorithms,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
    usage: Usage,
) -> Result<WorkloadIdentity, Error> {
    if intermediates.len() > MAX_INTERMEDIATES {
        let reason =
            format!("{} certificates above the leaf, at most {MAX_INTERMEDIATES} are accepted", intermediates.len());
        return Err(other(IdentityError::Untrusted(reason)));
    }
    let claims = parse(leaf).map_err(other)?;
    let claimed = uri_name(&claims).map_err(other)?;
    let roots = bundles.roots(&claimed.trust_domain);
    if roots.is_empty() {
        return Err(other(IdentityError::UnknownDomain(claimed.trust_domain)));
    }
    if !usage.is_named_by(&claims) {
        return Err(CertificateError::InvalidPurpose.into());
    }
    let parsed = EndEntityCert::try_from(leaf).map_err(|_| CertificateError::BadEncoding)?;
    parsed.verify_for_usage(algorithms.all, roots, intermediates, now, usage.of_path(), None, None).map_err(refusal)?;
    Ok(claimed)
}

fn other(error: IdentityError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refusal(error)))))
}

fn refusal(error: webpki::Error) -> Error {
    let reason = match error {
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        webpki::Error::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    reason.into()
}
