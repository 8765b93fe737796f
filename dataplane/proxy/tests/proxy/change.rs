//! Change: listeners come and go, endpoints move, and what is not understood changes nothing.

use crate::app::{App, empty, get, http1, text};
use crate::mesh::{HOST, LIMIT, Mesh, Offer, eventually, reserved};
use http::Request;
use isthmus_proxy::Settings;
use model::Protocol;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use xds::{Resource, Snapshot, type_url};

fn offer(entry: SocketAddr, applications: &[SocketAddr]) -> Offer {
    let endpoints = applications.iter().map(|address| (*address, None)).collect();
    Offer { host: HOST, port: entry.port(), protocol: Protocol::Http, endpoints }
}

/// The snapshot with every resource of a type changed.
fn spoiled(mut snapshot: Snapshot, kind: &'static str, body: &'static [u8]) -> Snapshot {
    let names: Vec<_> = snapshot.get(kind).keys().cloned().collect();
    assert!(!names.is_empty());
    for name in names {
        snapshot.insert(kind, Resource::from_body(name, body.into()));
    }
    snapshot
}

#[tokio::test]
async fn a_listener_that_goes_away_stops_listening() {
    let app = App::saying("hi").await;
    let (mesh, one, other) = (Mesh::new(), reserved(), reserved());
    let mut client = mesh.start("caller", Settings::default());
    let second = Offer { host: "second.shop.svc.cluster.local", ..offer(other, &[app.address]) };
    client.feed(mesh.outbound(&[offer(one, &[app.address]), second])).expect("accepted");
    client.is_ready().await;
    let mut kept = http1(other).await;
    let asked = || Request::get("/").header("host", "second.shop.svc.cluster.local").body(empty()).expect("a request");
    assert_eq!(kept.send_request(asked()).await.expect("a response").status(), 200);
    client.feed(mesh.outbound(&[offer(one, &[app.address])])).expect("accepted");
    eventually("nobody listens", async || TcpStream::connect(other).await.is_err()).await;
    // Its connections end too, as soon as nothing is on them.
    eventually("the connection ends", async || kept.is_closed()).await;
    assert_eq!(get(one, HOST).await.0, 200);
    // And it may come back.
    let second = Offer { host: "second.shop.svc.cluster.local", ..offer(other, &[app.address]) };
    client.feed(mesh.outbound(&[offer(one, &[app.address]), second])).expect("accepted");
    eventually("it listens again", async || TcpStream::connect(other).await.is_ok()).await;
}

