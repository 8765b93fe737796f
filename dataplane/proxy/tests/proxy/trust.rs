//! Who may answer, and who may ask.

use crate::app::{App, Tap, get};
use crate::mesh::{HOST, LIMIT, Mesh, Offer, Root, Running, reserved, spiffe, start};
use identity::{Bundles, Expected, Identity, WorkloadCertificate, client_config, server_name};
use isthmus_proxy::Settings;
use model::{Protocol, TrustBundle};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// A server's sidecar that shows `certificate`, and trusts `own`.
async fn server(mesh: &Mesh, certificate: WorkloadCertificate, own: &TrustBundle, app: &App) -> (Running, SocketAddr) {
    let inbound = reserved();
    let mut server = start(certificate, own, "server", Settings::default());
    server.feed(mesh.inbound(&[(inbound.port(), Protocol::Http, app.address)])).expect("accepted");
    server.is_ready().await;
    (server, inbound)
}

async fn client(mesh: &Mesh, endpoint: SocketAddr) -> (Running, SocketAddr) {
    let entry = reserved();
    let mut client = mesh.start("caller", Settings::default());
    let endpoints = vec![(endpoint, Some("server"))];
    let offer = Offer { host: HOST, port: entry.port(), protocol: Protocol::Http, endpoints };
    client.feed(mesh.outbound(&[offer])).expect("accepted");
    client.is_ready().await;
    (client, entry)
}

#[tokio::test]
async fn only_who_is_expected_is_asked() {
    let (mesh, stranger) = (Mesh::new(), Root::new());
    let own = mesh.root.bundle("east.example");
    for (certificate, fits) in [
        (mesh.root.certificate(&spiffe("server")), true),
        (mesh.root.certificate(&spiffe("other")), false),
        (mesh.root.certificate("spiffe://east.example/ns/bank/sa/server"), false),
        // A root that nobody here knows, though it says the right name.
        (stranger.certificate(&spiffe("server")), false),
        // The own root may not speak for another trust domain.
        (mesh.root.certificate("spiffe://west.example/ns/shop/sa/server"), false),
    ] {
        let app = App::saying("hi").await;
        let who = certificate.identity.to_string();
        let (_server, inbound) = server(&mesh, certificate, &own, &app).await;
        let (client, entry) = client(&mesh, inbound).await;
        let (status, answer) = get(entry, HOST).await;
        assert_eq!(status, if fits { 200 } else { 503 }, "{who}: {answer}");
        assert_eq!(app.asked(), usize::from(fits), "{who}");
        let flags = if fits { "-" } else { "UF" };
        assert_eq!(client.metric("istio_requests_total", &[("response_flags", flags)]), 1, "{who}");
    }
}

#[tokio::test]
async fn a_server_in_the_clear_is_told_nothing() {
    let mesh = Mesh::new();
    let app = App::saying("hi").await;
    let tap = Tap::before(app.address).await;
    let (_client, entry) = client(&mesh, tap.address).await;
    assert_eq!(get(entry, HOST).await.0, 503);
    assert!(tap.accepted() > 0);
    assert_eq!(app.asked(), 0);
}

/// Asks the server's sidecar over TLS with this identity; what comes back, or nothing if it is turned away.
async fn asked(inbound: SocketAddr, identity: &Identity) -> Option<String> {
    let config = client_config(identity, Expected::Any, &[b"istio-http/1.1"]);
    let tcp = TcpStream::connect(inbound).await.expect("connected");
    let connecting = TlsConnector::from(config).connect(server_name(HOST).expect("a name"), tcp);
    let mut tls = timeout(LIMIT, connecting).await.expect("in time").ok()?;
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    tls.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    timeout(LIMIT, tls.read_to_string(&mut answer)).await.expect("in time").ok()?;
    Some(answer)
}

#[tokio::test]
async fn only_who_is_known_may_ask_with_a_certificate() {
    let (mesh, stranger) = (Mesh::new(), Root::new());
    let own = mesh.root.bundle("east.example");
    let app = App::saying("hi").await;
    let (_server, inbound) = server(&mesh, mesh.root.certificate(&spiffe("server")), &own, &app).await;
    let knows = || Bundles::new([&own]).expect("good bundles");
    let friend = Identity::new(mesh.root.certificate(&spiffe("anyone")), knows());
    assert!(asked(inbound, &friend).await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
    for certificate in
        [stranger.certificate(&spiffe("anyone")), mesh.root.certificate("spiffe://west.example/ns/shop/sa/anyone")]
    {
        assert_eq!(asked(inbound, &Identity::new(certificate, knows())).await, None);
    }
    let anonymous = identity::anonymous_client_config(knows(), Expected::Any, &[b"istio-http/1.1"]);
    let tcp = TcpStream::connect(inbound).await.expect("connected");
    let connecting = TlsConnector::from(anonymous).connect(server_name(HOST).expect("a name"), tcp);
    let refused = async {
        let mut tls = connecting.await?;
        tls.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await?;
        tls.read_u8().await
    };
    assert!(timeout(LIMIT, refused).await.expect("in time").is_err());
    assert_eq!(app.asked(), 1);
}

/// A client whose certificate the server does not take learns of it, and its caller gets an answer.
#[tokio::test]
async fn a_client_that_is_turned_away_says_so() {
    let (mesh, stranger) = (Mesh::new(), Root::new());
    let app = App::saying("hi").await;
    let foreign = stranger.bundle("east.example");
    // The server shows what the client trusts, and trusts another root itself.
    let inbound = reserved();
    let mut server = start(mesh.root.certificate(&spiffe("server")), &foreign, "server", Settings::default());
    let other = Mesh { root: stranger };
    server.feed(other.inbound(&[(inbound.port(), Protocol::Http, app.address)])).expect("accepted");
    server.is_ready().await;
    let (_client, entry) = client(&mesh, inbound).await;
    assert_eq!(get(entry, HOST).await.0, 503);
    assert_eq!(app.asked(), 0);
}
