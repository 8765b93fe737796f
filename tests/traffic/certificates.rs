//! The certificates that gateways show and clients show them, and what stands for them in a case's resources.
//!
//! `$crt(NAME)` and `$key(NAME)` are a certificate and its key, `$ca(NAME)` roots and `$crl(NAME)` what they revoked, each
//! as PEM in base64, which a Secret takes; `$file(NAME.crt)` and so on are the paths of the same; `$sha256(NAME)` and
//! `$spki(NAME)` are the pins of a certificate.

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, PublicKeyData,
    RevokedCertParams, RsaKeySize, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// All of them.
pub struct Certificates {
    folder: PathBuf,
    leaves: BTreeMap<&'static str, Leaf>,
    /// What stands for what.
    places: Vec<(String, String)>,
}

struct Leaf {
    der: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// A certificate to be made: its name, its names of DNS, and whether its key is RSA.
struct Wanted(&'static str, &'static [&'static str], bool);

/// What gateways show, signed by the roots `web`.
const SERVERS: [Wanted; 5] = [
    Wanted("shop", &["shop.example"], false),
    Wanted("shop-rsa", &["shop.example"], true),
    Wanted("shop-new", &["shop.example"], false),
    Wanted("cart", &["cart.example"], false),
    Wanted("wild", &["*.wild.example"], false),
];
/// What clients show, signed by the roots `clients`.
const CLIENTS: [Wanted; 3] = [
    Wanted("alice", &["alice.clients.example"], false),
    Wanted("bob", &["bob.clients.example"], false),
    Wanted("revoked", &["revoked.clients.example"], false),
];
/// What a client shows that nobody knows, signed by the roots `others`.
const STRANGERS: [Wanted; 1] = [Wanted("stranger", &["alice.clients.example"], false)];
const REVOKED: &str = "revoked";
const HOUR: Duration = Duration::from_hours(1);

// === impl Certificates ===

impl Certificates {
    /// Makes all, with their files in `folder`.
    pub fn make(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut all = Self { folder: folder.to_owned(), leaves: BTreeMap::new(), places: Vec::new() };
        for (name, wanted) in [("web", &SERVERS[..]), ("clients", &CLIENTS), ("others", &STRANGERS)] {
            let issuer = all.authority(name)?;
            for each in wanted {
                all.leaf(&issuer, each)?;
            }
            all.revoke(&issuer, name)?;
        }
        Ok(all)
    }

    /// `text` with what stands in it for certificates replaced by them.
    pub fn filled(&self, text: &str) -> String {
        self.places.iter().fold(text.to_owned(), |text, (place, value)| text.replace(place, value))
    }

    /// The certificate of that name with its key.
    pub fn client(&self, name: &str) -> anyhow::Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
        let leaf = self.leaves.get(name).with_context(|| format!("no certificate is named {name:?}"))?;
        Ok((leaf.der.clone(), leaf.key.clone_key()))
    }

    /// The name of a certificate that was shown.
    pub fn name(&self, shown: &CertificateDer<'_>) -> Option<&'static str> {
        self.leaves.iter().find(|(_, leaf)| leaf.der == *shown).map(|(name, _)| *name)
    }

    fn authority(&mut self, name: &str) -> anyhow::Result<Issuer<'static, KeyPair>> {
        let key = KeyPair::generate()?;
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key)?.pem();
        self.keep("ca", name, &pem)?;
        Ok(Issuer::new(params, key))
    }

    fn leaf(&mut self, issuer: &Issuer<'static, KeyPair>, wanted: &Wanted) -> anyhow::Result<()> {
        let Wanted(name, hosts, is_rsa) = wanted;
        let key = if *is_rsa {
            KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?
        } else {
            KeyPair::generate()?
        };
        let mut params = params(name);
        params.subject_alt_names =
            hosts.iter().map(|host| Ok(SanType::DnsName((*host).try_into()?))).collect::<anyhow::Result<_>>()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.is_ca = IsCa::ExplicitNoCa;
        params.serial_number = Some(serial(name));
        let certificate = params.signed_by(&key, issuer)?;
        let der = certificate.der().clone();
        self.keep("crt", name, &certificate.pem())?;
        self.keep("key", name, &key.serialize_pem())?;
        self.places.push((format!("$sha256({name})"), identity::fingerprint(&der)));
        let public = CertificateDer::from(key.subject_public_key_info());
        self.places.push((format!("$spki({name})"), STANDARD.encode(bytes(&identity::fingerprint(&public)))));
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        self.leaves.insert(name, Leaf { der, key });
        Ok(())
    }

    fn revoke(&mut self, issuer: &Issuer<'static, KeyPair>, name: &str) -> anyhow::Result<()> {
        let now = SystemTime::now();
        let revoked = RevokedCertParams {
            serial_number: serial(REVOKED),
            revocation_time: (now - HOUR).into(),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: (now - HOUR).into(),
            next_update: (now + 24 * HOUR).into(),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let pem = list.signed_by(issuer)?.pem()?;
        self.keep("crl", name, &pem)
    }

    fn keep(&mut self, kind: &str, name: &str, pem: &str) -> anyhow::Result<()> {
        let file = format!("{name}.{kind}");
        let path = self.folder.join(&file);
        fs::write(&path, pem).with_context(|| format!("write {}", path.display()))?;
        self.places.push((format!("$file({file})"), path.display().to_string()));
        self.places.push((format!("${kind}({name})"), STANDARD.encode(pem)));
        Ok(())
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (SystemTime::now() - HOUR).into();
    params.not_after = (SystemTime::now() + 24 * HOUR).into();
    params
}

/// A number that only this name has.
fn serial(name: &str) -> SerialNumber {
    SerialNumber::from_slice(name.as_bytes())
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let pair = |at: usize| u8::from_str_radix(&hexadecimal[at..at + 2], 16).expect("hexadecimal");
    (0..hexadecimal.len()).step_by(2).map(pair).collect()
}
