//! A workload's certificate with its key, and the one identity that it shows.

use model::WorkloadIdentity;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::time::{Duration, SystemTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why a certificate was refused.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Not a certificate, or not a key.
    #[error("{0} cannot be parsed: {1}")]
    Malformed(&'static str, String),
    /// SPIFFE X509-SVID, section 2: exactly one URI.
    #[error("the certificate has {0} URI names: exactly one SPIFFE id is expected")]
    UriNames(usize),
    /// The URI is not an identity in Istio's form.
    #[error(transparent)]
    Identity(#[from] model::Invalid),
    /// The key does not belong to the certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
}

/// A certificate chain, its private key, and whose it is.
pub struct WorkloadCertificate {
    /// Whose it is.
    pub identity: WorkloadIdentity,
    /// The leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key. It never leaves this process.
    pub key: PrivateKeyDer<'static>,
    /// From when it is valid.
    pub not_before: SystemTime,
    /// Until when it is valid.
    pub not_after: SystemTime,
}

// === impl WorkloadCertificate ===

impl WorkloadCertificate {
    /// From PEM: a chain with the leaf first, and its key.
    ///
    /// # Errors
    /// If either cannot be parsed, or the leaf does not show exactly one identity.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, CertificateError> {
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| CertificateError::Malformed("certificate chain", error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| CertificateError::Malformed("private key", error.to_string()))?;
        let leaf = chain.first().ok_or_else(|| CertificateError::Malformed("certificate chain", "empty".into()))?;
        let (_, parsed) = X509Certificate::from_der(leaf)
            .map_err(|error| CertificateError::Malformed("certificate", error.to_string()))?;
        let identity = uri_name(&parsed)?;
        let moment = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0));
        let not_before = moment(parsed.validity().not_before.timestamp());
        let not_after = moment(parsed.validity().not_after.timestamp());
        Ok(Self { identity, key, not_before, not_after, chain })
    }
}

impl fmt::Debug for WorkloadCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadCertificate")
            .field("identity", &self.identity)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// The identity that a leaf shows: exactly one URI name, in Istio's form.
///
/// # Errors
/// If it shows none, several, or something else.
pub fn identity_of(leaf: &CertificateDer<'_>) -> Result<WorkloadIdentity, CertificateError> {
    let (rest, parsed) = X509Certificate::from_der(leaf)
        .map_err(|error| CertificateError::Malformed("certificate", error.to_string()))?;
    if !rest.is_empty() {
        return Err(CertificateError::Malformed("certificate", "bytes after its end".into()));
    }
    uri_name(&parsed)
}

fn uri_name(certificate: &X509Certificate<'_>) -> Result<WorkloadIdentity, CertificateError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| CertificateError::Malformed("subject alternative name", error.to_string()))?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let uris: Vec<&str> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris[..] {
        [uri] => Ok(uri.parse()?),
        _ => Err(CertificateError::UriNames(uris.len())),
    }
}
