//! TLS with clients from outside of the mesh: certificates of any kind, clients verified by roots that the user names.

use crate::IdentityError;
use crate::certificate::{fingerprint, parse};
use crate::tls::provider;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CipherSuite, DigitallySignedStruct, DistinguishedName, Error, NamedGroup, RootCertStore, ServerConfig,
    SignatureScheme, SupportedCipherSuite,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use std::borrow::Cow;
use std::fmt::{Display, Write};
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// How a proxy at the edge takes TLS.
#[derive(Debug, Default)]
pub struct EdgeTls<'a> {
    /// Certificate chains with their keys, as PEM; the first that suits a client is shown. At least one.
    pub certificates: Vec<(&'a [u8], &'a [u8])>,
    /// How clients are verified; they are not asked if absent.
    pub clients: Option<EdgeClients<'a>>,
    /// What is offered in ALPN, the most preferred first.
    pub alpn: &'a [String],
    /// Whether TLS 1.2 is spoken.
    pub tls12: bool,
    /// Whether TLS 1.3 is spoken.
    pub tls13: bool,
    /// The cipher suites of TLS 1.2 by OpenSSL's names; all that are safe if empty. Without one that is known, TLS 1.2
    /// is not spoken.
    pub ciphers: &'a [String],
    /// The key exchanges by Envoy's names, the most preferred first; all that are safe if empty.
    pub curves: &'a [String],
}

/// How clients are verified.
#[derive(Debug, Default)]
pub struct EdgeClients<'a> {
    /// The roots, as PEM.
    pub roots: &'a [u8],
    /// What the roots have revoked, as PEM.
    pub revoked: Option<&'a [u8]>,
    /// Whether a client without a certificate is refused.
    pub required: bool,
    /// Names, identities or names of DNS, of which a client must show one; any if empty.
    pub names: &'a [String],
    /// SHA-256 of the public keys that clients may have, in base64; any if empty.
    pub public_keys: &'a [String],
    /// SHA-256 of the certificates that clients may have, in hexadecimal; any if empty.
    pub certificates: &'a [String],
    /// Whether a client is let in all the same if its certificate does not hold. It still has to have the key.
    pub insecure: bool,
}

/// Shows the first certificate that the client can verify; the first of all if it can verify none.
#[derive(Debug)]
struct Certificates(Vec<Arc<CertifiedKey>>);

/// Verifies a client's chain, then what else was asked of it.
#[derive(Debug)]
struct Verifier {
    chain: Arc<dyn ClientCertVerifier>,
    names: Vec<String>,
    public_keys: Vec<String>,
    certificates: Vec<String>,
    insecure: bool,
}

/// A server's configuration for clients from outside of the mesh.
///
/// # Errors
/// If a certificate, a key or roots cannot be used; the error says which.
pub fn edge_server_config(tls: &EdgeTls<'_>) -> Result<Arc<ServerConfig>, IdentityError> {
    let cipher_suites = suites(tls.ciphers);
    let tls12 = tls.tls12 && cipher_suites.iter().any(|suite| suite.tls13().is_none());
    let provider = Arc::new(CryptoProvider { cipher_suites, kx_groups: curves(tls.curves), ..(*provider()).clone() });
    let versions: Vec<_> = [(tls12, &TLS12), (tls.tls13, &TLS13)]
        .into_iter()
        .filter_map(|(is_spoken, version)| is_spoken.then_some(version))
        .collect();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(|error| unusable("TLS versions", &error))?;
    let builder = match &tls.clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(verifier(clients, &provider)?),
    };
    let shown = tls.certificates.iter().map(|(chain, key)| certified(chain, key, &provider));
    let shown = shown.collect::<Result<Vec<_>, _>>()?;
    if shown.is_empty() {
        return Err(IdentityError::Edge("certificate: one at least is expected".to_owned()));
    }
    let mut config = builder.with_cert_resolver(Arc::new(Certificates(shown)));
    config.alpn_protocols = tls.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

/// What a verified client's certificate says, as Envoy writes it into `x-forwarded-client-cert`:
/// `Hash=…;Subject="…";URI=…;DNS=…`.
pub fn description(leaf: &CertificateDer<'_>) -> String {
    let mut text = format!("Hash={}", fingerprint(leaf));
    let Ok(parsed) = parse(leaf) else { return text };
    let quoted = subject(&parsed).replace('\\', "\\\\").replace('"', "\\\"");
    let _ = write!(text, ";Subject=\"{quoted}\"");
    let names = names(&parsed);
    if !names.iter().any(|name| matches!(name, Name::Uri(_))) {
        text.push_str(";URI=");
    }
    for name in names {
        // A text takes all that is written into it.
        let _ = match name {
            Name::Uri(uri) => write!(text, ";URI={}", value(uri)),
            Name::Dns(dns) => write!(text, ";DNS={}", value(dns)),
        };
    }
    text
}

/// A value of the field, in quotes if it could be read as more than one (Envoy's documentation of the field asks for that).
fn value(name: &str) -> Cow<'_, str> {
    if name.contains([',', ';', '"']) {
        return Cow::Owned(format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")));
    }
    Cow::Borrowed(name)
}

enum Name<'a> {
    Uri(&'a str),
    Dns(&'a str),
}

/// Identities first, then names of DNS.
fn names<'a>(certificate: &'a X509Certificate<'_>) -> Vec<Name<'a>> {
    let all = certificate.subject_alternative_name().ok().flatten();
    let all = all.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let uris = all.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(Name::Uri(uri)),
        _ => None,
    });
    let dns = all.iter().filter_map(|name| match name {
        GeneralName::DNSName(dns) => Some(Name::Dns(dns)),
        _ => None,
    });
    uris.chain(dns).collect()
}

