//! A certificate request (PKCS#10, RFC 2986), of which only the public key is used.
//!
//! What a request asks for beside that is not granted. A name or a power that it would not get refuses it, rather than
//! surprise its sender.

use crate::AuthorityError;
use model::WorkloadIdentity;
use rcgen::SubjectPublicKeyInfo;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_PKCS1_SHA1WITHRSA,
    OID_SHA1_WITH_RSA,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo as ParsedKey;

/// The longest request, in bytes of PEM.
const MAX_BYTES: usize = 16 << 10;
const KEYS: &str = "P-256, P-384 and RSA of 2048 to 8192 bits are accepted";

/// The public key of `csr` (PEM), whose sender was found to be `identity`. An error if it is not exactly one well-formed
/// request, signed by its own key, of a kind that every proxy can use, for this identity or none in particular.
pub(crate) fn public_key(csr: &str, identity: &WorkloadIdentity) -> Result<SubjectPublicKeyInfo, AuthorityError> {
    let der = der(csr)?;
    let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|error| refuse(error.to_string()))?;
    if !rest.is_empty() {
        return Err(refuse("bytes follow the request"));
    }
    let info = &request.certification_request_info;
    accept_key(&info.subject_pki)?;
    let algorithm = &request.signature_algorithm.algorithm;
    if *algorithm == OID_PKCS1_SHA1WITHRSA || *algorithm == OID_SHA1_WITH_RSA {
        return Err(refuse("it is signed with SHA-1"));
    }
    request.verify_signature().map_err(|_| refuse("it is not signed by its own key"))?;
    for extension in request.requested_extensions().into_iter().flatten() {
        accept_extension(extension, identity)?;
    }
    Ok(SubjectPublicKeyInfo::from_der(info.subject_pki.raw)?)
}

fn der(csr: &str) -> Result<CertificateSigningRequestDer<'static>, AuthorityError> {
    if csr.len() > MAX_BYTES {
        return Err(refuse(format!("{} bytes, at most {MAX_BYTES} are accepted", csr.len())));
    }
    if csr.matches("-----BEGIN ").count() != 1 {
        return Err(refuse("exactly one PEM block is expected"));
    }
    CertificateSigningRequestDer::from_pem_slice(csr.as_bytes())
        .map_err(|_| refuse("one PEM block CERTIFICATE REQUEST is expected"))
}

fn accept_key(key: &ParsedKey<'_>) -> Result<(), AuthorityError> {
    let parsed = key.parsed().map_err(|_| refuse(format!("the public key cannot be parsed: {KEYS}")))?;
    let named = |curve| key.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok()).is_some_and(|oid| oid == curve);
    let good = match &parsed {
        PublicKey::RSA(rsa) if key.algorithm.algorithm == OID_PKCS1_RSAENCRYPTION => {
            (2048..=8192).contains(&rsa.key_size()) && rsa.try_exponent().is_ok_and(|e| e >= 3)
        }
        // Uncompressed points of named curves: every TLS library takes them.
        PublicKey::EC(point) if key.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY => match point.data() {
            [4, coordinates @ ..] if coordinates.len() == 64 => named(OID_EC_P256),
            [4, coordinates @ ..] if coordinates.len() == 96 => named(OID_NIST_EC_P384),
            _ => false,
        },
        _ => false,
    };
    if good { Ok(()) } else { Err(refuse(format!("the public key is of a kind that is not accepted: {KEYS}"))) }
}

fn accept_extension(extension: &ParsedExtension<'_>, identity: &WorkloadIdentity) -> Result<(), AuthorityError> {
    match extension {
        ParsedExtension::SubjectAlternativeName(names) => match names.general_names[..] {
            [GeneralName::URI(uri)] if uri == identity.to_string() => Ok(()),
            _ => Err(refuse(format!("it names somebody else; its sender is {identity}"))),
        },
        ParsedExtension::BasicConstraints(constraints) if constraints.ca => {
            Err(refuse("it asks to be a certificate authority"))
        }
        ParsedExtension::KeyUsage(usage) if usage.key_cert_sign() || usage.crl_sign() => {
            Err(refuse("it asks to sign certificates"))
        }
        ParsedExtension::ExtendedKeyUsage(usage)
            if usage.any
                || usage.code_signing
                || usage.email_protection
                || usage.time_stamping
                || usage.ocsp_signing
                || !usage.other.is_empty() =>
        {
            Err(refuse("it asks for uses beyond serverAuth and clientAuth"))
        }
        ParsedExtension::NameConstraints(_) => Err(refuse("it has name constraints")),
        ParsedExtension::ParseError { .. } => Err(refuse("it has an extension that cannot be parsed")),
        _ => Ok(()),
    }
}

fn refuse(reason: impl Into<String>) -> AuthorityError {
    AuthorityError::Request(reason.into())
}
