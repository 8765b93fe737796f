//! A router at the edge of the mesh: certificates that change while it runs, and clients that do not behave.

use crate::app::{App, empty, text};
use crate::mesh::{HOST, LIMIT, Mesh, Offer, Running, eventually, reserved, start};
use config::Intent;
use http::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use isthmus_proxy::Settings;
use model::Protocol;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use xds::Snapshot;

const SHOP: &str = "shop.example";

/// An authority of the world outside.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key, as PEM.
struct Pair(String, String);

/// A router with one server of HTTPS, before an application.
struct Edge {
    mesh: Mesh,
    router: Running,
    at: SocketAddr,
    app: App,
    web: Authority,
}

// === impl Authority ===

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).expect("a root").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn leaf(&self, name: &str) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([SHOP.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Pair(params.signed_by(&key, &self.issuer).expect("a leaf").pem(), key.serialize_pem())
    }
}

// === impl Edge ===

impl Edge {
    async fn start(settings: Settings) -> Self {
        let (mesh, at) = (Mesh::new(), reserved());
        let certificate = mesh.root.certificate(&crate::mesh::spiffe("edge"));
        let router = start(certificate, &mesh.root.bundle("east.example"), "edge", settings);
        Self { mesh, router, at, app: App::saying("hi").await, web: Authority::new() }
    }

    /// Tells the router that its server takes TLS by `tls`, and that there is a secret `shop` of these entries.
    fn tell(&mut self, tls: &str, entries: &[(&str, &str)]) {
        let snapshot = self.told(tls, entries);
        self.router.feed(snapshot).expect("accepted");
    }

    fn told(&self, tls: &str, entries: &[(&str, &str)]) -> Snapshot {
        let (ip, port) = (self.at.ip(), self.at.port());
        let mut text = format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw, namespace: shop}}\nspec:\n  \
             servers:\n  - {{port: {{number: {port}, name: https, protocol: HTTPS}}, bind: {ip}, hosts: ['{SHOP}'], \
             tls: {tls}}}\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
             metadata: {{name: shop, namespace: shop}}\nspec:\n  hosts: ['{SHOP}']\n  gateways: [gw]\n  http:\n  \
             - route: [{{destination: {{host: {HOST}}}}}]\n---\napiVersion: v1\nkind: Secret\n\
             metadata: {{name: shop, namespace: shop}}\nstringData:\n  other: text\n"
        );
        for (name, pem) in entries {
            let _ = writeln!(text, "  {name}: |\n    {}", pem.trim_end().replace('\n', "\n    "));
        }
        let documents = resource::parse("edge.yaml", &text).expect("documents").documents;
        let intent = Intent::from_documents(&documents).expect("an intent");
        let endpoints = vec![(self.app.address, None)];
        let offer = Offer { host: HOST, port: 9080, protocol: Protocol::Http, endpoints };
        self.mesh.at_edge(&[offer], &intent)
    }

    fn client(&self, shows: Option<&Pair>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.web.pem.as_bytes()).expect("PEM")).expect("a root");
        let builder = ClientConfig::builder().with_root_certificates(roots);
        Arc::new(match shows {
            None => builder.with_no_client_auth(),
            Some(Pair(chain, key)) => {
                let chain = CertificateDer::from_pem_slice(chain.as_bytes()).expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(vec![chain], key).expect("a pair")
            }
        })
    }

    /// A connection, and the certificate that was shown; none if the handshake fails.
    async fn connect(&self, client: &Arc<ClientConfig>) -> Option<(SendRequest<crate::app::Body>, String)> {
        let tcp = TcpStream::connect(self.at).await.ok()?;
        let name = ServerName::try_from(SHOP).expect("a name");
        let tls = timeout(LIMIT, TlsConnector::from(client.clone()).connect(name, tcp)).await.expect("in time").ok()?;
        let shown = identity::pem("CERTIFICATE", tls.get_ref().1.peer_certificates()?.first()?);
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await.ok()?;
        tokio::spawn(connection);
        Some((sender, shown))
    }

    /// The certificate that was shown before an answer came; none if there was none.
    async fn ask(&self, client: &Arc<ClientConfig>) -> Option<String> {
        let (mut sender, shown) = self.connect(client).await?;
        (answer(&mut sender).await? == "hi").then_some(shown)
    }
}

