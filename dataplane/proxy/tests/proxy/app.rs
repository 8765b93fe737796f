//! Applications: servers that the sidecars stand before, and callers that ask through them.

use crate::mesh::LIMIT;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

pub(crate) type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// An application that serves HTTP/1 and HTTP/2.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
}

// === impl App ===

impl App {
    /// Answers every request with what `answer` makes of it.
    pub(crate) async fn start<F, A>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (accepted, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (connections, requests) = (accepted.clone(), asked.clone());
        let answer = Arc::new(move |request| -> BoxFuture<'static, _> {
            requests.fetch_add(1, Ordering::Relaxed);
            answer(request).map(Ok::<_, Infallible>).boxed()
        });
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let answer = answer.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(request));
                    let builder = auto::Builder::new(TokioExecutor::new());
                    // A caller that goes away is no matter of the application.
                    let _ = builder.serve_connection_with_upgrades(TokioIo::new(tcp), service).await;
                });
            }
        });
        Self { address, accepted, asked }
    }

    /// Answers with a text.
    pub(crate) async fn saying(text: &'static str) -> Self {
        Self::start(move |_| async move { Response::new(full(text)) }).await
    }

    /// Answers with the head of the request, one `name: value` a line, and then its body.
    pub(crate) async fn echoing() -> Self {
        Self::start(|request: Request<Incoming>| async move {
            let (head, body) = request.into_parts();
            let mut text = format!("{} {}\n", head.method, head.uri);
            for (name, value) in &head.headers {
                text.extend([name.as_str(), ": ", &String::from_utf8_lossy(value.as_bytes()), "\n"]);
            }
            let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            Response::new(full([text.as_bytes(), &body].concat()))
        })
        .await
    }

    /// Connections that it took.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Requests that it saw.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that is sent piece by piece, and its other end.
pub(crate) fn piecemeal() -> (mpsc::Sender<Frame<Bytes>>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async {
        let frame: Frame<Bytes> = receiver.recv().await?;
        Some((Ok(frame), receiver))
    });
    (sender, StreamBody::new(frames).boxed_unsync())
}

pub(crate) fn empty() -> Body {
    full(Bytes::new())
}

/// A connection for HTTP/1.1 requests.
pub(crate) async fn http1(address: SocketAddr) -> http1::SendRequest<Body> {
    let tcp = TcpStream::connect(address).await.expect("connected");
    let (sender, connection) = http1::handshake(TokioIo::new(tcp)).await.expect("HTTP/1");
    tokio::spawn(connection.with_upgrades());
    sender
}

/// A connection for HTTP/2 requests, in the clear and without an upgrade.
pub(crate) async fn http2(address: SocketAddr) -> http2::SendRequest<Body> {
    let tcp = TcpStream::connect(address).await.expect("connected");
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// The status and body of one GET on a connection of its own.
pub(crate) async fn get(address: SocketAddr, host: &str) -> (u16, String) {
    let request = Request::get("/").header("host", host).body(empty()).expect("a request");
    let mut sender = http1(address).await;
    let response = timeout(LIMIT, sender.send_request(request)).await.expect("in time").expect("a response");
    let status = response.status().as_u16();
    (status, text(response).await)
}

pub(crate) async fn text(response: Response<Incoming>) -> String {
    let body = timeout(LIMIT, response.into_body().collect()).await.expect("in time").expect("a whole body");
    String::from_utf8_lossy(&body.to_bytes()).into_owned()
}

/// Everything that comes back for these bytes until the connection ends.
pub(crate) async fn exchange(address: SocketAddr, bytes: &str) -> String {
    let mut tcp = TcpStream::connect(address).await.expect("connected");
    tcp.write_all(bytes.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    // A reset after the answer is an end too.
    let _ = timeout(LIMIT, tcp.read_to_end(&mut answer)).await.expect("it ends");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Stands between two, hands on bytes, and counts connections.
pub(crate) struct Tap {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    cut: tokio::sync::watch::Sender<()>,
}

// === impl Tap ===

impl Tap {
    pub(crate) async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let accepted = Arc::new(AtomicUsize::new(0));
        let (cut, cuts) = tokio::sync::watch::channel(());
        let count = accepted.clone();
        tokio::spawn(async move {
            while let Ok((mut one, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let mut cuts = cuts.clone();
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut other) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut one, &mut other) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { address, accepted, cut }
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Ends all connections of the moment.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(());
    }
}
