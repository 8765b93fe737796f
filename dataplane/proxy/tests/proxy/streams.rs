//! TCP: who speaks first, how each direction ends, resets, and the applications' own TLS.

use crate::mesh::{HOST, LIMIT, Mesh, Offer, Pair, Running, eventually, reserved};
use identity::{ClientAuth, Expected, server_config, server_name};
use isthmus_proxy::Settings;
use model::Protocol;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// An application that hands out its connections.
struct Accepting {
    address: SocketAddr,
    connections: mpsc::UnboundedReceiver<TcpStream>,
}

impl Accepting {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (sender, connections) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let _ = sender.send(tcp);
            }
        });
        Self { address, connections }
    }

    async fn next(&mut self) -> TcpStream {
        timeout(LIMIT, self.connections.recv()).await.expect("in time").expect("a connection")
    }
}

async fn joined() -> (Pair, TcpStream, TcpStream) {
    let mut app = Accepting::start().await;
    let pair = Mesh::new().pair(Protocol::Tcp, app.address).await;
    let caller = TcpStream::connect(pair.entry).await.expect("connected");
    let application = app.next().await;
    (pair, caller, application)
}

async fn read(tcp: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    timeout(LIMIT, tcp.read_exact(&mut bytes)).await.expect("in time").expect("read");
    bytes
}

/// What comes until the end, and the kind of error if it was no clean one.
async fn rest(tcp: &mut TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut bytes = Vec::new();
    let ended = timeout(LIMIT, tcp.read_to_end(&mut bytes)).await.expect("in time");
    (bytes, ended.err().map(|error| error.kind()))
}

#[tokio::test]
async fn a_server_may_speak_first() {
    let (_pair, mut caller, mut application) = joined().await;
    application.write_all(b"220 ready").await.expect("sent");
    assert_eq!(read(&mut caller, 9).await, b"220 ready");
    caller.write_all(b"EHLO").await.expect("sent");
    assert_eq!(read(&mut application, 4).await, b"EHLO");
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let (_pair, mut caller, mut application) = joined().await;
    caller.write_all(b"question").await.expect("sent");
    caller.shutdown().await.expect("ended");
    assert_eq!(rest(&mut application).await, (b"question".to_vec(), None));
    let answer = vec![7; 1 << 20];
    let (sent, received) = futures_util::future::join(application.write_all(&answer), read(&mut caller, 1 << 20)).await;
    sent.expect("sent");
    assert_eq!(received, answer);
    application.shutdown().await.expect("ended");
    assert_eq!(rest(&mut caller).await, (vec![], None));

    let (_pair, mut caller, mut application) = joined().await;
    application.write_all(b"answer").await.expect("sent");
    application.shutdown().await.expect("ended");
    assert_eq!(rest(&mut caller).await, (b"answer".to_vec(), None));
    caller.write_all(b"late question").await.expect("sent");
    assert_eq!(read(&mut application, 13).await, b"late question");
    caller.shutdown().await.expect("ended");
    assert_eq!(rest(&mut application).await, (vec![], None));
}

#[tokio::test]
async fn a_reset_stays_a_reset() {
    for from_caller in [true, false] {
        let (_pair, mut caller, mut application) = joined().await;
        caller.write_all(b"x").await.expect("sent");
        read(&mut application, 1).await;
        let (breaking, mut other) = if from_caller { (caller, application) } else { (application, caller) };
        breaking.set_zero_linger().expect("an option");
        drop(breaking);
        assert_eq!(rest(&mut other).await, (vec![], Some(ErrorKind::ConnectionReset)), "by the caller: {from_caller}");
    }
}

/// After its own end a caller can still break what it is being sent.
#[tokio::test]
async fn a_reset_after_a_half_close_stays_a_reset() {
    let (_pair, mut caller, mut application) = joined().await;
    caller.shutdown().await.expect("ended");
    assert_eq!(rest(&mut application).await, (vec![], None));
    caller.set_zero_linger().expect("an option");
    drop(caller);
    let piece = [0; 1 << 14];
    let broken = async { while application.write_all(&piece).await.is_ok() {} };
    timeout(LIMIT, broken).await.expect("the application notices");
}

