//! gRPC: streams both ways, statuses in trailers, and calls that are made again.

use crate::app::{App, Body, empty, http2, piecemeal};
use crate::mesh::{HOST, LIMIT, Mesh, Offer, Running, reserved};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use isthmus_proxy::Settings;
use model::Protocol;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::timeout;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

fn call(body: Body) -> Request<Body> {
    let builder = Request::post(format!("http://{HOST}/echo.Echo/Call")).header("te", "trailers");
    builder.header("content-type", GRPC).body(body).expect("a request")
}

fn status(of: &'static str) -> HeaderMap {
    [("grpc-status".parse().expect("a name"), HeaderValue::from_static(of))].into_iter().collect()
}

/// Sends back every piece as it comes, and then status 0.
async fn echo(request: Request<Incoming>) -> Response<Body> {
    let mut asked = request.into_body();
    let (frames, body) = piecemeal();
    tokio::spawn(async move {
        while let Some(Ok(frame)) = asked.frame().await {
            if let Ok(data) = frame.into_data()
                && frames.send(Frame::data(data)).await.is_err()
            {
                return;
            }
        }
        let _ = frames.send(Frame::trailers(status("0"))).await;
    });
    Response::builder().header("content-type", GRPC).body(body).expect("a response")
}

/// Says at once that it cannot, in the form that has no body. The call is held for as long as `held` lives, so that
/// the stream is not reset.
fn unavailable(
    request: Request<Incoming>,
    held: &tokio::sync::mpsc::UnboundedSender<Request<Incoming>>,
) -> Response<Body> {
    let _ = held.send(request);
    let builder = Response::builder().header("content-type", GRPC).header("grpc-status", "14");
    builder.body(empty()).expect("a response")
}

/// A caller's sidecar that knows applications in the clear.
async fn caller(protocol: Protocol, applications: &[SocketAddr]) -> (Running, SocketAddr) {
    let (mesh, entry) = (Mesh::new(), reserved());
    let mut client = mesh.start("caller", Settings::default());
    let endpoints = applications.iter().map(|address| (*address, None)).collect();
    client.feed(mesh.outbound(&[Offer { host: HOST, port: entry.port(), protocol, endpoints }])).expect("accepted");
    client.is_ready().await;
    (client, entry)
}

#[tokio::test]
async fn a_stream_goes_both_ways_piece_by_piece() {
    let app = App::start(echo).await;
    let pair = Mesh::new().pair(Protocol::Grpc, app.address).await;
    let mut caller = http2(pair.entry).await;
    let (pieces, body) = piecemeal();
    let response = timeout(LIMIT, caller.send_request(call(body))).await.expect("in time").expect("a response");
    let mut answer = response.into_body();
    for number in 0..100_u32 {
        let piece = Bytes::copy_from_slice(&number.to_be_bytes());
        pieces.send(Frame::data(piece.clone())).await.expect("taken");
        let frame = timeout(LIMIT, answer.frame()).await.expect("in time").expect("a frame").expect("no error");
        assert_eq!(frame.into_data().expect("data"), piece);
    }
    drop(pieces);
    let last = timeout(LIMIT, answer.frame()).await.expect("in time").expect("a frame").expect("no error");
    assert_eq!(last.into_trailers().expect("trailers"), status("0"));
    assert_eq!(app.accepted(), 1);
    let labels = [("request_protocol", "grpc"), ("grpc_response_status", "0"), ("response_code", "200")];
    crate::mesh::eventually("counted on both sides", async || {
        pair.client.metric("istio_requests_total", &labels) == 1
            && pair.server.metric("istio_requests_total", &labels) == 1
    })
    .await;
}

