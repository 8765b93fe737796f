//! HTTP as callers see it: methods, versions, bodies, trailers, connections.

use crate::app::{App, Body, Tap, empty, exchange, full, http1, http2, piecemeal, text};
use crate::mesh::{HOST, LIMIT, Mesh, Offer, eventually, reserved};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use isthmus_proxy::Settings;
use model::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

fn request(method: Method, body: Body) -> Request<Body> {
    Request::builder().method(method).uri("/a?b=c").header("host", HOST).body(body).expect("a request")
}

/// A body of unknown length, for trailers follow no other in HTTP/1.
fn with_trailers(text: &'static str, trailers: HeaderMap) -> Body {
    let (frames, body) = piecemeal();
    tokio::spawn(async move {
        for frame in [Frame::data(Bytes::from(text)), Frame::trailers(trailers)] {
            frames.send(frame).await.expect("taken");
        }
    });
    body
}

#[tokio::test]
async fn requests_cross_with_their_bodies() {
    let app = App::echoing().await;
    let pair = Mesh::new().pair(Protocol::Http, app.address).await;
    let mut caller = http1(pair.entry).await;
    let response = caller.send_request(request(Method::GET, empty())).await.expect("a response");
    assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_11));
    assert!(text(response).await.starts_with("GET /a?b=c\n"));
    caller.ready().await.expect("kept alive");
    let response = caller.send_request(request(Method::POST, full("hello"))).await.expect("a response");
    let answer = text(response).await;
    assert!(answer.starts_with("POST /a?b=c\n") && answer.ends_with("\nhello"), "{answer}");
}

#[tokio::test]
async fn http2_in_the_clear_reaches_an_http1_application() {
    let app = App::echoing().await;
    let pair = Mesh::new().pair(Protocol::Http, app.address).await;
    let mut caller = http2(pair.entry).await;
    let asked = Request::post(format!("http://{HOST}/x")).body(full("over h2")).expect("a request");
    let response = caller.send_request(asked).await.expect("a response");
    assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
    let answer = text(response).await;
    assert!(answer.starts_with("POST /x\n") && answer.ends_with("over h2"), "{answer}");
    assert!(answer.contains(&format!("host: {HOST}\n")), "{answer}");
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let app = App::saying("hi").await;
    let (mesh, port) = (Mesh::new(), reserved());
    let mut server = mesh.start("server", Settings::default());
    server.feed(mesh.inbound(&[(port.port(), Protocol::Http, app.address)])).expect("accepted");
    server.is_ready().await;
    let (tap, entry) = (Tap::before(port).await, reserved());
    let mut client = mesh.start("caller", Settings::default());
    let endpoints = vec![(tap.address, Some("server"))];
    let offer = Offer { host: HOST, port: entry.port(), protocol: Protocol::Http, endpoints };
    client.feed(mesh.outbound(&[offer])).expect("accepted");
    client.is_ready().await;
    let mut caller = http1(entry).await;
    for _ in 0..50 {
        caller.ready().await.expect("kept alive");
        let response = caller.send_request(request(Method::GET, empty())).await.expect("a response");
        assert_eq!(text(response).await, "hi");
    }
    assert_eq!((tap.accepted(), app.accepted(), app.asked()), (1, 1, 50));
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    const PIECES: usize = 256;
    let app =
        App::start(|request: Request<Incoming>| async move { Response::new(request.into_body().boxed_unsync()) }).await;
    let pair = Mesh::new().pair(Protocol::Http, app.address).await;
    let mut caller = http1(pair.entry).await;
    let (pieces, body) = piecemeal();
    let piece = |number: usize| Bytes::from(vec![(number % 251) as u8; 65_536]);
    pieces.send(Frame::data(piece(0))).await.expect("taken");
    let response = caller.send_request(request(Method::POST, body)).await.expect("an answer before the request's end");
    let mut answer = response.into_body();
    let first = timeout(LIMIT, answer.frame()).await.expect("in time").expect("a frame").expect("no error");
    assert!(!first.into_data().expect("data").is_empty());
    let sending = async {
        for number in 1..PIECES {
            pieces.send(Frame::data(piece(number))).await.expect("taken");
        }
        drop(pieces);
    };
    let receiving = async { answer.collect().await.expect("a whole body").to_bytes() };
    let ((), rest) = timeout(LIMIT, futures_util::future::join(sending, receiving)).await.expect("in time");
    assert!(rest.len() > (PIECES - 1) * 65_536 && rest.len() < PIECES * 65_536, "{}", rest.len());
    assert!(rest[rest.len() - 65_536..].iter().all(|byte| *byte == ((PIECES - 1) % 251) as u8));
}