#[tokio::test]
async fn what_cannot_be_reached_is_reset() {
    let pair = Mesh::new().pair(Protocol::Tcp, reserved()).await;
    let mut caller = TcpStream::connect(pair.entry).await.expect("connected");
    assert_eq!(rest(&mut caller).await, (vec![], Some(ErrorKind::ConnectionReset)));
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over() {
    let mut app = Accepting::start().await;
    let (mesh, entry) = (Mesh::new(), reserved());
    let mut client = mesh.start("caller", Settings::default());
    let endpoints = vec![(reserved(), None), (app.address, None)];
    let offer = Offer { host: HOST, port: entry.port(), protocol: Protocol::Tcp, endpoints };
    client.feed(mesh.outbound(&[offer])).expect("accepted");
    client.is_ready().await;
    for _ in 0..20 {
        let mut caller = TcpStream::connect(entry).await.expect("connected");
        caller.write_all(b"x").await.expect("sent");
        assert_eq!(read(&mut app.next().await, 1).await, b"x");
    }
}

#[tokio::test]
async fn a_silent_stream_is_cut() {
    let mut app = Accepting::start().await;
    let settings = Settings { idle_ms: 100, ..Settings::default() };
    let pair = Mesh::new().pair_with(Protocol::Tcp, app.address, settings).await;
    let mut caller = TcpStream::connect(pair.entry).await.expect("connected");
    let mut application = app.next().await;
    assert_eq!(rest(&mut caller).await.1, Some(ErrorKind::ConnectionReset));
    assert_eq!(rest(&mut application).await.1, Some(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn bytes_are_counted_on_both_sides() {
    let (pair, mut caller, mut application) = joined().await;
    caller.write_all(b"12345").await.expect("sent");
    read(&mut application, 5).await;
    application.write_all(b"123").await.expect("sent");
    read(&mut caller, 3).await;
    // Bytes are told of streams that go on, too.
    eventually("counted while it lasts", async || pair.server.metric("istio_tcp_sent_bytes_total", &[]) == 3).await;
    drop((caller, application));
    for (running, reporter) in [(&pair.client, "source"), (&pair.server, "destination")] {
        let value = |name: &str| running.metric(name, &[("reporter", reporter), ("destination_app", app(reporter))]);
        eventually("counted", async || value("istio_tcp_connections_closed_total") == 1).await;
        assert_eq!(value("istio_tcp_connections_opened_total"), 1);
        assert_eq!(value("istio_tcp_received_bytes_total"), 5);
        assert_eq!(value("istio_tcp_sent_bytes_total"), 3);
    }
}

fn app(reporter: &str) -> &'static str {
    if reporter == "source" { "echo" } else { "server" }
}

/// An application with its own TLS, behind a sidecar of its own, and a caller's sidecar that chooses by server name.
async fn own_tls(mesh: &Mesh) -> (Running, Running, SocketAddr) {
    let mut app = Accepting::start().await;
    let (entry, inbound) = (reserved(), reserved());
    let mut server = mesh.start("server", Settings::default());
    server.feed(mesh.inbound(&[(inbound.port(), Protocol::Tls, app.address)])).expect("accepted");
    server.is_ready().await;
    let mut client = mesh.start("caller", Settings::default());
    let endpoints = vec![(inbound, Some("server"))];
    let offer = Offer { host: HOST, port: entry.port(), protocol: Protocol::Tls, endpoints };
    client.feed(mesh.outbound(&[offer])).expect("accepted");
    client.is_ready().await;
    let own = mesh.identity("application");
    let config = server_config(&own, ClientAuth::Optional, Expected::Any, &[b"h2"]);
    tokio::spawn(async move {
        while let Some(tcp) = app.connections.recv().await {
            let accepting = TlsAcceptor::from(config.clone()).accept(tcp);
            tokio::spawn(async move {
                let mut tls = accepting.await.expect("TLS");
                tls.write_all(b"secret").await.expect("sent");
                tls.shutdown().await.expect("ended");
            });
        }
    });
    (client, server, entry)
}

#[tokio::test]
async fn the_applications_own_tls_crosses_untouched() {
    let mesh = Mesh::new();
    let (_client, _server, entry) = own_tls(&mesh).await;
    let expected = Expected::Exactly(Arc::new([mesh.identity("application").id()].into()));
    let config = identity::client_config(&mesh.identity("other"), expected, &[b"h2"]);
    let tcp = TcpStream::connect(entry).await.expect("connected");
    let connecting = TlsConnector::from(config).connect(server_name(HOST).expect("a name"), tcp);
    let mut tls = timeout(LIMIT, connecting).await.expect("in time").expect("the application's TLS");
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut secret = String::new();
    timeout(LIMIT, tls.read_to_string(&mut secret)).await.expect("in time").expect("a clean end");
    assert_eq!(secret, "secret");
}

#[tokio::test]
async fn an_unknown_server_name_is_reset() {
    let mesh = Mesh::new();
    let (_client, _server, entry) = own_tls(&mesh).await;
    let config = identity::client_config(&mesh.identity("other"), Expected::Any, &[]);
    let tcp = TcpStream::connect(entry).await.expect("connected");
    let connecting = TlsConnector::from(config).connect(server_name("nobody.example").expect("a name"), tcp);
    let error = timeout(LIMIT, connecting).await.expect("in time").expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    let mut plain = TcpStream::connect(entry).await.expect("connected");
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
    assert_eq!(rest(&mut plain).await, (vec![], Some(ErrorKind::ConnectionReset)));
}
