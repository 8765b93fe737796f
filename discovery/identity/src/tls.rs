//! rustls configurations for the mesh: TLS 1.3, certificates on both sides, no resumption.
//!
//! Configurations read the current certificate and roots through [`Identity`] at each handshake, so that a rotation
//! needs no new configuration and drops no connection.

use crate::bundle::Bundles;
use crate::certificate::{CertificateError, WorkloadCertificate, identity_of};
use crate::verifier::{Expected, SpiffeVerifier};
use arc_swap::ArcSwap;
use model::WorkloadIdentity;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use std::sync::Arc;
use tokio::sync::watch;

/// Whether a client without a certificate is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// It is not.
    Required,
    /// It is, as nobody; a certificate that is shown must still verify.
    Optional,
}

/// Who we are and whom we trust, as of now. Cheap to clone; all clones see a change at once.
#[derive(Clone, Debug)]
pub struct Identity(Arc<Current>);

#[derive(Debug)]
struct Current {
    id: WorkloadIdentity,
    certificate: ArcSwap<Held>,
    bundles: Arc<ArcSwap<Bundles>>,
    changed: watch::Sender<()>,
}

/// A certificate with its key made ready for signing, once.
#[derive(Debug)]
struct Held {
    certificate: Arc<WorkloadCertificate>,
    signing: Arc<CertifiedKey>,
}

/// Hands the current certificate to rustls.
#[derive(Debug)]
struct Resolver(Identity);

// === impl Identity ===

impl Identity {
    /// From a first certificate and the roots that are trusted.
    ///
    /// # Errors
    /// If the key does not belong to the certificate.
    pub fn new(certificate: WorkloadCertificate, bundles: Bundles) -> Result<Self, CertificateError> {
        Ok(Self(Arc::new(Current {
            id: certificate.identity.clone(),
            certificate: ArcSwap::from_pointee(Held::new(certificate)?),
            bundles: Arc::new(ArcSwap::from_pointee(bundles)),
            changed: watch::Sender::new(()),
        })))
    }

    /// Whose certificate it is; a rotation never changes that.
    pub fn id(&self) -> &WorkloadIdentity {
        &self.0.id
    }

    /// The current certificate.
    pub fn certificate(&self) -> Arc<WorkloadCertificate> {
        self.0.certificate.load().certificate.clone()
    }

    /// The current roots.
    pub fn bundles(&self) -> Arc<Bundles> {
        self.0.bundles.load_full()
    }

    /// Uses `certificate` for every handshake from now on.
    ///
    /// # Errors
    /// If the key does not belong to it; then the old one stays.
    pub fn set_certificate(&self, certificate: WorkloadCertificate) -> Result<(), CertificateError> {
        self.0.certificate.store(Arc::new(Held::new(certificate)?));
        self.0.changed.send_replace(());
        Ok(())
    }

    /// Trusts `bundles` for every handshake from now on.
    pub fn set_bundles(&self, bundles: Bundles) {
        self.0.bundles.store(Arc::new(bundles));
    }

    /// Changes whenever the certificate does.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }
}

// === impl Held ===

impl Held {
    fn new(certificate: WorkloadCertificate) -> Result<Self, CertificateError> {
        let key = provider()
            .key_provider
            .load_private_key(certificate.key.clone_key())
            .map_err(|error| CertificateError::Malformed("private key", error.to_string()))?;
        let signing = CertifiedKey::new(certificate.chain.clone(), key);
        signing.keys_match().map_err(|_| CertificateError::KeyMismatch)?;
        Ok(Self { certificate: Arc::new(certificate), signing: Arc::new(signing) })
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.0.certificate.load().signing.clone())
    }
}

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.0.certificate.load().signing.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The one cryptography provider of the product.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A client that shows our certificate and accepts `expected` at the other end, whatever server name it asks for.
pub fn client_config(identity: &Identity, expected: Expected, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let verifier = SpiffeVerifier::new(identity.0.bundles.clone(), expected, true);
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(Resolver(identity.clone())));
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    // A resumed session would skip the check of who the peer is now.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// A client without a certificate, as one is before it has its first; accepts `expected` under `bundles`.
pub fn anonymous_client_config(bundles: Bundles, expected: Expected, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let verifier = SpiffeVerifier::new(Arc::new(ArcSwap::from_pointee(bundles)), expected, true);
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// A server that shows our certificate and accepts `expected` at the other end.
pub fn server_config(identity: &Identity, auth: ClientAuth, expected: Expected, alpn: &[&[u8]]) -> Arc<ServerConfig> {
    let verifier = SpiffeVerifier::new(identity.0.bundles.clone(), expected, auth == ClientAuth::Required);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3")
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(Resolver(identity.clone())));
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

/// The identity of a verified peer; nobody if it showed no certificate.
pub fn peer_identity(certificates: Option<&[CertificateDer<'_>]>) -> Option<WorkloadIdentity> {
    identity_of(certificates?.first()?).ok()
}

/// A server name for rustls, such as the SNI form of a service.
///
/// # Errors
/// If it cannot stand in a client's hello.
pub fn server_name(name: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
    ServerName::try_from(name.to_owned())
}
