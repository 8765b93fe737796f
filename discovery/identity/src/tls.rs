//! TLS 1.3 configurations that follow an [`Identity`]: a new certificate or bundle counts from the next handshake on,
//! and connections that live go on.

use crate::certificate::WorkloadCertificate;
use crate::verifier::{Expected, SpiffeVerifier};
use crate::{Bundles, IdentityError, identity_of};
use arc_swap::ArcSwap;
use model::WorkloadIdentity;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName};
use std::sync::Arc;
use tokio::sync::watch;

/// Who this process is and whom it trusts: shared, cheap to clone, replaced while it runs.
#[derive(Debug, Clone)]
pub struct Identity {
    certificate: Arc<ArcSwap<WorkloadCertificate>>,
    bundles: Arc<ArcSwap<Bundles>>,
    version: Arc<watch::Sender<u64>>,
}

/// Whether a server wants to see a certificate. One that is shown must always verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// No connection without one.
    Required,
    /// A client without one is let in, without an identity.
    Optional,
}

#[derive(Debug)]
struct CurrentCertificate(Arc<ArcSwap<WorkloadCertificate>>);

// === impl Identity ===

impl Identity {
    /// A process with this certificate, trusting these domains.
    pub fn new(certificate: WorkloadCertificate, bundles: Bundles) -> Self {
        Self {
            certificate: Arc::new(ArcSwap::from_pointee(certificate)),
            bundles: Arc::new(ArcSwap::from_pointee(bundles)),
            version: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Shows another certificate from the next handshake on.
    pub fn set_certificate(&self, certificate: WorkloadCertificate) {
        self.certificate.store(Arc::new(certificate));
        self.version.send_modify(|version| *version += 1);
    }

    /// Trusts other roots from the next handshake on.
    pub fn set_bundles(&self, bundles: Bundles) {
        self.bundles.store(Arc::new(bundles));
        self.version.send_modify(|version| *version += 1);
    }

    /// The certificate of the moment.
    pub fn certificate(&self) -> Arc<WorkloadCertificate> {
        self.certificate.load_full()
    }

    /// The bundles of the moment.
    pub fn bundles(&self) -> Arc<Bundles> {
        self.bundles.load_full()
    }

    /// Who this process is.
    pub fn id(&self) -> WorkloadIdentity {
        self.certificate.load().identity.clone()
    }

    /// Changes whenever the certificate or the bundles do.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}

// === impl CurrentCertificate ===

impl CurrentCertificate {
    fn key(&self) -> Arc<CertifiedKey> {
        self.0.load().certified.clone()
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }
}

impl ResolvesClientCert for CurrentCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The cryptography of every connection: aws-lc-rs, with X25519MLKEM768 first.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// How `identity` connects to one of `expected`: TLS 1.3, its certificate shown, the server verified by its SPIFFE id.
/// The DNS name is not checked; it is only sent as SNI. Make one per set of expected identities and keep it: it follows
/// the identity's changes by itself, and using it for a connection costs one `Arc` clone.
pub fn client_config(identity: &Identity, expected: Expected, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let certificate = Arc::new(CurrentCertificate(identity.certificate.clone()));
    client(identity.bundles.clone(), expected, alpn, Some(certificate))
}

/// How a process without a certificate connects, to ask for its first one.
pub fn anonymous_client_config(bundles: Bundles, expected: Expected, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    client(Arc::new(ArcSwap::from_pointee(bundles)), expected, alpn, None)
}

/// How `identity` serves: TLS 1.3, clients verified by their SPIFFE id, no tickets, so that nobody resumes past a change
/// of trust.
pub fn server_config(identity: &Identity, auth: ClientAuth, expected: Expected, alpn: &[&[u8]]) -> Arc<ServerConfig> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let required = auth == ClientAuth::Required;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3")
        .with_client_cert_verifier(Arc::new(SpiffeVerifier::new(
            identity.bundles.clone(),
            expected,
            required,
            algorithms,
        )))
        .with_cert_resolver(Arc::new(CurrentCertificate(identity.certificate.clone())));
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// The identity of a peer whose certificates a configuration of this module has verified; none without certificates.
pub fn peer_identity(certificates: Option<&[CertificateDer<'_>]>) -> Option<WorkloadIdentity> {
    identity_of(certificates?.first()?).ok()
}

/// A name to send as SNI. Underscores are accepted, as in Istio's `outbound_.9080_._.reviews.default.svc.cluster.local`.
/// An IP address is accepted, and is not sent.
pub fn server_name(name: &str) -> Result<ServerName<'static>, IdentityError> {
    ServerName::try_from(name.to_owned()).map_err(|_| IdentityError::ServerName(name.chars().take(256).collect()))
}

fn client(
    bundles: Arc<ArcSwap<Bundles>>,
    expected: Expected,
    alpn: &[&[u8]],
    certificate: Option<Arc<CurrentCertificate>>,
) -> Arc<ClientConfig> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(SpiffeVerifier::new(bundles, expected, false, algorithms)));
    let mut config = match certificate {
        Some(certificate) => builder.with_client_cert_resolver(certificate),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}