#[tokio::test]
async fn a_slow_reader_is_waited_for() {
    let app = App::start(|_| async { Response::new(full(vec![7; 16 << 20])) }).await;
    let pair = Mesh::new().pair(Protocol::Http, app.address).await;
    let mut tcp = TcpStream::connect(pair.entry).await.expect("connected");
    tcp.write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .expect("sent");
    let mut piece = [0; 1 << 12];
    let (mut total, mut reads) = (0, 0);
    while let Ok(read @ 1..) = tcp.read(&mut piece).await {
        total += read;
        reads += 1;
        if reads % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(total > 16 << 20, "{total}");
}

#[tokio::test]
async fn trailers_cross_both_ways() {
    let app = App::start(|request: Request<Incoming>| async move {
        let collected = request.into_body().collect().await.expect("a body");
        let sum = collected.trailers().and_then(|trailers| trailers.get("x-sum")).cloned();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-seen", sum.unwrap_or(HeaderValue::from_static("nothing")));
        let mut response = Response::new(with_trailers("body", trailers));
        response.headers_mut().insert("trailer", HeaderValue::from_static("x-seen"));
        response
    })
    .await;
    let pair = Mesh::new().pair(Protocol::Http, app.address).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("42"));
    let mut asked = request(Method::POST, with_trailers("abc", trailers));
    let fields = asked.headers_mut();
    fields.insert("trailer", HeaderValue::from_static("x-sum"));
    fields.insert("te", HeaderValue::from_static("trailers"));
    // RFC 9110, section 10.1.4: whoever sends TE names it in Connection.
    fields.insert("connection", HeaderValue::from_static("TE"));
    let mut caller = http1(pair.entry).await;
    let response = caller.send_request(asked).await.expect("a response");
    let collected = timeout(LIMIT, response.into_body().collect()).await.expect("in time").expect("a body");
    let seen = collected.trailers().and_then(|trailers| trailers.get("x-seen")).cloned();
    assert_eq!(seen, Some(HeaderValue::from_static("42")));
}

#[tokio::test]
async fn answers_without_a_body_stay_without_one() {
    let app = App::start(|request: Request<Incoming>| async move {
        let mut response = Response::new(empty());
        let length = HeaderValue::from_static("1000");
        match request.uri().path() {
            "/head" => drop(response.headers_mut().insert("content-length", length)),
            "/none" => *response.status_mut() = StatusCode::NO_CONTENT,
            _ => {
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                response.headers_mut().insert("etag", HeaderValue::from_static("\"1\""));
                response.headers_mut().insert("content-length", length);
            }
        }
        response
    })
    .await;
    let pair = Mesh::new().pair(Protocol::Http, app.address).await;
    let asked = format!(
        "HEAD /head HTTP/1.1\r\nHost: {HOST}\r\n\r\nGET /none HTTP/1.1\r\nHost: {HOST}\r\n\r\n\
         GET /same HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"
    );
    let answer = exchange(pair.entry, &asked).await;
    let heads: Vec<&str> = answer.split_terminator("\r\n\r\n").collect();
    let [head, none, same] = heads[..] else { panic!("{answer}") };
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-length: 1000"), "{head}");
    assert!(none.starts_with("HTTP/1.1 204") && !none.contains("content-length"), "{none}");
    assert!(same.starts_with("HTTP/1.1 304") && same.contains("etag: \"1\""), "{same}");
}

#[tokio::test]
async fn who_waits_for_100_continue_gets_it() {
    let app = App::echoing().await;
    let pair = Mesh::new().pair(Protocol::Http, app.address).await;
    let mut tcp = TcpStream::connect(pair.entry).await.expect("connected");
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    );
    tcp.write_all(head.as_bytes()).await.expect("sent");
    let mut first = [0; 25];
    timeout(LIMIT, tcp.read_exact(&mut first)).await.expect("in time").expect("read");
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    tcp.write_all(b"hello").await.expect("sent");
    let mut answer = String::new();
    timeout(LIMIT, tcp.read_to_string(&mut answer)).await.expect("in time").expect("read");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
}