#[tokio::test]
async fn a_call_that_reaches_nobody_is_told_so_in_grpcs_words() {
    let nobody = reserved();
    let (client, entry) = caller(Protocol::Grpc, &[nobody]).await;
    let mut sender = http2(entry).await;
    let response = timeout(LIMIT, sender.send_request(call(empty()))).await.expect("in time").expect("a response");
    assert_eq!((response.status().as_u16(), &response.headers()["content-type"]), (200, &GRPC));
    assert_eq!(response.headers()["grpc-status"], "14");
    let message = response.headers()["grpc-message"].to_str().expect("text");
    assert!(message.contains("refused") && !message.contains("127.0.0.1"), "{message}");
    let labels = [("grpc_response_status", "14"), ("response_flags", "UF")];
    crate::mesh::eventually("counted", async || client.metric("istio_requests_total", &labels) == 1).await;
}

#[tokio::test]
async fn many_calls_share_one_connection() {
    let app = App::start(echo).await;
    let pair = Mesh::new().pair(Protocol::Grpc, app.address).await;
    let sender = http2(pair.entry).await;
    let calls = (0..50_u8).map(|number| {
        let mut sender = sender.clone();
        async move {
            let text = vec![number; 1000];
            let response = sender.send_request(call(crate::app::full(text.clone()))).await.expect("a response");
            let collected = response.into_body().collect().await.expect("a body");
            assert_eq!(collected.trailers(), Some(&status("0")));
            assert_eq!(collected.to_bytes(), text);
        }
    });
    timeout(LIMIT, futures_util::future::join_all(calls)).await.expect("in time");
    assert_eq!(app.accepted(), 1);
}

/// The one that refuses does not end the call's stream: what comes later is for the other one alone.
#[tokio::test]
async fn an_unavailable_call_is_made_again_with_all_of_its_body() {
    let (held, mut calls) = tokio::sync::mpsc::unbounded_channel();
    let refusals = Arc::new(AtomicUsize::new(0));
    let count = refusals.clone();
    let refusing = App::start(move |request| {
        count.fetch_add(1, Ordering::Relaxed);
        let answer = unavailable(request, &held);
        async move { answer }
    })
    .await;
    let echoing = App::start(echo).await;
    let (_client, entry) = caller(Protocol::Grpc, &[refusing.address, echoing.address]).await;
    let mut caller = http2(entry).await;
    for _ in 0..20 {
        let (pieces, body) = piecemeal();
        pieces.send(Frame::data(Bytes::from_static(b"first "))).await.expect("taken");
        let calling = caller.send_request(call(body));
        let response = timeout(LIMIT, calling).await.expect("in time").expect("a response");
        assert_eq!(response.headers().get("grpc-status"), None);
        for piece in ["second ", "third"] {
            tokio::task::yield_now().await;
            pieces.send(Frame::data(Bytes::from(piece))).await.expect("taken");
        }
        drop(pieces);
        let collected = timeout(LIMIT, response.into_body().collect()).await.expect("in time").expect("a body");
        assert_eq!(collected.trailers(), Some(&status("0")));
        assert_eq!(collected.to_bytes(), "first second third");
    }
    assert!(refusals.load(Ordering::Relaxed) > 0);
    while let Ok(refused) = calls.try_recv() {
        let mut body = Request::into_body(refused);
        let mut seen = Vec::new();
        while let Some(Ok(frame)) = timeout(LIMIT, body.frame()).await.expect("the refused stream ends") {
            seen.extend(frame.into_data().expect("data"));
        }
        assert!(b"first ".starts_with(&seen), "{seen:?}");
    }
}

#[tokio::test]
async fn what_stays_unavailable_is_said_in_grpc() {
    let (held, _calls) = tokio::sync::mpsc::unbounded_channel();
    let refusing = App::start(move |request| {
        let answer = unavailable(request, &held);
        async move { answer }
    })
    .await;
    let (_client, entry) = caller(Protocol::Grpc, &[refusing.address]).await;
    let mut caller = http2(entry).await;
    let calling = caller.send_request(call(crate::app::full("x")));
    let response = timeout(LIMIT, calling).await.expect("in time").expect("a response");
    assert_eq!(response.headers().get("grpc-status"), Some(&HeaderValue::from_static("14")));
    assert_eq!(refusing.asked(), 3, "once, and twice more");
}
