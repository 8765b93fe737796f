//! What stands above a leaf: from the authority's certificate up to a root, each signed by the next.

use crate::authority::{AuthorityError, CA_CERTIFICATE, CA_KEY, CERTIFICATE_CHAIN, ROOT_CERTIFICATE};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// More certificates than this are no chain of anybody's.
const MAX_LENGTH: usize = 8;

/// The authority's certificate, those between, and the root last.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    /// From when the authority's own certificate is valid.
    pub(crate) not_before: SystemTime,
    /// When the first of them ends.
    pub(crate) not_after: SystemTime,
    /// When the root ends.
    pub(crate) root_not_after: SystemTime,
}

// === impl Chain ===

impl Chain {
    /// From the PEM files of Istio's `cacerts`: `key` is the public key that the authority signs with. `between` may be
    /// empty, and may repeat the authority's certificate or the root, as Istio's do; `roots` may hold several.
    pub(crate) fn new(authority: &str, key: &[u8], between: &str, roots: &str) -> Result<Self, AuthorityError> {
        let [authority] = <[_; 1]>::try_from(read(CA_CERTIFICATE, authority)?)
            .map_err(|all| malformed(CA_CERTIFICATE, format!("{} certificates, one is expected", all.len())))?;
        if parse(CA_CERTIFICATE, &authority)?.public_key().subject_public_key.data.as_ref() != key {
            return Err(malformed(CA_KEY, "the key does not belong to ca-cert.pem"));
        }
        let mut above = read(CERTIFICATE_CHAIN, between)?;
        let roots = read(ROOT_CERTIFICATE, roots)?;
        if roots.is_empty() {
            return Err(malformed(ROOT_CERTIFICATE, "no certificate in it, at least one is expected"));
        }
        above.extend(roots.iter().cloned());
        let mut certificates = vec![authority];
        loop {
            let last = certificates.last().expect("it begins with the authority's certificate");
            check_authority(last)?;
            if roots.contains(last) {
                break;
            }
            let next = above.iter().find(|candidate| signed_by(last, candidate) && !certificates.contains(candidate));
            let next =
                next.ok_or_else(|| malformed(CERTIFICATE_CHAIN, "it does not lead from ca-cert.pem to a root"))?;
            certificates.push(next.clone());
            if certificates.len() > MAX_LENGTH {
                return Err(malformed(CERTIFICATE_CHAIN, format!("longer than {MAX_LENGTH} certificates")));
            }
        }
        let ends = certificates.iter().map(not_after).collect::<Result<Vec<_>, _>>()?;
        let first = parse(CA_CERTIFICATE, &certificates[0])?;
        let not_before = moment(first.validity().not_before.timestamp());
        let not_after = *ends.iter().min().expect("there is at least one");
        let root_not_after = *ends.last().expect("there is at least one");
        Ok(Self { certificates, not_before, not_after, root_not_after })
    }
}

fn read(file: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| malformed(file, error.to_string()))
}

fn parse<'a>(file: &'static str, der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, AuthorityError> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|error| malformed(file, error.to_string()))
}

fn check_authority(der: &CertificateDer<'_>) -> Result<(), AuthorityError> {
    let certificate = parse(CERTIFICATE_CHAIN, der)?;
    let signs = match certificate.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
        Err(_) => false,
    };
    if certificate.is_ca() && signs {
        return Ok(());
    }
    let subject = certificate.subject();
    Err(malformed(
        CA_CERTIFICATE,
        format!("{subject:?} may not sign certificates (CA:TRUE and keyCertSign are expected)"),
    ))
}

fn signed_by(certificate: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> bool {
    let (Ok(certificate), Ok(issuer)) = (parse(CERTIFICATE_CHAIN, certificate), parse(CERTIFICATE_CHAIN, issuer))
    else {
        return false;
    };
    certificate.issuer() == issuer.subject() && certificate.verify_signature(Some(issuer.public_key())).is_ok()
}

fn not_after(der: &CertificateDer<'static>) -> Result<SystemTime, AuthorityError> {
    Ok(moment(parse(CERTIFICATE_CHAIN, der)?.validity().not_after.timestamp()))
}

fn moment(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or_default())
}

fn malformed(file: &'static str, reason: impl Into<String>) -> AuthorityError {
    AuthorityError::Malformed(file, reason.into())
}