/// Envoy's answer, unless it is told to take HTTP/1.0.
#[tokio::test]
async fn http_1_0_is_asked_to_upgrade() {
    let app = App::saying("hi").await;
    let pair = Mesh::new().pair(Protocol::Http, app.address).await;
    let answer = exchange(pair.entry, &format!("GET / HTTP/1.0\r\nHost: {HOST}\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.0 426") && answer.ends_with("\r\n\r\nUpgrade Required"), "{answer}");
    assert_eq!(app.asked(), 0);
}

/// An application that answers everything with these bytes, and closes.
async fn answering(bytes: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut asked = [0; 4096];
            let _ = tcp.read(&mut asked).await;
            let _ = tcp.write_all(bytes).await;
        }
    });
    address
}

/// RFC 9112, section 6.3: chunks go before a length, and the length goes no further.
#[tokio::test]
async fn an_answer_with_two_lengths_is_taken_by_its_chunks() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let pair = Mesh::new().pair(Protocol::Http, answering(answer).await).await;
    let mut caller = http1(pair.entry).await;
    let response = caller.send_request(request(Method::GET, empty())).await.expect("a response");
    assert_eq!(response.headers().get("content-length"), None);
    assert_eq!(text(response).await, "hello");
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_no_answer() {
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: mine\r\n\r\nbytes";
    let pair = Mesh::new().pair(Protocol::Http, answering(answer).await).await;
    let mut caller = http1(pair.entry).await;
    let asking = caller.send_request(request(Method::GET, empty()));
    let response = timeout(LIMIT, asking).await.expect("in time").expect("a response");
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn callers_that_leave_early_leave_nothing_behind() {
    let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
    let app = App::start(move |_| {
        let (pieces, body) = piecemeal();
        let _ = started.send(pieces);
        async { Response::new(body) }
    })
    .await;
    let pair = Mesh::new().pair(Protocol::Http, app.address).await;
    for is_begun in [true, false] {
        for _ in 0..5 {
            let mut caller = http1(pair.entry).await;
            let asking = tokio::spawn(async move { caller.send_request(request(Method::GET, empty())).await });
            let pieces = timeout(LIMIT, starts.recv()).await.expect("in time").expect("it is asked");
            if is_begun {
                pieces.send(Frame::data(Bytes::from("x"))).await.expect("taken");
                let response = timeout(LIMIT, asking).await.expect("in time").expect("no panic").expect("a response");
                drop(response);
            } else {
                asking.abort();
            }
            timeout(LIMIT, pieces.closed()).await.expect("the application learns of it");
        }
    }
    eventually("nothing is on its way", async || pair.client.decisions().contains(", 0 on their way")).await;
    for running in [&pair.client, &pair.server] {
        eventually("counted", async || running.metric("istio_requests_total", &[("response_flags", "DC")]) >= 5).await;
    }
}

/// RFC 9110, section 6.2: what is forwarded bears the forwarder's own version.
#[tokio::test]
async fn an_application_of_http_1_0_is_answered_for_in_http_1_1() {
    let answer = b"HTTP/1.0 200 OK\r\n\r\nold but gold";
    let pair = Mesh::new().pair(Protocol::Http, answering(answer).await).await;
    let mut caller = http1(pair.entry).await;
    for _ in 0..2 {
        caller.ready().await.expect("kept alive");
        let response = caller.send_request(request(Method::GET, empty())).await.expect("a response");
        assert_eq!(response.version(), Version::HTTP_11);
        assert_eq!(text(response).await, "old but gold");
    }
}

#[tokio::test]
async fn a_broken_body_is_never_a_whole_one() {
    let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let pair = Mesh::new().pair(Protocol::Http, answering(answer).await).await;
    let mut caller = http1(pair.entry).await;
    let response = caller.send_request(request(Method::GET, empty())).await.expect("a response");
    let body = timeout(LIMIT, response.into_body().collect()).await.expect("in time");
    assert!(body.is_err(), "{body:?}");
    eventually("the break is counted", async || {
        pair.client.metric("istio_requests_total", &[("response_flags", "UC")]) > 0
    })
    .await;
}
