//! A workload's certificate with its key, and the one identity that it shows.

use crate::{IdentityError, pem, provider};
use model::WorkloadIdentity;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use x509_parser::certificate::Validity;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate chain, its private key, and whose it is. Only [`WorkloadCertificate::from_pem`] and
/// [`WorkloadCertificate::from_der`] make one: the key belongs to the leaf, and the leaf shows one identity.
pub struct WorkloadCertificate {
    /// Whose it is.
    pub identity: WorkloadIdentity,
    /// The leaf first, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key. It never leaves this process, but for the proxy beside it.
    pub key: PrivateKeyDer<'static>,
    /// From when it is valid.
    pub not_before: SystemTime,
    /// Until when it is valid.
    pub not_after: SystemTime,
    pub(crate) certified: Arc<CertifiedKey>,
}

// === impl WorkloadCertificate ===

impl WorkloadCertificate {
    /// From PEM: a chain with the leaf first, and its key. A root at the end of the chain is left out. An error if
    /// either cannot be parsed, the key is another's, or the leaf does not show exactly one identity.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, IdentityError> {
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| IdentityError::malformed("certificate chain", error))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| IdentityError::malformed("private key", error))?;
        Self::from_der(chain, key)
    }

    /// From DER: as [`WorkloadCertificate::from_pem`].
    pub fn from_der(
        mut chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, IdentityError> {
        let leaf = chain.first().ok_or_else(|| IdentityError::malformed("certificate chain", "it is empty"))?;
        let parsed = parse(leaf)?;
        let identity = uri_name(&parsed)?;
        let Validity { not_before, not_after } = *parsed.validity();
        let moment = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0));
        let (not_before, not_after) = (moment(not_before.timestamp()), moment(not_after.timestamp()));
        if chain.len() > 1 && chain.last().is_some_and(|last| parse(last).is_ok_and(|c| c.subject() == c.issuer())) {
            chain.pop();
        }
        let certified = CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider()).map_err(key_error)?;
        Ok(Self { identity, chain, key, not_before, not_after, certified: Arc::new(certified) })
    }

    /// The chain as PEM, the leaf first.
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect()
    }

    /// The private key as PEM. It is a secret: it goes to a file that only its owner reads, or to the proxy beside us.
    pub fn key_pem(&self) -> String {
        let label = match self.key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        pem(label, self.key.secret_der())
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

/// The identity that a leaf shows: exactly one URI name, in Istio's form. Nothing is verified.
pub fn identity_of(leaf: &CertificateDer<'_>) -> Result<WorkloadIdentity, IdentityError> {
    uri_name(&parse(leaf)?)
}

/// When a certificate ends.
pub(crate) fn end_of(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let seconds = parse(certificate).ok()?.validity().not_after.timestamp();
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().ok()?))
}

pub(crate) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, IdentityError> {
    let (rest, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| IdentityError::malformed("certificate", error))?;
    if rest.is_empty() { Ok(parsed) } else { Err(IdentityError::malformed("certificate", "bytes follow its end")) }
}

/// The one identity among a parsed leaf's names.
pub(crate) fn uri_name(certificate: &X509Certificate<'_>) -> Result<WorkloadIdentity, IdentityError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| IdentityError::malformed("subject alternative name", error))?;
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
        _ => Err(IdentityError::UriNames(uris.len())),
    }
}

fn key_error(error: rustls::Error) -> IdentityError {
    match error {
        rustls::Error::InconsistentKeys(_) => IdentityError::KeyMismatch,
        other => IdentityError::malformed("private key", other),
    }
}

/// The SHA-256 fingerprint of a certificate, in lower-case hexadecimal, as Envoy writes it into
/// `x-forwarded-client-cert`.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    let nibble = |bits: u8| char::from_digit(u32::from(bits), 16).unwrap_or('0');
    digest.as_ref().iter().flat_map(|byte| [nibble(byte >> 4), nibble(byte & 0xf)]).collect()
}
