//! TLS towards servers outside of the mesh: roots that the user names, names of any kind.

use crate::IdentityError;
use crate::tls::provider;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use std::sync::Arc;
use webpki::EndEntityCert;

/// How TLS is spoken to a server outside of the mesh.
#[derive(Debug, Default)]
pub struct OutsideServer<'a> {
    /// The roots and what they have revoked, as PEM; without roots any certificate will do.
    pub roots: Option<(&'a [u8], Option<&'a [u8]>)>,
    /// The names of which the server must show one, instead of the server name; that if empty.
    pub names: &'a [String],
    /// A certificate chain of our own and its key, as PEM.
    pub certificate: Option<(&'a [u8], &'a [u8])>,
    /// What is offered in ALPN, the most preferred first.
    pub alpn: &'a [String],
}

/// A client's configuration for a server outside of the mesh.
///
/// # Errors
/// If the roots, the revocations or the certificate cannot be used; the error says which.
pub fn outside_client_config(server: &OutsideServer<'_>) -> Result<Arc<ClientConfig>, IdentityError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("TLS versions", &error))?;
    let inner = server.roots.map(|(roots, revoked)| verifier(roots, revoked)).transpose()?;
    let verifier = Arc::new(Verifier { inner, names: server.names.to_vec() });
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match server.certificate {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let read = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
            let certificates = read.map_err(|error| unusable("certificate", &error))?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| unusable("key", &error))?;
            builder.with_client_auth_cert(certificates, key).map_err(|error| unusable("certificate", &error))?
        }
    };
    config.alpn_protocols = server.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

fn verifier(roots: &[u8], revoked: Option<&[u8]>) -> Result<Arc<WebPkiServerVerifier>, IdentityError> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(roots) {
        // Bundles of the Web's roots hold some that no longer parse; the others are as good as before.
        let _ = store.add(certificate.map_err(|error| unusable("roots", &error))?);
    }
    let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider());
    if let Some(revoked) = revoked {
        let lists = CertificateRevocationListDer::pem_slice_iter(revoked).collect::<Result<Vec<_>, _>>();
        builder = builder.with_crls(lists.map_err(|error| unusable("revocation list", &error))?);
    }
    builder.build().map_err(|error| unusable("roots", &error))
}

fn unusable(what: &str, error: &dyn std::fmt::Display) -> IdentityError {
    IdentityError::Outside(format!("{what}: {error}"))
}

#[derive(Debug)]
struct Verifier {
    /// None: any certificate will do.
    inner: Option<Arc<WebPkiServerVerifier>>,
    names: Vec<String>,
}

impl Verifier {
    /// Whether the certificate bears one of the names: a SPIFFE identity, or a name of DNS.
    fn bears_name(&self, certificate: &CertificateDer<'_>) -> Result<bool, Error> {
        let uri = crate::certificate::identity_of(certificate).ok().map(|identity| identity.to_string());
        let leaf = EndEntityCert::try_from(certificate).map_err(|error| Error::General(error.to_string()))?;
        let bears = |name: &String| {
            uri.as_ref() == Some(name)
                || ServerName::try_from(name.as_str())
                    .is_ok_and(|server| leaf.verify_is_valid_for_subject_name(&server).is_ok())
        };
        Ok(self.names.iter().any(bears))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(leaf, intermediates, server, stapled, now) {
            Ok(verified) if self.names.is_empty() => Ok(verified),
            // As with Envoy, names that are given stand in for the server name.
            Ok(_) => self.named(leaf),
            Err(Error::InvalidCertificate(
                rustls::CertificateError::NotValidForName | rustls::CertificateError::NotValidForNameContext { .. },
            )) if !self.names.is_empty() => self.named(leaf),
            Err(error) => Err(error),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signed,
            &provider().signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &provider().signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl Verifier {
    fn named(&self, leaf: &CertificateDer<'_>) -> Result<ServerCertVerified, Error> {
        if self.bears_name(leaf)? {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(rustls::CertificateError::NotValidForName))
    }
}
