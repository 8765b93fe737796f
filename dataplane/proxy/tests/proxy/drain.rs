//! The end: what runs may finish, nothing new begins, and no task is left.

use crate::app::{App, empty, full, get, http1, http2, text};
use crate::mesh::{HOST, LIMIT, Mesh, eventually};
use http::{Request, Response};
use isthmus_proxy::Settings;
use model::Protocol;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Less than the drain time: who ends so soon waited for nobody.
const SOON: Duration = Duration::from_secs(3);

/// An application that answers once it may.
async fn waiting() -> (App, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let app = App::start(move |_| {
        let held = held.clone();
        async move {
            drop(held.acquire().await);
            Response::new(full("done"))
        }
    })
    .await;
    (app, gate)
}

fn request() -> Request<crate::app::Body> {
    Request::get(format!("http://{HOST}/")).body(empty()).expect("a request")
}

#[tokio::test]
async fn what_runs_may_finish_and_nothing_new_begins() {
    for is_http2 in [false, true] {
        let (app, gate) = waiting().await;
        let protocol = if is_http2 { Protocol::Http2 } else { Protocol::Http };
        let pair = Mesh::new().pair(protocol, app.address).await;
        let running = if is_http2 {
            let mut sender = http2(pair.entry).await;
            tokio::spawn(async move { sender.send_request(request()).await })
        } else {
            let mut sender = http1(pair.entry).await;
            let mut asked = request();
            asked.headers_mut().insert("host", HOST.parse().expect("a value"));
            *asked.uri_mut() = "/".parse().expect("a path");
            tokio::spawn(async move { sender.send_request(asked).await })
        };
        eventually("the application is asked", async || app.asked() == 1).await;
        pair.client.shutdown.cancel();
        pair.server.shutdown.cancel();
        for address in [pair.entry, pair.inbound] {
            eventually("nobody listens", async || TcpStream::connect(address).await.is_err()).await;
        }
        assert!(!pair.client.task.is_finished() && !pair.server.task.is_finished());
        gate.add_permits(1);
        let response = timeout(LIMIT, running).await.expect("in time").expect("no panic").expect("an answer");
        assert_eq!((response.status().as_u16(), text(response).await.as_str()), (200, "done"));
        pair.client.end(SOON).await;
        pair.server.end(SOON).await;
    }
}

#[tokio::test]
async fn connections_that_wait_keep_nobody() {
    for protocol in [Protocol::Http, Protocol::Http2] {
        let app = App::saying("hi").await;
        let pair = Mesh::new().pair(protocol, app.address).await;
        let mut sender = http1(pair.entry).await;
        let asked = Request::get("/").header("host", HOST).body(empty()).expect("a request");
        let response = sender.send_request(asked).await.expect("a response");
        assert_eq!(text(response).await, "hi");
        let silent = TcpStream::connect(pair.entry).await.expect("connected");
        // The client first: the server must not be what ends its connections.
        pair.client.end(SOON).await;
        pair.server.end(SOON).await;
        drop((sender, silent));
    }
}

#[tokio::test]
async fn what_does_not_finish_is_cut() {
    let settings = || Settings { drain_ms: 200, ..Settings::default() };
    let (app, _gate) = waiting().await;
    let pair = Mesh::new().pair_with(Protocol::Http, app.address, settings()).await;
    let mut sender = http1(pair.entry).await;
    let asked = Request::get("/").header("host", HOST).body(empty()).expect("a request");
    let running = tokio::spawn(async move { sender.send_request(asked).await });
    eventually("the application is asked", async || app.asked() == 1).await;
    pair.client.end(SOON).await;
    assert!(timeout(LIMIT, running).await.expect("in time").expect("no panic").is_err());

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let pair = Mesh::new().pair_with(Protocol::Tcp, listener.local_addr().expect("bound"), settings()).await;
    let mut caller = TcpStream::connect(pair.entry).await.expect("connected");
    let (mut application, _) = timeout(LIMIT, listener.accept()).await.expect("in time").expect("a connection");
    caller.write_all(b"x").await.expect("sent");
    assert_eq!(application.read_u8().await.expect("read"), b'x');
    pair.server.end(SOON).await;
    for end in [&mut caller, &mut application] {
        let error = timeout(LIMIT, end.read_u8()).await.expect("in time").expect_err("reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_server_that_leaves_costs_no_request() {
    let app = App::saying("hi").await;
    let pair = Mesh::new().pair(Protocol::Http, app.address).await;
    assert_eq!(get(pair.entry, HOST).await.0, 200);
    pair.server.end(LIMIT).await;
    assert_eq!(get(pair.entry, HOST).await.0, 503);
    let (mesh, mut client) = (pair.mesh, pair.client);
    let mut next = mesh.start("server", Settings::default());
    let inbound = crate::mesh::reserved();
    next.feed(mesh.inbound(&[(inbound.port(), Protocol::Http, app.address)])).expect("accepted");
    next.is_ready().await;
    let endpoints = vec![(inbound, Some("server"))];
    let offer = crate::mesh::Offer { host: HOST, port: pair.entry.port(), protocol: Protocol::Http, endpoints };
    client.feed(mesh.outbound(&[offer])).expect("accepted");
    assert_eq!(get(pair.entry, HOST).await, (200, "hi".to_owned()));
}
