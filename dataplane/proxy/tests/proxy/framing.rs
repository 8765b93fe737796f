//! Where one request ends and the next begins: told by bytes that no well-behaved client would send.

use crate::app::{App, exchange};
use crate::mesh::{HOST, LIMIT, Mesh, Pair, eventually};
use isthmus_proxy::Settings;
use model::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

async fn echoing(settings: Settings) -> (App, Pair) {
    let app = App::echoing().await;
    let pair = Mesh::new().pair_with(Protocol::Http, app.address, settings).await;
    (app, pair)
}

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n{body}")
}

/// Everything until the connection ends.
async fn rest(tcp: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let _ = timeout(LIMIT, tcp.read_to_end(&mut all)).await.expect("it ends");
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_answered_400_and_the_connection_ends() {
    let (app, pair) = echoing(Settings::default()).await;
    let next = format!("GET /next HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    for fields in [
        "Content-Length: 2\r\nContent-Length: 2\r\n",
        "Content-Length: 0x2\r\n",
        "Content-Length:\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "x-folded: 1\r\n 2\r\n",
        "x-bare: 1\nx-next: 2\r\n",
        "x-bare: 1\rx-next: 2\r\n",
        "x-spaced : 1\r\n",
        ": 1\r\n",
        "x(y: 1\r\n",
        "x-nul: a\0b\r\n",
    ] {
        let answer = exchange(pair.entry, &post(fields, &format!("2\r\nab\r\n0\r\n\r\n{next}"))).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{fields:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{fields:?}: {answer}");
    }
    for coding in ["gzip, chunked", "chunked, chunked"] {
        let answer = exchange(pair.entry, &post(&format!("Transfer-Encoding: {coding}\r\n"), "0\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 501") && answer.contains("connection: close"), "{coding}: {answer}");
    }
    assert_eq!(app.asked(), 0);
}

#[tokio::test]
async fn requests_before_an_ambiguous_one_are_answered() {
    let (_app, pair) = echoing(Settings::default()).await;
    let good = post("Transfer-Encoding: chunked\r\n", "2;a=b\r\nab\r\n0\r\nx-t: 1\r\n\r\n");
    let other = post("Content-Length: 3\r\n", "abc");
    let bad = post("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd");
    let answer = exchange(pair.entry, &format!("\r\n{good}{other}{bad}{good}")).await;
    let statuses: Vec<&str> = answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["200", "200", "400"], "{answer}");
}

/// A caller that breaks its own request is no reason to think ill of the endpoint.
#[tokio::test]
async fn a_broken_body_is_the_callers_fault() {
    let (app, pair) = echoing(Settings::default()).await;
    for body in [
        "0x2\r\nab\r\n0\r\n\r\n",
        "-1\r\nab\r\n",
        "1_0\r\nab\r\n",
        "fffffffffffffffff\r\nab",
        "2\r\nabc\r\n0\r\n\r\n",
        "2\nab\n0\n\n",
    ] {
        let answer = exchange(pair.entry, &post("Transfer-Encoding: chunked\r\n", body)).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{body:?}: {answer}");
    }
    let labels = [("response_code", "400"), ("response_flags", "DPE")];
    assert_eq!(pair.client.metric("istio_requests_total", &labels), 6);
    assert!(!pair.client.decisions().contains("avoided"), "{}", pair.client.decisions());
    let answer = exchange(pair.entry, &post("Connection: close\r\nContent-Length: 2\r\n", "ab")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && app.asked() > 0, "{answer}");
}

#[tokio::test]
async fn what_is_no_answer_is_a_bad_gateway() {
    for words in [
        "hello world\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx y: 1\r\n\r\n",
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let mut asked = [0; 4096];
                let _ = tcp.read(&mut asked).await;
                let _ = tcp.write_all(words.as_bytes()).await;
            }
        });
        let pair = Mesh::new().pair(Protocol::Http, address).await;
        let answer = exchange(pair.entry, &post("Connection: close\r\nContent-Length: 0\r\n", "")).await;
        assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("protocol error"), "{words:?}: {answer}");
        let labels = [("response_code", "502"), ("response_flags", "UPE")];
        assert_eq!(pair.server.metric("istio_requests_total", &labels), 1, "{words:?}");
    }
}

#[tokio::test]
async fn a_slow_head_ends_the_connection_and_an_idle_one_does_not() {
    let (app, pair) = echoing(Settings { header_ms: 300, ..Settings::default() }).await;
    let whole = post("Content-Length: 0\r\n", "");
    let mut idle = TcpStream::connect(pair.entry).await.expect("connected");
    let mut slow = TcpStream::connect(pair.entry).await.expect("connected");
    slow.write_all(&whole.as_bytes()[..20]).await.expect("sent");
    assert_eq!(rest(&mut slow).await, "");
    // It had said nothing all the while, and longer than a head may take.
    idle.write_all(post("Content-Length: 0\r\nConnection: close\r\n", "").as_bytes()).await.expect("sent");
    assert!(rest(&mut idle).await.starts_with("HTTP/1.1 200"));
    // The body may come as slowly as it likes.
    let mut tcp = TcpStream::connect(pair.entry).await.expect("connected");
    tcp.write_all(post("Content-Length: 2\r\nConnection: close\r\n", "a").as_bytes()).await.expect("sent");
    eventually("the application is asked", async || app.asked() == 1).await;
    let mut slow = TcpStream::connect(pair.entry).await.expect("connected");
    slow.write_all(&whole.as_bytes()[..20]).await.expect("sent");
    assert_eq!(rest(&mut slow).await, "", "a head that began later has had its time");
    tcp.write_all(b"b").await.expect("sent");
    assert!(rest(&mut tcp).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_connection_without_requests_ends_in_time() {
    let (_app, pair) = echoing(Settings { idle_ms: 200, ..Settings::default() }).await;
    let mut tcp = TcpStream::connect(pair.entry).await.expect("connected");
    tcp.write_all(post("Content-Length: 0\r\n", "").as_bytes()).await.expect("sent");
    assert!(rest(&mut tcp).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_upgrade_that_is_not_made_ends_the_connection() {
    let (app, pair) = echoing(Settings::default()).await;
    let hidden = format!("GET /hidden HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let asked = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n{hidden}");
    let answer = exchange(pair.entry, &asked).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    assert_eq!((app.asked(), answer.matches("HTTP/1.1 200").count()), (1, 1), "{answer}");
    let answer = exchange(pair.entry, &asked.replace("websocket", "mine")).await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("connection: close"), "{answer}");
    assert_eq!(app.asked(), 1);
}

/// The proxy asks for the body, and the application does not learn that it was waited for.
#[tokio::test]
async fn a_caller_that_expects_to_be_asked_is_asked() {
    let (_app, pair) = echoing(Settings::default()).await;
    let mut tcp = TcpStream::connect(pair.entry).await.expect("connected");
    let head = post("Expect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n", "");
    tcp.write_all(head.as_bytes()).await.expect("sent");
    let mut asked = [0; 25];
    timeout(LIMIT, tcp.read_exact(&mut asked)).await.expect("in time").expect("read");
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    tcp.write_all(b"hello").await.expect("sent");
    let answer = rest(&mut tcp).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    assert!(!answer.contains("expect:"), "{answer}");
}
