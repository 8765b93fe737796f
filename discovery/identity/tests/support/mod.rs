//! Roots, leaves good and bad, and handshakes over loopback.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use isthmus_identity::{Bundles, Identity, WorkloadCertificate, provider, server_name};
use model::TrustBundle;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

pub const HOUR: i64 = 3600;
pub const REVIEWS: &str = "spiffe://east.example/ns/bookinfo/sa/reviews";
pub const RATINGS: &str = "spiffe://east.example/ns/bookinfo/sa/ratings";
pub const WEST: &str = "spiffe://west.example/ns/bookinfo/sa/reviews";

/// A certificate authority of a test.
pub struct Root {
    pub issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// What a leaf is made of; times in seconds from now.
#[derive(Clone)]
pub struct Leaf {
    pub uris: Vec<String>,
    pub usages: Vec<ExtendedKeyUsagePurpose>,
    pub from: i64,
    pub until: i64,
    pub ca: bool,
}

/// Shows one certificate, whatever it is.
#[derive(Debug)]
pub struct Fixed(pub Arc<CertifiedKey>);

impl Root {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = authority(name);
        let pem = params.self_signed(&key).expect("a root").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// An intermediate below this one: its issuer and its PEM.
    pub fn below(&self, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = authority(name);
        let pem = params.signed_by(&key, &self.issuer).expect("an intermediate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub fn bundle(&self, domain: &str) -> TrustBundle {
        TrustBundle { trust_domain: domain.parse().expect("a trust domain"), pem: self.pem.as_str().into() }
    }

    /// The leaf's PEM and its key's.
    pub fn sign(&self, leaf: &Leaf) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let certificate = leaf.params().signed_by(&key, &self.issuer).expect("a leaf");
        (certificate.pem(), key.serialize_pem())
    }

    pub fn certificate(&self, uri: &str) -> WorkloadCertificate {
        let (chain, key) = self.sign(&Leaf::of(uri));
        WorkloadCertificate::from_pem(&chain, &key).expect("a good certificate")
    }

    pub fn fixed(&self, leaf: &Leaf) -> Fixed {
        let (chain, key) = self.sign(leaf);
        Fixed::new(&chain, &key)
    }
}

impl Leaf {
    pub fn of(uri: &str) -> Self {
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Self { uris: vec![uri.to_owned()], usages, from: -300, until: HOUR, ca: false }
    }

    pub fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names =
            self.uris.iter().map(|uri| SanType::URI(uri.as_str().try_into().expect("ASCII"))).collect();
        params.extended_key_usages.clone_from(&self.usages);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.is_ca = if self.ca { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
        params.not_before = moment(self.from).into();
        params.not_after = moment(self.until).into();
        params
    }
}

impl Fixed {
    pub fn new(chain: &str, key: &str) -> Self {
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
        Self(Arc::new(CertifiedKey::new(chain, provider().key_provider.load_private_key(key).expect("a key"))))
    }
}

impl ResolvesClientCert for Fixed {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

pub fn identity(certificate: WorkloadCertificate, bundles: &[TrustBundle]) -> Identity {
    Identity::new(certificate, Bundles::new(bundles).expect("good bundles"))
}

/// One handshake over loopback: the client's end and the server's.
pub async fn handshake(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    sni: &str,
) -> (std::io::Result<client::TlsStream<TcpStream>>, std::io::Result<server::TlsStream<TcpStream>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let accept = async {
        let (stream, _) = listener.accept().await?;
        TlsAcceptor::from(server).accept(stream).await
    };
    let connect = async {
        let stream = TcpStream::connect(address).await?;
        TlsConnector::from(client).connect(server_name(sni).expect("a name"), stream).await
    };
    let both = async { tokio::join!(connect, accept) };
    tokio::time::timeout(Duration::from_secs(10), both).await.expect("a handshake ends")
}

/// Polls until `done`, for at most ten seconds.
pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn moment(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { SystemTime::now() - distance } else { SystemTime::now() + distance }
}
