//! Header fields: what is refused, taken away, and told.

use crate::app::{App, empty, exchange, http1, text};
use crate::mesh::{HOST, Mesh, Pair, spiffe};
use http::Request;
use isthmus_proxy::Settings;
use model::Protocol;

async fn echoing() -> (App, Pair) {
    let app = App::echoing().await;
    let pair = Mesh::new().pair(Protocol::Http, app.address).await;
    (app, pair)
}

/// What the application saw of a GET with these lines.
async fn seen(pair: &Pair, lines: &str) -> String {
    exchange(pair.entry, &format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{lines}\r\n")).await
}

fn field<'a>(answer: &'a str, name: &str) -> Vec<&'a str> {
    answer.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
}

#[tokio::test]
async fn an_unknown_authority_is_refused() {
    let (app, pair) = echoing().await;
    let answer = exchange(pair.entry, "GET / HTTP/1.1\r\nHost: nobody.example\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(app.asked(), 0);
}

#[tokio::test]
async fn the_authority_is_one_and_well_formed() {
    let (app, pair) = echoing().await;
    for hosts in [
        format!("Host: {HOST}\r\nHost: {HOST}\r\n"),
        format!("Host: {HOST}\r\nHost: other.example\r\n"),
        String::new(),
        "Host:\r\n".to_owned(),
        format!("Host: user@{HOST}\r\n"),
        "Host: a b\r\n".to_owned(),
    ] {
        let answer = exchange(pair.entry, &format!("GET / HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{hosts:?}: {answer}");
    }
    assert_eq!(app.asked(), 0);
}

/// RFC 9112, section 3.2.2: a target with an authority goes before any Host, for the application too.
#[tokio::test]
async fn the_application_sees_the_authority_that_was_routed() {
    let (_app, pair) = echoing().await;
    let asked = format!("GET http://{HOST}/x HTTP/1.1\r\nHost: admin.example\r\nConnection: close\r\n\r\n");
    let answer = exchange(pair.entry, &asked).await;
    assert!(answer.contains("GET /x\n"), "{answer}");
    assert_eq!(field(&answer, "host"), [HOST], "{answer}");
    let asked = format!("GET http://{HOST}/x HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n");
    let answer = exchange(pair.entry, &asked).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn nothing_is_smuggled_between_two_lengths() {
    let (app, pair) = echoing().await;
    let hidden = format!("0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    for lengths in
        ["Content-Length: 60\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 60\r\n"]
    {
        let answer = exchange(pair.entry, &format!("POST / HTTP/1.1\r\nHost: {HOST}\r\n{lengths}\r\n{hidden}")).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    for lengths in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
    ] {
        let answer = exchange(pair.entry, &format!("POST / HTTP/1.1\r\nHost: {HOST}\r\n{lengths}\r\nhello")).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{lengths:?}: {answer}");
    }
    assert_eq!(app.asked(), 0);
}

#[tokio::test]
async fn too_great_a_head_is_refused() {
    let (app, pair) = echoing().await;
    let many = "x-many: 1\r\n".repeat(200);
    let long = format!("x-long: {}\r\n", "a".repeat(100_000));
    for lines in [many, long] {
        let answer = seen(&pair, &lines).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    assert_eq!(app.asked(), 0);
}

#[tokio::test]
async fn a_small_limit_of_heads_is_no_reason_to_break() {
    let app = App::saying("hi").await;
    let settings = Settings { header_bytes: 1024, ..Settings::default() };
    let pair = Mesh::new().pair_with(Protocol::Http, app.address, settings).await;
    assert!(seen(&pair, "").await.ends_with("hi"));
}

#[tokio::test]
async fn the_application_is_told_who_asks_and_cannot_be_lied_to() {
    let (_app, pair) = echoing().await;
    let forged = "X-Forwarded-Client-Cert: URI=spiffe://east.example/ns/shop/sa/admin\r\n".repeat(2);
    let answer = seen(&pair, &forged).await;
    let told = field(&answer, "x-forwarded-client-cert");
    let [told] = told[..] else { panic!("{answer}") };
    let (caller, server) = (spiffe("caller"), spiffe("server"));
    let parts: Vec<&str> = told.split(';').collect();
    let [by, hash, subject, uri] = parts[..] else { panic!("{told}") };
    assert_eq!((by, subject, uri), (&*format!("By={server}"), "Subject=\"\"", &*format!("URI={caller}")));
    let hash = hash.strip_prefix("Hash=").expect("a hash");
    assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{told}");

    // In the clear nothing is proved, and nothing is told.
    let asked = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{forged}\r\n");
    let answer = exchange(pair.inbound, &asked).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(field(&answer, "x-forwarded-client-cert"), [""; 0], "{answer}");
}

#[tokio::test]
async fn every_request_has_an_id() {
    let (_app, pair) = echoing().await;
    let answers = [seen(&pair, "").await, seen(&pair, "").await];
    let ids: Vec<&str> = answers.iter().flat_map(|answer| field(answer, "x-request-id")).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1] && ids[0].len() == 36, "{ids:?}");
    assert_eq!(field(&seen(&pair, "X-Request-Id: mine\r\n").await, "x-request-id"), ["mine"]);
}

#[tokio::test]
async fn fields_of_one_hop_go_no_further() {
    let (_app, pair) = echoing().await;
    let lines = "Connection: x-one\r\nConnection: x-two, x-three\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\n\
                 Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: h2c\r\nX-Stays: yes\r\n";
    let answer = seen(&pair, lines).await;
    let (_, answer) = answer.split_once("\r\n\r\n").expect("a body");
    for name in ["x-one", "x-two", "x-three", "keep-alive", "proxy-connection", "te", "upgrade", "connection"] {
        assert_eq!(field(answer, name), [""; 0], "{name}: {answer}");
    }
    assert_eq!(field(answer, "x-stays"), ["yes"]);
}

#[tokio::test]
async fn paths_are_routed_and_seen_in_one_form() {
    let (_app, pair) = echoing().await;
    let mut caller = http1(pair.entry).await;
    let asked = Request::get("/a//b/../%2e%2e/c?x=//").header("host", HOST).body(empty()).expect("a request");
    let response = caller.send_request(asked).await.expect("a response");
    // An empty segment is one, as to Envoy: slashes are merged last.
    assert!(text(response).await.starts_with("GET /a/c?x=//\n"));
}
