//! Bytes carried in an HTTP request: the upstream, a proxy, is asked to bring them to somebody else.
//!
//! ```text
//! CONNECT: request ─▶ 200 ─▶ the connection, or the stream, is the bytes'
//! POST:    body of the request ─▶ ... bytes ... ◀─ body of the answer
//! ```

use crate::ProxyError;
use crate::connect::Connected;
use crate::destination::Destination;
use crate::open::drive;
use crate::shared::Shared;
use crate::stream::{Carried, Stream};
use bytes::{Bytes, BytesMut};
use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, Uri, Version};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use routing::{HttpVersion, Tunnel};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf, WriteHalf, duplex, split};
use tokio::time::timeout;

/// What is sent in the body of a POST; nothing with CONNECT.
struct Outward(Option<ReadHalf<DuplexStream>>, usize);

/// Asks for `tunnel` over a connection that was just made; it takes as long as connecting may.
///
/// # Errors
/// If the upstream does not agree in time.
pub(crate) async fn open(
    shared: &Shared,
    destination: &Destination,
    connected: Connected,
    tunnel: &Tunnel,
) -> Result<Connected, ProxyError> {
    let target = || destination.endpoint.facts.target.clone();
    let limit = destination.settings.connect_timeout.unwrap_or(shared.settings.connect());
    let is_http2 = destination.settings.http == HttpVersion::Http2;
    match timeout(limit, ask(shared, connected.stream, tunnel, is_http2)).await {
        Ok(Ok(carried)) => Ok(Connected { stream: Stream::Tunnel(carried), peer: connected.peer }),
        Ok(Err(source)) => Err(ProxyError::Connect { target: target(), source }),
        Err(_) => Err(ProxyError::Late { target: target() }),
    }
}

async fn ask(shared: &Shared, stream: Stream, tunnel: &Tunnel, is_http2: bool) -> io::Result<Box<dyn Carried>> {
    let size = shared.settings.copy_bytes;
    if !tunnel.by_post {
        let request = request(tunnel, Outward(None, 0), is_http2)?;
        let answer = send(shared, stream, request, is_http2).await?;
        let upgraded = hyper::upgrade::on(answer).await.map_err(io::Error::other)?;
        return Ok(Box::new(TokioIo::new(upgraded)));
    }
    let (ours, theirs) = duplex(size);
    let (outward, inward) = split(theirs);
    let request = request(tunnel, Outward(Some(outward), size), is_http2)?;
    let answer = send(shared, stream, request, is_http2).await?;
    let abort = shared.abort.clone();
    shared.upstreams.spawn(async move {
        tokio::select! {
            () = abort.cancelled() => {}
            // A body that breaks off ends the bytes, as the end of a connection would.
            _ = bring(answer.into_body(), inward) => {}
        }
    });
    Ok(Box::new(ours))
}

fn request(tunnel: &Tunnel, body: Outward, is_http2: bool) -> io::Result<Request<Outward>> {
    let authority: Authority = tunnel.to.parse().map_err(io::Error::other)?;
    let mut parts = http::uri::Parts::default();
    if tunnel.by_post {
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
        parts.scheme = is_http2.then_some(Scheme::HTTP);
    }
    parts.authority = (is_http2 || !tunnel.by_post).then_some(authority);
    let mut request = Request::builder()
        .method(if tunnel.by_post { Method::POST } else { Method::CONNECT })
        .uri(Uri::from_parts(parts).map_err(io::Error::other)?)
        .version(if is_http2 { Version::HTTP_2 } else { Version::HTTP_11 });
    if !is_http2 {
        request = request.header(HOST, &*tunnel.to);
    }
    request.body(body).map_err(io::Error::other)
}

async fn send(
    shared: &Shared,
    stream: Stream,
    request: Request<Outward>,
    is_http2: bool,
) -> io::Result<Response<Incoming>> {
    let to = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    let io = TokioIo::new(stream);
    let answer = if is_http2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(io::Error::other)?;
        drive(shared, connection);
        sender.send_request(request).await
    } else {
        let (mut sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
        drive(shared, connection.with_upgrades());
        sender.send_request(request).await
    };
    let answer = answer.map_err(io::Error::other)?;
    if !answer.status().is_success() {
        return Err(io::Error::other(format!("the tunnel to {to} was answered {}", answer.status())));
    }
    Ok(answer)
}

async fn bring(body: Incoming, mut inward: WriteHalf<DuplexStream>) -> io::Result<()> {
    let mut body = std::pin::pin!(body);
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
            inward.write_all(&data).await?;
        }
    }
    inward.shutdown().await
}

// === impl Outward ===

impl Body for Outward {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Self(Some(reader), size) = self.get_mut() else { return Poll::Ready(None) };
        let mut room = BytesMut::zeroed(*size);
        let mut buffer = ReadBuf::new(&mut room);
        ready!(Pin::new(reader).poll_read(cx, &mut buffer))?;
        let read = buffer.filled().len();
        room.truncate(read);
        Poll::Ready((read > 0).then(|| Ok(Frame::data(room.freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}