/// The subject as RFC 2253 writes it: the last part first.
fn subject(certificate: &X509Certificate<'_>) -> String {
    let all = x509_parser::objects::oid_registry();
    let mut parts: Vec<String> = certificate
        .subject()
        .iter_attributes()
        .map(|attribute| {
            let oid = attribute.attr_type();
            let name = all.get(oid).map_or_else(|| oid.to_id_string(), |entry| short(entry.sn()).to_owned());
            format!("{name}={}", attribute.as_str().unwrap_or_default())
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

fn short(name: &str) -> &str {
    match name {
        "commonName" => "CN",
        "organizationName" => "O",
        "organizationalUnitName" => "OU",
        "countryName" => "C",
        "stateOrProvinceName" => "ST",
        "localityName" => "L",
        other => other,
    }
}

fn certified(chain: &[u8], key: &[u8], provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, IdentityError> {
    let certificates = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| unusable("certificate chain", &error))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| unusable("private key", &error))?;
    let certified = CertifiedKey::from_der(certificates, key, provider);
    certified.map(Arc::new).map_err(|error| unusable("certificate and key", &error))
}

fn verifier(clients: &EdgeClients<'_>, provider: &Arc<CryptoProvider>) -> Result<Arc<Verifier>, IdentityError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(clients.roots) {
        let certificate = certificate.map_err(|error| unusable("clients' roots", &error))?;
        roots.add(certificate).map_err(|error| unusable("clients' roots", &error))?;
    }
    let revoked = CertificateRevocationListDer::pem_slice_iter(clients.revoked.unwrap_or_default());
    let revoked = revoked.collect::<Result<Vec<_>, _>>().map_err(|error| unusable("revocation list", &error))?;
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).with_crls(revoked);
    let builder = if clients.required { builder } else { builder.allow_unauthenticated() };
    Ok(Arc::new(Verifier {
        chain: builder.build().map_err(|error| unusable("clients' roots", &error))?,
        names: clients.names.to_vec(),
        public_keys: clients.public_keys.to_vec(),
        certificates: clients.certificates.iter().map(|hash| hash.replace(':', "").to_ascii_lowercase()).collect(),
        insecure: clients.insecure,
    }))
}

/// The suites that `wanted` names, or all; those of TLS 1.3 are always there.
fn suites(wanted: &[String]) -> Vec<SupportedCipherSuite> {
    let is_wanted = |suite: &SupportedCipherSuite| {
        let name = openssl_name(suite.suite());
        suite.tls13().is_some() || wanted.is_empty() || wanted.iter().any(|wanted| *wanted == name)
    };
    provider().cipher_suites.iter().filter(|suite| is_wanted(suite)).copied().collect()
}

fn openssl_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "",
    }
}

/// The key exchanges that `wanted` names, or all; none if none of them is known, and then nobody gets in.
fn curves(wanted: &[String]) -> Vec<&'static dyn SupportedKxGroup> {
    let all = provider().kx_groups.clone();
    if wanted.is_empty() {
        return all;
    }
    let known = |name: &String| {
        let group = match name.as_str() {
            "X25519MLKEM768" => NamedGroup::X25519MLKEM768,
            "X25519" => NamedGroup::X25519,
            "P-256" => NamedGroup::secp256r1,
            "P-384" => NamedGroup::secp384r1,
            _ => return None,
        };
        all.iter().find(|exchange| exchange.name() == group).copied()
    };
    wanted.iter().filter_map(known).collect()
}

fn unusable(what: &str, error: &dyn Display) -> IdentityError {
    IdentityError::Edge(format!("{what}: {error}"))
}

// === impl Certificates ===

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let suits = |shown: &&Arc<CertifiedKey>| shown.key.choose_scheme(hello.signature_schemes()).is_some();
        self.0.iter().find(suits).or(self.0.first()).cloned()
    }
}

// === impl Verifier ===

impl Verifier {
    fn admits(&self, leaf: &CertificateDer<'_>) -> bool {
        let Ok(parsed) = parse(leaf) else { return false };
        let bears = |wanted: &String| {
            names(&parsed).iter().any(|name| match name {
                Name::Uri(uri) => uri == wanted,
                Name::Dns(dns) => dns.eq_ignore_ascii_case(wanted),
            })
        };
        let is_pinned = || {
            let key = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, parsed.public_key().raw);
            let key = STANDARD.encode(key);
            self.public_keys.contains(&key) || self.certificates.contains(&fingerprint(leaf))
        };
        (self.names.is_empty() || self.names.iter().any(bears))
            && ((self.public_keys.is_empty() && self.certificates.is_empty()) || is_pinned())
    }
}

impl ClientCertVerifier for Verifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.insecure {
            return Ok(ClientCertVerified::assertion());
        }
        let verified = self.chain.verify_client_cert(leaf, intermediates, now)?;
        if self.admits(leaf) {
            return Ok(verified);
        }
        Err(Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    /// B13: a name in a certificate is one value of the field, whatever is in it.
    #[test]
    fn no_name_says_more_than_one_value() {
        let mut params = CertificateParams::default();
        let dns = "a,By=x;URI=spiffe://a/ns/b/sa/admin".try_into().expect("ASCII");
        let uri = "https://x/?a=\"b\"".try_into().expect("ASCII");
        params.subject_alt_names = vec![SanType::DnsName(dns), SanType::URI(uri)];
        let certificate = params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
        let text = description(certificate.der());
        let (_, names) = text.split_once(";URI=").expect("names");
        assert_eq!(names, r#""https://x/?a=\"b\"";DNS="a,By=x;URI=spiffe://a/ns/b/sa/admin""#);
    }
}
