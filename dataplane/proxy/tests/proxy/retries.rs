//! What is sent again, what is not, and which endpoints are left alone.

use crate::app::{App, Tap, empty, full, get, http1, text};
use crate::mesh::{HOST, LIMIT, Mesh, Offer, Running, eventually, reserved};
use http::Request;
use isthmus_proxy::Settings;
use model::Protocol;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

/// A caller's sidecar that knows applications in the clear.
async fn caller(applications: &[SocketAddr]) -> (Running, SocketAddr) {
    let (mesh, entry) = (Mesh::new(), reserved());
    let mut client = mesh.start("caller", Settings::default());
    let endpoints = applications.iter().map(|address| (*address, None)).collect();
    let offer = Offer { host: HOST, port: entry.port(), protocol: Protocol::Http, endpoints };
    client.feed(mesh.outbound(&[offer])).expect("accepted");
    client.is_ready().await;
    (client, entry)
}

/// A server that answers `served` requests on each connection, reads the next one, and breaks. What it read is counted.
async fn breaking_after(served: usize, resets: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                for number in 0..=served {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"whole") {
                        match tcp.read_u8().await {
                            Ok(byte) => head.push(byte),
                            Err(_) => return,
                        }
                    }
                    if head.starts_with(b"POST") && head.ends_with(b"\r\n\r\n") {
                        let mut body = [0; 5];
                        tcp.read_exact(&mut body).await.expect("a body");
                    }
                    count.fetch_add(1, Ordering::Relaxed);
                    if number == served && resets {
                        tcp.set_zero_linger().expect("an option");
                    }
                    if number < served {
                        tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("sent");
                    }
                }
            });
        }
    });
    (address, seen)
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over_and_then_avoided() {
    let app = App::saying("alive").await;
    let (client, entry) = caller(&[reserved(), app.address]).await;
    for _ in 0..50 {
        assert_eq!(get(entry, HOST).await, (200, "alive".to_owned()));
    }
    assert_eq!(app.asked(), 50);
    assert_eq!(client.metric("istio_requests_total", &[("response_code", "200")]), 50);
    assert_eq!(client.metric("istio_requests_total", &[]), 50);
}

#[tokio::test]
async fn an_endpoint_whose_handshake_fails_is_tried_once_and_then_avoided() {
    let app = App::saying("alive").await;
    let (mesh, entry, inbound) = (Mesh::new(), reserved(), reserved());
    let mut server = mesh.start("server", Settings::default());
    server.feed(mesh.inbound(&[(inbound.port(), Protocol::Http, app.address)])).expect("accepted");
    server.is_ready().await;
    // In the clear, where mTLS is expected.
    let plain = App::saying("wrong").await;
    let tap = Tap::before(plain.address).await;
    let mut client = mesh.start("caller", Settings::default());
    let endpoints = vec![(tap.address, Some("server")), (inbound, Some("server"))];
    let offer = Offer { host: HOST, port: entry.port(), protocol: Protocol::Http, endpoints };
    client.feed(mesh.outbound(&[offer])).expect("accepted");
    client.is_ready().await;
    for _ in 0..30 {
        assert_eq!(get(entry, HOST).await, (200, "alive".to_owned()));
    }
    // It is avoided for a second, and the requests took less.
    assert!(tap.accepted() <= 2, "{}", tap.accepted());
    assert_eq!(plain.asked(), 0);
}

#[tokio::test]
async fn all_dead_is_said_so() {
    let (client, entry) = caller(&[reserved(), reserved()]).await;
    let (status, why) = get(entry, HOST).await;
    assert_eq!(status, 503);
    assert!(why.to_ascii_lowercase().contains("refused") && !why.contains("127.0.0.1"), "{why}");
    assert_eq!(client.metric("istio_requests_total", &[("response_code", "503"), ("response_flags", "UF")]), 1);
}

#[tokio::test]
async fn no_endpoint_is_said_so() {
    let (client, entry) = caller(&[]).await;
    assert_eq!(get(entry, HOST).await.0, 503);
    assert_eq!(client.metric("istio_requests_total", &[("response_code", "503"), ("response_flags", "UH")]), 1);
}

#[tokio::test]
async fn a_waiting_connection_that_was_closed_fails_no_request() {
    let app = App::saying("hi").await;
    let tap = Tap::before(app.address).await;
    let (client, entry) = caller(&[tap.address]).await;
    let mut sender = http1(entry).await;
    for round in 1..=20 {
        sender.ready().await.expect("kept alive");
        let request = Request::get("/").header("host", HOST).body(empty()).expect("a request");
        let response = timeout(LIMIT, sender.send_request(request)).await.expect("in time").expect("a response");
        assert_eq!(text(response).await, "hi", "round {round}");
        tap.cut();
    }
    assert_eq!(client.metric("istio_requests_total", &[("response_code", "200")]), 20);
}

/// The connection breaks when the request has arrived: only what may be done twice is.
#[tokio::test]
async fn a_get_on_a_waiting_connection_that_breaks_is_sent_again() {
    for resets in [true, false] {
        let (address, seen) = breaking_after(1, resets).await;
        let (_client, entry) = caller(&[address]).await;
        for _ in 0..3 {
            assert_eq!(get(entry, HOST).await, (200, "ok".to_owned()));
        }
        assert!(seen.load(Ordering::Relaxed) >= 5);
    }
}

#[tokio::test]
async fn a_post_is_never_sent_twice() {
    for (served, resets) in [(0, true), (0, false), (1, true), (1, false)] {
        let (address, seen) = breaking_after(served, resets).await;
        let (client, entry) = caller(&[address]).await;
        for _ in 0..served {
            assert_eq!(get(entry, HOST).await.0, 200);
        }
        let request = Request::post("/").header("host", HOST).body(full("whole")).expect("a request");
        let mut sender = http1(entry).await;
        let response = timeout(LIMIT, sender.send_request(request)).await.expect("in time").expect("a response");
        assert_eq!(response.status(), 503);
        assert_eq!(seen.load(Ordering::Relaxed), served + 1, "{served} {resets}");
        eventually("the break is counted", async || {
            client.metric("istio_requests_total", &[("response_code", "503"), ("response_flags", "UC")]) == 1
        })
        .await;
    }
}

/// An answer to the very first request on a connection that breaks is not asked for again: it may have been done.
#[tokio::test]
async fn a_get_on_a_fresh_connection_that_breaks_is_not_sent_again() {
    let (address, seen) = breaking_after(0, true).await;
    let (_client, entry) = caller(&[address]).await;
    assert_eq!(get(entry, HOST).await.0, 503);
    assert_eq!(seen.load(Ordering::Relaxed), 1);
}
