//! Upgrades: bytes both ways after `101 Switching Protocols`.

use crate::app::{App, empty, exchange};
use crate::mesh::{HOST, LIMIT, Mesh, Pair, eventually};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use isthmus_proxy::Settings;
use model::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Switches, greets, and echoes in capitals until `end` comes.
async fn shouting() -> App {
    App::start(|mut request: Request<Incoming>| async move {
        if request.headers().get("upgrade") != Some(&HeaderValue::from_static("websocket")) {
            return Response::new(empty());
        }
        tokio::spawn(async move {
            let upgraded = hyper::upgrade::on(&mut request).await.expect("switched");
            let mut stream = TokioIo::new(upgraded);
            stream.write_all(b"hello ").await.expect("written");
            let mut piece = [0; 1024];
            while let Ok(read @ 1..) = stream.read(&mut piece).await {
                stream.write_all(&piece[..read].to_ascii_uppercase()).await.expect("written");
                if piece[..read].ends_with(b"end") {
                    break;
                }
            }
        });
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
        response.headers_mut().insert("connection", HeaderValue::from_static("Upgrade"));
        response.headers_mut().insert("sec-websocket-accept", HeaderValue::from_static("x"));
        response
    })
    .await
}

async fn switched(pair: &Pair) -> TcpStream {
    let mut tcp = TcpStream::connect(pair.entry).await.expect("connected");
    let head =
        format!("GET /chat HTTP/1.1\r\nHost: {HOST}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n");
    tcp.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(timeout(LIMIT, tcp.read_u8()).await.expect("in time").expect("a byte"));
    }
    let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 101"), "{answer}");
    assert!(answer.contains("upgrade: websocket") && answer.contains("connection: upgrade"), "{answer}");
    assert!(answer.contains("sec-websocket-accept: x"), "{answer}");
    tcp
}

#[tokio::test]
async fn bytes_go_both_ways_after_the_switch_and_the_end_is_the_end() {
    let app = shouting().await;
    let pair = Mesh::new().pair(Protocol::Http, app.address).await;
    let mut tcp = switched(&pair).await;
    let mut greeting = [0; 6];
    timeout(LIMIT, tcp.read_exact(&mut greeting)).await.expect("in time").expect("read");
    assert_eq!(&greeting, b"hello ");
    for word in ["one", "two"] {
        tcp.write_all(word.as_bytes()).await.expect("sent");
        let mut echo = [0; 3];
        timeout(LIMIT, tcp.read_exact(&mut echo)).await.expect("in time").expect("read");
        assert_eq!(echo, word.to_ascii_uppercase().as_bytes());
    }
    tcp.write_all(b"the end").await.expect("sent");
    let mut rest = Vec::new();
    timeout(LIMIT, tcp.read_to_end(&mut rest)).await.expect("in time").expect("a clean end");
    assert_eq!(rest, b"THE END");
    drop(tcp);
    let switched = [("response_code", "101"), ("response_flags", "-")];
    eventually("counted once on both sides", async || {
        pair.client.metric("istio_requests_total", &switched) == 1
            && pair.server.metric("istio_requests_total", &switched) == 1
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_leaves_is_gone_for_the_application_too() {
    let (left, mut leaves) = tokio::sync::mpsc::unbounded_channel();
    let app = App::start(move |mut request: Request<Incoming>| {
        let left = left.clone();
        tokio::spawn(async move {
            let upgraded = hyper::upgrade::on(&mut request).await.expect("switched");
            let mut all = Vec::new();
            let _ = TokioIo::new(upgraded).read_to_end(&mut all).await;
            let _ = left.send(all);
        });
        async move {
            let builder =
                Response::builder().status(101).header("upgrade", "websocket").header("connection", "upgrade");
            builder.header("sec-websocket-accept", "x").body(empty()).expect("a response")
        }
    })
    .await;
    let pair = Mesh::new().pair(Protocol::Http, app.address).await;
    let mut tcp = switched(&pair).await;
    tcp.write_all(b"bye").await.expect("sent");
    drop(tcp);
    assert_eq!(timeout(LIMIT, leaves.recv()).await.expect("in time").expect("it left"), b"bye");
}

#[tokio::test]
async fn other_upgrades_are_not_asked_for() {
    let app = App::echoing().await;
    let pair = Mesh::new().pair(Protocol::Http, app.address).await;
    let asked = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n");
    let answer = exchange(pair.entry, &asked).await;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("h2c"), "{answer}");
}

#[tokio::test]
async fn a_websocket_of_a_listener_that_went_away_is_cut_in_the_end() {
    let app = shouting().await;
    let settings = Settings { drain_ms: 300, ..Settings::default() };
    let mut pair = Mesh::new().pair_with(Protocol::Http, app.address, settings).await;
    let mut tcp = switched(&pair).await;
    let mut greeting = [0; 6];
    timeout(LIMIT, tcp.read_exact(&mut greeting)).await.expect("in time").expect("read");
    pair.client.feed(pair.mesh.outbound(&[])).expect("accepted");
    let mut rest = Vec::new();
    let _ = timeout(LIMIT, tcp.read_to_end(&mut rest)).await.expect("it ends");
    assert_eq!(rest, b"");
}