async fn answer(sender: &mut SendRequest<crate::app::Body>) -> Option<String> {
    let request = Request::get("/").header("host", SHOP).body(empty()).expect("a request");
    Some(text(timeout(LIMIT, sender.send_request(request)).await.expect("in time").ok()?).await)
}

fn same(one: &str, other: &str) -> bool {
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM").into_owned();
    der(one) == der(other)
}

const SIMPLE: &str = "{mode: SIMPLE, credentialName: shop}";
const MUTUAL: &str = "{mode: MUTUAL, credentialName: shop}";

#[tokio::test]
async fn a_certificate_that_changes_is_shown_at_once_and_connections_live_on() {
    let mut edge = Edge::start(Settings::default()).await;
    let (old, new) = (edge.web.leaf("old"), edge.web.leaf("new"));
    edge.tell(SIMPLE, &[("tls.crt", &old.0), ("tls.key", &old.1)]);
    edge.router.is_ready().await;
    let client = edge.client(None);
    let (mut sender, shown) = edge.connect(&client).await.expect("connected");
    assert!(same(&shown, &old.0));
    assert_eq!(answer(&mut sender).await.as_deref(), Some("hi"));
    edge.tell(SIMPLE, &[("tls.crt", &new.0), ("tls.key", &new.1)]);
    assert!(same(&edge.ask(&client).await.expect("an answer"), &new.0));
    assert_eq!(answer(&mut sender).await.as_deref(), Some("hi"), "the connection of before lives on");
}

#[tokio::test]
async fn what_cannot_be_used_leaves_what_was_good() {
    let mut edge = Edge::start(Settings::default()).await;
    let client = edge.client(None);
    edge.tell(SIMPLE, &[]);
    edge.router.is_ready().await;
    assert_eq!(edge.ask(&client).await, None, "there is no certificate yet");
    let good = edge.web.leaf("good");
    edge.tell(SIMPLE, &[("tls.crt", &good.0), ("tls.key", &good.1)]);
    assert!(same(&edge.ask(&client).await.expect("an answer"), &good.0));
    let other = edge.web.leaf("other");
    for (chain, key) in [(good.0.as_str(), other.1.as_str()), ("nothing", "nothing"), (&good.0, "")] {
        let entries = [("tls.crt", chain), ("tls.key", key)];
        // Without a key there is no pair: it is as if the secret had gone.
        let entries = if key.is_empty() { &[][..] } else { &entries };
        edge.tell(SIMPLE, entries);
        assert!(same(&edge.ask(&client).await.expect("an answer"), &good.0), "{chain:.10} {key:.10}");
    }
    edge.tell(SIMPLE, &[("tls.crt", &other.0), ("tls.key", &other.1)]);
    assert!(same(&edge.ask(&client).await.expect("an answer"), &other.0));
}

#[tokio::test]
async fn files_that_change_are_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut edge = Edge::start(Settings { files_ms: 20, ..Settings::default() }).await;
    let (chain, key) = (folder.path().join("crt"), folder.path().join("key"));
    let client = edge.client(None);
    let write = |pair: &Pair| {
        std::fs::write(&chain, &pair.0).expect("written");
        std::fs::write(&key, &pair.1).expect("written");
    };
    let (old, new) = (edge.web.leaf("old"), edge.web.leaf("new"));
    write(&old);
    let tls = format!("{{mode: SIMPLE, serverCertificate: {}, privateKey: {}}}", chain.display(), key.display());
    edge.tell(&tls, &[]);
    edge.router.is_ready().await;
    assert!(same(&edge.ask(&client).await.expect("an answer"), &old.0));
    write(&new);
    eventually("the new files are shown", async || edge.ask(&client).await.is_some_and(|shown| same(&shown, &new.0)))
        .await;
}

