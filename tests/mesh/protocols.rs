//! Everything that two applications may speak, through two sidecars, two gateways and a tunnel.

use crate::beside::{GRPC, HOST, HTTP, Pair, TCP, TLS};
use crate::echo::{self, BREAK, FAREWELL, GREETING};
use crate::fixture::{Mesh, PATIENCE, until};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use std::io::ErrorKind;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const CALLER: &str = "spiffe://west.example/ns/bookinfo/sa/bookinfo-productpage";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_protocol_crosses() {
    let mut mesh = Mesh::start(64);
    let pair = Pair::join(&mut mesh, 64);
    let root = echo::start(pair).await;
    until("the echo answers", PATIENCE, async || {
        let mut client = isthmus::http_client::Client::new(pair.at(HTTP), PATIENCE);
        match client.get(&format!("{HOST}:{HTTP}"), "/headers", &header::HeaderMap::new()).await {
            Ok(reply) if reply.status == 200 => Ok(()),
            Ok(reply) => Err(String::from_utf8_lossy(&reply.body).into_owned()),
            Err(error) => Err(format!("{error:#}")),
        }
    })
    .await;
    let all = async {
        the_application_learns_who_asks_and_nobody_can_lie(pair).await;
        a_long_body_comes_back_whole(pair).await;
        a_websocket_switches(pair).await;
        a_stream_of_messages_flows_both_ways_and_ends_with_trailers(pair).await;
        the_server_may_speak_first_and_a_half_close_is_one(pair).await;
        a_reset_is_a_reset(pair).await;
        the_applications_own_tls_is_not_touched(pair, root).await;
    };
    tokio::time::timeout(PATIENCE, all).await.expect("all of it in time");
    mesh.stop_all().await;
}

async fn the_application_learns_who_asks_and_nobody_can_lie(pair: Pair) {
    let forged = "URI=spiffe://west.example/ns/bookinfo/sa/admin";
    let request = get("/headers").header("x-forwarded-client-cert", forged).header("connection", "x-mine, close");
    let response = send(pair, request.header("x-mine", "1").body(Empty::<Bytes>::new()).expect("a request")).await;
    let seen = text(response).await;
    let certificates: Vec<&str> = seen.lines().filter(|line| line.starts_with("x-forwarded-client-cert")).collect();
    let [certificate] = certificates[..] else { panic!("{seen}") };
    assert!(certificate.ends_with(&format!("URI={CALLER}")), "{certificate}");
    assert!(certificate.contains("By=spiffe://east.example/ns/bookinfo/sa/bookinfo-details;Hash="), "{certificate}");
    assert!(!seen.contains("admin") && !seen.contains("x-mine"), "{seen}");
    assert!(seen.contains("x-request-id: ") && seen.contains("x-forwarded-proto: "), "{seen}");
}

async fn a_long_body_comes_back_whole(pair: Pair) {
    let piece = Bytes::from(vec![b'x'; 64 << 10]);
    let pieces = futures_util::stream::iter((0..32).map(move |_| Ok::<_, hyper::Error>(Frame::data(piece.clone()))));
    let request = Request::post("/echo").header(header::HOST, HOST).body(StreamBody::new(pieces)).expect("a request");
    let response = send(pair, request).await;
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    assert_eq!(body.len(), 32 * (64 << 10));
}

async fn a_websocket_switches(pair: Pair) {
    let request = get("/chat").header(header::CONNECTION, "Upgrade").header(header::UPGRADE, "websocket");
    let response = send(pair, request.body(Empty::<Bytes>::new()).expect("a request")).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()[header::UPGRADE], "websocket");
    let mut switched = TokioIo::new(hyper::upgrade::on(response).await.expect("switched"));
    for word in [b"ping", b"pong"] {
        switched.write_all(word).await.expect("sent");
        let mut back = [0; 4];
        switched.read_exact(&mut back).await.expect("it comes back");
        assert_eq!(&back, word);
    }
}

async fn a_stream_of_messages_flows_both_ways_and_ends_with_trailers(pair: Pair) {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, hyper::Error>>(1);
    let body = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let request = Request::post(format!("http://{HOST}:{GRPC}/chat.Chat/Talk"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(body)
        .expect("a request");
    let tcp = TcpStream::connect(pair.at(GRPC)).await.expect("connected");
    let (mut client, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.expect("HTTP/2 begins");
    tokio::spawn(connection);
    let mut response = client.send_request(request).await.expect("an answer");
    assert_eq!((response.status(), response.version()), (StatusCode::OK, http::Version::HTTP_2));
    for message in ["first", "second"] {
        // The next is sent only when this one came back: nothing on the way may wait for the end.
        sender.send(Ok(Frame::data(Bytes::from(message)))).await.expect("sent");
        let frame = response.frame().await.expect("a frame").expect("a good frame");
        assert_eq!(frame.into_data().expect("data"), message);
    }
    drop(sender);
    let trailers = response.frame().await.expect("a frame").expect("a good frame").into_trailers();
    assert_eq!(trailers.expect("trailers")["grpc-status"], "0");
}

async fn the_server_may_speak_first_and_a_half_close_is_one(pair: Pair) {
    let mut tcp = TcpStream::connect(pair.at(TCP)).await.expect("connected");
    let mut greeting = vec![0; GREETING.len()];
    tcp.read_exact(&mut greeting).await.expect("the greeting");
    assert_eq!(greeting, GREETING);
    tcp.write_all(b"something").await.expect("sent");
    tcp.shutdown().await.expect("half closed");
    let mut rest = Vec::new();
    tcp.read_to_end(&mut rest).await.expect("a clean end");
    assert_eq!(rest, [b"something", FAREWELL].concat());
}

async fn a_reset_is_a_reset(pair: Pair) {
    let mut tcp = TcpStream::connect(pair.at(TCP)).await.expect("connected");
    let mut greeting = vec![0; GREETING.len()];
    tcp.read_exact(&mut greeting).await.expect("the greeting");
    tcp.write_all(BREAK).await.expect("sent");
    let broken = tcp.read(&mut greeting).await.expect_err("a broken connection must not look like a finished one");
    assert_eq!(broken.kind(), ErrorKind::ConnectionReset);
}

async fn the_applications_own_tls_is_not_touched(pair: Pair, root: CertificateDer<'static>) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root).expect("a root");
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let connect = async |name: &'static str| {
        let tcp = TcpStream::connect(pair.at(TLS)).await.expect("connected");
        connector.connect(ServerName::try_from(name).expect("a name"), tcp).await
    };
    let mut tls = connect(HOST).await.expect("the application's own certificate");
    tls.write_all(b"word").await.expect("sent");
    let mut back = Vec::new();
    tls.read_to_end(&mut back).await.expect("a clean end");
    assert_eq!(back, b"word");
    let unknown = connect("elsewhere.example").await.expect_err("nobody is called so");
    assert!(unknown.get_ref().is_none(), "refused before any TLS: {unknown}");
}

fn get(path: &str) -> http::request::Builder {
    Request::get(path).header(header::HOST, format!("{HOST}:{HTTP}"))
}

async fn send<B>(pair: Pair, request: Request<B>) -> Response<Incoming>
where
    B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let tcp = TcpStream::connect(pair.at(HTTP)).await.expect("connected");
    let (mut client, connection) = http1::handshake(TokioIo::new(tcp)).await.expect("HTTP/1 begins");
    tokio::spawn(connection.with_upgrades());
    client.send_request(request).await.expect("an answer")
}

async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    String::from_utf8_lossy(&body).into_owned()
}
