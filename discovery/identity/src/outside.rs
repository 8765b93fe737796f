//! TLS towards servers outside of the mesh: the roots of files, names of any kind.

use crate::IdentityError;
use crate::tls::provider;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::path::Path;
use std::sync::Arc;
use webpki::EndEntityCert;

/// A client's configuration for a server outside of the mesh. `roots` is a PEM file; without one any certificate will
/// do. `names` are those of which the server must show one, beside or instead of the server name; `certificate` is a
/// chain and its key in PEM files.
///
/// # Errors
/// If a file cannot be read or used.
pub fn outside_client_config(
    roots: Option<&Path>,
    names: &[String],
    certificate: Option<(&Path, &Path)>,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, IdentityError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("TLS versions", &error))?;
    let inner = roots.map(verifier).transpose()?;
    let verifier = Arc::new(Verifier { inner, names: names.to_vec() });
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let read = CertificateDer::pem_file_iter(chain).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let certificates = read.map_err(|error| unusable(&chain.display().to_string(), &error))?;
            let key_der = PrivateKeyDer::from_pem_file(key);
            let key_der = key_der.map_err(|error| unusable(&key.display().to_string(), &error))?;
            let built = builder.with_client_auth_cert(certificates, key_der);
            built.map_err(|error| unusable(&chain.display().to_string(), &error))?
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

fn verifier(roots: &Path) -> Result<Arc<WebPkiServerVerifier>, IdentityError> {
    let wrong = |error: &dyn std::fmt::Display| unusable(&roots.display().to_string(), error);
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(roots).map_err(|error| wrong(&error))? {
        // Bundles of the Web's roots hold some that no longer parse; the others are as good as before.
        let _ = store.add(certificate.map_err(|error| wrong(&error))?);
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider()).build().map_err(|error| wrong(&error))
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
