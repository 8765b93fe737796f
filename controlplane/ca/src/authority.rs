//! The authority: a key, its certificate, and what they may sign.

use crate::chain::Chain;
use crate::csr;
use model::{TrustDomain, WorkloadIdentity};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SerialNumber,
};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Istio's names of the files that hold an authority (`cacerts`).
pub const CA_CERTIFICATE: &str = "ca-cert.pem";
/// The authority's private key.
pub const CA_KEY: &str = "ca-key.pem";
/// The root that others trust.
pub const ROOT_CERTIFICATE: &str = "root-cert.pem";
/// From the authority up to the root; may be missing for a self-signed authority.
pub const CERTIFICATE_CHAIN: &str = "cert-chain.pem";

/// A leaf is valid from a little before now, for clocks that are slow.
const BACKDATE: Duration = Duration::from_mins(5);
const ROOT_LIFE: Duration = Duration::from_hours(3650 * 24);
/// An authority about to expire issues nothing more.
const LAST_HOUR: Duration = Duration::from_hours(1);

/// Why a certificate was not issued, or an authority not loaded.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file of the authority is missing or unreadable.
    #[error("{0}: {1}")]
    File(String, std::io::Error),
    /// A file of the authority does not hold what it should.
    #[error("{0}: {1}")]
    Malformed(&'static str, String),
    /// The request is not one that can be signed.
    #[error("certificate request: {0}")]
    Request(String),
    /// The authority itself is, or is about to be, no longer valid.
    #[error("the certificate authority's own certificate expires within the hour")]
    Expiring,
    /// The library could not.
    #[error("issue: {0}")]
    Issue(#[from] rcgen::Error),
}

/// The only holder of the authority's key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// PEM: what follows the leaf in an answer, the root last.
    upward: Vec<String>,
    root: String,
    chain: Chain,
    longest: Duration,
}

/// The files of a new, self-signed authority, as PEM.
pub struct SelfSigned {
    /// The certificate, which is also the root.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

// === impl SelfSigned ===

impl SelfSigned {
    /// A new root for `domain`: P-256, valid for ten years.
    ///
    /// # Errors
    /// If the library cannot make it.
    pub fn generate(domain: &TrustDomain) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, domain.as_str());
        params.distinguished_name.push(DnType::CommonName, format!("Root of {domain}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let now = SystemTime::now();
        params.not_before = (now - BACKDATE).into();
        params.not_after = (now + ROOT_LIFE).into();
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, key: key.serialize_pem() })
    }
}

// === impl Authority ===

impl Authority {
    /// Loads the authority from a directory with Istio's file names. Leaves live at most `longest`.
    ///
    /// # Errors
    /// If a file is missing, or certificate and key do not fit.
    pub fn load(directory: &Path, longest: Duration) -> Result<Self, AuthorityError> {
        let read = |name: &str| {
            std::fs::read_to_string(directory.join(name))
                .map_err(|error| AuthorityError::File(directory.join(name).display().to_string(), error))
        };
        let chain = match read(CERTIFICATE_CHAIN) {
            Err(AuthorityError::File(_, error)) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            other => other?,
        };
        Self::from_pem(&read(CA_CERTIFICATE)?, &read(CA_KEY)?, &read(ROOT_CERTIFICATE)?, &chain, longest)
    }

    /// From PEM: the authority's certificate and key, the root, and the certificates between them.
    ///
    /// # Errors
    /// If one cannot be parsed, or the key does not belong to the certificate.
    pub fn from_pem(
        certificate: &str,
        key: &str,
        root: &str,
        chain: &str,
        longest: Duration,
    ) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem(key).map_err(|error| AuthorityError::Malformed(CA_KEY, error.to_string()))?;
        let chain = Chain::new(certificate, key.der_bytes(), chain, root)?;
        let issuer = Issuer::from_ca_cert_der(&chain.certificates[0], key)
            .map_err(|error| AuthorityError::Malformed(CA_CERTIFICATE, error.to_string()))?;
        let upward = chain.certificates.iter().map(|certificate| identity::pem("CERTIFICATE", certificate)).collect();
        Ok(Self { issuer, upward, root: root.to_owned(), chain, longest })
    }

    /// The PEM root that others need to trust.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Until when the authority can sign: the end of its own certificate, or of one above it.
    pub fn not_after(&self) -> SystemTime {
        self.chain.not_after
    }

    /// Until when the root is valid.
    pub fn root_not_after(&self) -> SystemTime {
        self.chain.root_not_after
    }

    /// Signs a certificate of `identity` for the public key in `csr` (PEM), and for nothing else in it. It lives for
    /// `ttl`, but never longer than is allowed or than the authority itself. Returns PEM: the leaf first, the root last.
    ///
    /// # Errors
    /// If the request is not exactly one well-formed CSR signed by its own key, or the authority is about to expire.
    pub fn issue(&self, identity: &WorkloadIdentity, csr: &str, ttl: Duration) -> Result<Vec<String>, AuthorityError> {
        self.certify(identity, &csr::public_key(csr, identity)?, ttl)
    }

    /// A certificate of `identity` with a key made here, for the control plane's own use. Returns the PEM chain and key.
    ///
    /// # Errors
    /// If the authority is about to expire.
    pub fn issue_own(&self, identity: &WorkloadIdentity, ttl: Duration) -> Result<(String, String), AuthorityError> {
        let key = KeyPair::generate()?;
        Ok((self.certify(identity, &key, ttl)?.concat(), key.serialize_pem()))
    }

    fn certify(
        &self,
        identity: &WorkloadIdentity,
        key: &impl PublicKeyData,
        ttl: Duration,
    ) -> Result<Vec<String>, AuthorityError> {
        let now = SystemTime::now();
        if self.chain.not_after < now + LAST_HOUR {
            return Err(AuthorityError::Expiring);
        }
        let ttl = if ttl.is_zero() { self.longest } else { ttl.min(self.longest) };
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let uri = identity.to_string().try_into().map_err(AuthorityError::Issue)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from(rand::random::<[u8; 16]>().to_vec()));
        params.not_before = (now - BACKDATE).max(self.chain.not_before).into();
        params.not_after = (now + ttl).min(self.chain.not_after).into();
        let leaf = params.signed_by(key, &self.issuer)?.pem();
        Ok(std::iter::once(leaf).chain(self.upward.iter().cloned()).collect())
    }
}
