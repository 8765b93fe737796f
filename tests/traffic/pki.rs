//! Certificates for servers outside of the mesh, and what stands for them in a case's resources.
//!
//! `$(NAME)` is a PEM in base64, as a Secret takes it, and `$(file NAME)` the path of its file. The names: `roots`, `crl`,
//! `server.crt`, `server.key`, `client.crt` and `client.key`; the server is outside.example, and `crl` says that it is
//! revoked. `others` are roots that vouch for nobody.

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// All of them.
pub struct Pki {
    /// How the server outside takes TLS; a client may show a certificate.
    pub server: Arc<ServerConfig>,
    places: Vec<(String, String)>,
}

const HOST: &str = "outside.example";
const DAY: Duration = Duration::from_hours(24);

// === impl Pki ===

impl Pki {
    /// Makes all, with their files in `folder`.
    pub fn make(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let (issuer, roots) = authority()?;
        let (server, client) = (leaf(&issuer, 1)?, leaf(&issuer, 2)?);
        let mut store = RootCertStore::empty();
        store.add(roots.1.clone())?;
        let verifier = WebPkiClientVerifier::builder(Arc::new(store)).allow_unauthenticated().build()?;
        let key = PrivateKeyDer::try_from(server.key.serialize_der()).map_err(anyhow::Error::msg)?;
        let config = ServerConfig::builder().with_client_cert_verifier(verifier);
        let mut pki =
            Self { server: Arc::new(config.with_single_cert(vec![server.der.clone()], key)?), places: Vec::new() };
        for (name, pem) in [
            ("roots", roots.0),
            ("others", authority()?.1.0),
            ("crl", revocations(&issuer)?),
            ("server.crt", server.pem),
            ("server.key", server.key.serialize_pem()),
            ("client.crt", client.pem),
            ("client.key", client.key.serialize_pem()),
        ] {
            let path = folder.join(name);
            fs::write(&path, &pem).with_context(|| format!("write {}", path.display()))?;
            pki.places.push((format!("$({name})"), STANDARD.encode(&pem)));
            pki.places.push((format!("$(file {name})"), path.display().to_string()));
        }
        Ok(pki)
    }

    /// `text` with what stands in it for certificates replaced by them.
    pub fn filled(&self, text: &str) -> String {
        self.places.iter().fold(text.to_owned(), |text, (place, value)| text.replace(place, value))
    }
}

struct Leaf {
    pem: String,
    der: CertificateDer<'static>,
    key: KeyPair,
}

type Roots = (String, CertificateDer<'static>);

fn authority() -> anyhow::Result<(Issuer<'static, KeyPair>, Roots)> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = named("roots");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let own = params.self_signed(&key)?;
    Ok((Issuer::new(params, key), (own.pem(), own.der().clone())))
}

/// A certificate whose subject is its issuer's counts as its own.
fn named(name: &str) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::CommonName, name);
    all
}

fn leaf(issuer: &Issuer<'static, KeyPair>, serial: u64) -> anyhow::Result<Leaf> {
    let mut params = CertificateParams::new(vec![HOST.to_owned()])?;
    params.distinguished_name = named(HOST);
    params.serial_number = Some(SerialNumber::from(serial));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    Ok(Leaf { pem: certificate.pem(), der: certificate.der().clone(), key })
}

fn revocations(issuer: &Issuer<'static, KeyPair>) -> anyhow::Result<String> {
    let now = SystemTime::now();
    let revoked = RevokedCertParams {
        serial_number: SerialNumber::from(1_u64),
        revocation_time: (now - DAY).into(),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: (now - DAY).into(),
        next_update: (now + DAY).into(),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(list.signed_by(issuer)?.pem()?)
}
