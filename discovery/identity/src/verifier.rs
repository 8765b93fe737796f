//! Checks a peer's certificate the SPIFFE way: whose it claims to be first, and then only by that domain's roots.
//!
//!     leaf ─▶ exactly one URI name ─▶ its trust domain's roots ─▶ path, time, usage ─▶ is it who was expected?

use crate::bundle::Bundles;
use crate::certificate::identity_of;
use arc_swap::ArcSwap;
use model::WorkloadIdentity;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::collections::BTreeSet;
use std::sync::Arc;
use webpki::{EndEntityCert, KeyUsage};

/// Who may be at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Anybody for whom a known trust domain vouches.
    Any,
    /// One of these.
    Exactly(Arc<BTreeSet<WorkloadIdentity>>),
}

/// A well-formed certificate of somebody who was not expected.
#[derive(Debug, thiserror::Error)]
enum Stranger {
    #[error("the peer is {0}, which is not expected here")]
    Unexpected(WorkloadIdentity),
    #[error("no roots are known for trust domain {0}")]
    UnknownDomain(model::TrustDomain),
}

/// Verifies both servers and clients.
#[derive(Debug)]
pub(crate) struct SpiffeVerifier {
    roots: Arc<ArcSwap<Bundles>>,
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

    fn admits(&self, identity: &WorkloadIdentity) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(identities) => identities.contains(identity),
        }
    }
}

// === impl SpiffeVerifier ===

impl SpiffeVerifier {
    pub(crate) fn new(roots: Arc<ArcSwap<Bundles>>, expected: Expected, client_required: bool) -> Self {
        let algorithms = crate::tls::provider().signature_verification_algorithms;
        Self { roots, expected, client_required, algorithms }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<(), Error> {
        let other = |error| Error::InvalidCertificate(CertificateError::Other(OtherError(error)));
        let claimed = identity_of(leaf).map_err(|error| other(Arc::new(error)))?;
        let bundles = self.roots.load();
        let roots = bundles.roots(&claimed.trust_domain);
        if roots.is_empty() {
            return Err(other(Arc::new(Stranger::UnknownDomain(claimed.trust_domain))));
        }
        let parsed = EndEntityCert::try_from(leaf).map_err(|_| CertificateError::BadEncoding)?;
        parsed.verify_for_usage(self.algorithms.all, roots, intermediates, now, usage, None, None).map_err(refusal)?;
        if self.expected.admits(&claimed) { Ok(()) } else { Err(other(Arc::new(Stranger::Unexpected(claimed)))) }
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
        self.verify(end_entity, intermediates, now, KeyUsage::server_auth())?;
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
        self.verify(end_entity, intermediates, now, KeyUsage::client_auth())?;
        Ok(ClientCertVerified::assertion())
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