/// A client that was let in holds a ticket; it must not come back by it once its roots are trusted no longer.
#[tokio::test]
async fn nobody_comes_back_past_a_change_of_roots() {
    let mut edge = Edge::start(Settings::default()).await;
    let (clients, others) = (Authority::new(), Authority::new());
    let (alice, shop) = (clients.leaf("alice"), edge.web.leaf("shop"));
    let entries =
        |roots: &Authority| [("tls.crt", shop.0.clone()), ("tls.key", shop.1.clone()), ("ca.crt", roots.pem.clone())];
    let tell = |edge: &mut Edge, roots: &Authority| {
        let entries = entries(roots);
        edge.tell(MUTUAL, &entries.each_ref().map(|(name, pem)| (*name, pem.as_str())));
    };
    tell(&mut edge, &clients);
    edge.router.is_ready().await;
    let client = edge.client(Some(&alice));
    for _ in 0..2 {
        assert!(edge.ask(&client).await.is_some());
    }
    tell(&mut edge, &others);
    assert_eq!(edge.ask(&client).await, None);
    assert_eq!(edge.app.asked(), 2);
}

/// Envoy drains the connections of a chain that is gone; so do we.
#[tokio::test]
async fn who_would_be_let_in_no_longer_is_let_go() {
    let mut edge = Edge::start(Settings { drain_ms: 60_000, ..Settings::default() }).await;
    let (clients, shop) = (Authority::new(), edge.web.leaf("shop"));
    let entries = [("tls.crt", shop.0.as_str()), ("tls.key", shop.1.as_str()), ("ca.crt", clients.pem.as_str())];
    edge.tell("{mode: OPTIONAL_MUTUAL, credentialName: shop}", &entries);
    edge.router.is_ready().await;
    let client = edge.client(None);
    let (mut idle, _) = edge.connect(&client).await.expect("connected");
    assert_eq!(answer(&mut idle).await.as_deref(), Some("hi"));
    edge.tell("{mode: OPTIONAL_MUTUAL, credentialName: shop}", &entries);
    assert_eq!(answer(&mut idle).await.as_deref(), Some("hi"), "nothing has changed");
    edge.tell(MUTUAL, &entries);
    eventually("the connection is let go", async || idle.is_closed()).await;
    assert_eq!(edge.ask(&client).await, None);
    let alice = edge.client(Some(&clients.leaf("alice")));
    assert!(edge.ask(&alice).await.is_some());
}

#[tokio::test]
async fn clients_that_do_not_go_on_are_cut_and_harm_nobody() {
    let mut edge = Edge::start(Settings { handshake_ms: 200, ..Settings::default() }).await;
    let shop = edge.web.leaf("shop");
    edge.tell(SIMPLE, &[("tls.crt", &shop.0), ("tls.key", &shop.1)]);
    edge.router.is_ready().await;
    let hello = hello();
    for bytes in
        [&hello[..], b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\x80\x2e\x01"]
    {
        let mut tcp = TcpStream::connect(edge.at).await.expect("connected");
        tcp.write_all(bytes).await.expect("written");
        // What is no hello at all may have been reset already, and then there is nothing left to half close.
        let _ = tcp.shutdown().await;
        let mut rest = Vec::new();
        // An alert or a reset: it ends, and nothing of the application is in it.
        let _ = timeout(LIMIT, tcp.read_to_end(&mut rest)).await.expect("it ends");
        assert!(!rest.windows(2).any(|two| two == b"hi"), "{rest:?}");
    }
    // A hello, and then silence.
    let mut tcp = TcpStream::connect(edge.at).await.expect("connected");
    tcp.write_all(&hello).await.expect("written");
    let mut rest = Vec::new();
    let _ = timeout(LIMIT, tcp.read_to_end(&mut rest)).await.expect("it is cut");
    assert_eq!(edge.app.asked(), 0);
    assert!(edge.ask(&edge.client(None)).await.is_some());
    edge.router.end(Duration::from_secs(20)).await;
}

/// A good hello for the server.
fn hello() -> Vec<u8> {
    let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from(SHOP).expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("memory takes all");
    bytes
}