#[tokio::test]
async fn streams_of_a_listener_that_went_away_are_cut_in_the_end() {
    let settings = Settings { drain_ms: 300, ..Settings::default() };
    let application = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = application.local_addr().expect("bound");
    let mut pair = Mesh::new().pair_with(Protocol::Tcp, at, settings).await;
    let mut caller = TcpStream::connect(pair.entry).await.expect("connected");
    let (mut stream, _) = timeout(LIMIT, application.accept()).await.expect("in time").expect("a connection");
    pair.client.feed(pair.mesh.outbound(&[])).expect("accepted");
    eventually("nobody listens", async || TcpStream::connect(pair.entry).await.is_err()).await;
    // It still carries, and then it is reset.
    caller.write_all(b"x").await.expect("sent");
    assert_eq!(timeout(LIMIT, stream.read_u8()).await.expect("in time").expect("read"), b'x');
    for end in [&mut caller, &mut stream] {
        let error = timeout(LIMIT, end.read_u8()).await.expect("in time").expect_err("reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_taken_port_is_bound_once_it_is_free() {
    let app = App::saying("hi").await;
    let (mesh, free) = (Mesh::new(), reserved());
    let holder = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let taken = holder.local_addr().expect("bound");
    let mut client = mesh.start("caller", Settings::default());
    let second = Offer { host: "second.shop.svc.cluster.local", ..offer(taken, &[app.address]) };
    client.feed(mesh.outbound(&[offer(free, &[app.address]), second])).expect("accepted");
    eventually("the other one listens", async || TcpStream::connect(free).await.is_ok()).await;
    assert_eq!(get(free, HOST).await.0, 200);
    assert!(!client.says_ready());
    eventually("it is counted", async || client.metric("isthmus_listeners_unbound", &[]) == 1).await;
    drop(holder);
    client.is_ready().await;
    eventually("and no longer", async || client.metric("isthmus_listeners_unbound", &[]) == 0).await;
    assert_eq!(get(taken, "second").await, (200, "hi".to_owned()));
}

#[tokio::test]
async fn what_is_not_understood_changes_nothing() {
    let (app, other) = (App::saying("hi").await, App::saying("other").await);
    let pair = Mesh::new().pair(Protocol::Http, app.address).await;
    let (mesh, mut client) = (pair.mesh, pair.client);
    let next = || mesh.outbound(&[offer(pair.entry, &[other.address])]);
    let secret = secret_with("no certificate at all");
    for (kind, body) in [
        (type_url::CLUSTER, &b"\xff\xff"[..]),
        (type_url::CLUSTER, b""),
        (type_url::ENDPOINT, b"\xff\xff"),
        (type_url::LISTENER, b"\xff\xff"),
        (type_url::LISTENER, b""),
        (type_url::ROUTE, b"\xff\xff"),
        (type_url::SECRET, b"\xff\xff"),
        (type_url::SECRET, secret),
        (type_url::NAME_TABLE, b"\xff\xff"),
    ] {
        let rejection = client.apply_only(kind, &spoiled(next(), kind, body)).expect_err("rejected");
        assert!(!rejection.message.is_empty(), "{kind}");
        assert_eq!(get(pair.entry, HOST).await, (200, "hi".to_owned()), "{kind}");
    }
    client.feed(next()).expect("accepted");
    assert_eq!(get(pair.entry, HOST).await, (200, "other".to_owned()));
}

/// `ROOTCA` whose roots are this text.
fn secret_with(roots: &str) -> &'static [u8] {
    use api::envoy::envoy::config::core::v3::{DataSource, TypedExtensionConfig, data_source::Specifier};
    use api::envoy::envoy::extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, Secret, SpiffeCertValidatorConfig, secret::Type,
        spiffe_cert_validator_config::TrustDomain,
    };
    use prost::{Message, Name};
    let trust_bundle =
        Some(DataSource { specifier: Some(Specifier::InlineString(roots.into())), ..Default::default() });
    let validator = SpiffeCertValidatorConfig {
        trust_domains: vec![TrustDomain { name: "east.example".into(), trust_bundle, ..Default::default() }],
        ..Default::default()
    };
    let any = api::envoy::google::protobuf::Any {
        type_url: SpiffeCertValidatorConfig::type_url(),
        value: validator.encode_to_vec(),
    };
    let config = TypedExtensionConfig { name: "envoy.tls.cert_validator.spiffe".into(), typed_config: Some(any) };
    let context = CertificateValidationContext { custom_validator_config: Some(config), ..Default::default() };
    let secret = Secret { name: "ROOTCA".into(), r#type: Some(Type::ValidationContext(context)) };
    Vec::leak(secret.encode_to_vec())
}

#[tokio::test]
async fn endpoints_move_without_a_lost_request() {
    let (old, new) = (App::saying("old").await, App::saying("new").await);
    let (mesh, entry) = (Mesh::new(), reserved());
    let mut client = mesh.start("caller", Settings::default());
    client.feed(mesh.outbound(&[offer(entry, &[old.address])])).expect("accepted");
    client.is_ready().await;
    let asking = tokio::spawn(async move {
        let mut sender = http1(entry).await;
        loop {
            sender.ready().await.expect("kept alive");
            let asked = Request::get("/").header("host", HOST).body(empty()).expect("a request");
            let response = timeout(LIMIT, sender.send_request(asked)).await.expect("in time").expect("a response");
            assert_eq!(response.status(), 200);
            if text(response).await == "new" {
                return;
            }
        }
    });
    eventually("the old one is asked", async || old.asked() > 10).await;
    for applications in [&[old.address, new.address][..], &[new.address]] {
        client.feed(mesh.outbound(&[offer(entry, applications)])).expect("accepted");
    }
    timeout(LIMIT, asking).await.expect("in time").expect("no request failed");
    let before = old.asked();
    assert_eq!(get(entry, HOST).await.1, "new");
    assert_eq!(old.asked(), before);
}
