//! The echo: an application that speaks HTTP/1.1, HTTP/2 in the clear, its own TLS, and a protocol of its own.

use crate::beside::{GRPC, HOST, HTTP, Pair, TCP, TLS};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

pub type Body = BoxBody<Bytes, hyper::Error>;

/// What the echo says before anybody asked.
pub const GREETING: &[u8] = b"who is there?\n";
/// What it says once the caller has said all.
pub const FAREWELL: &[u8] = b"that was all\n";
/// What makes it break the connection.
pub const BREAK: &[u8] = b"break\n";

/// Starts all of it; returns the root with which its own TLS is verified.
pub async fn start(pair: Pair) -> CertificateDer<'static> {
    serve(pair.behind(HTTP), |tcp| async {
        let service = service_fn(plain);
        // The client ends connections as it likes.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(tcp), service).with_upgrades().await;
    })
    .await;
    serve(pair.behind(GRPC), |tcp| async {
        let _ =
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tcp), service_fn(streaming)).await;
    })
    .await;
    serve(pair.behind(TCP), |tcp| async { drop(talk(tcp).await) }).await;
    let own = rcgen::generate_simple_self_signed([HOST.to_owned()]).expect("a certificate");
    let root = own.cert.der().clone();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("a key");
    let tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(vec![root.clone()], key);
    let acceptor = TlsAcceptor::from(Arc::new(tls.expect("a TLS configuration")));
    serve(pair.behind(TLS), move |tcp| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut tls) = acceptor.accept(tcp).await else { return };
            let mut word = [0; 4];
            if tls.read_exact(&mut word).await.is_ok() {
                let _ = tls.write_all(&word).await;
                let _ = tls.shutdown().await;
            }
        }
    })
    .await;
    root
}

async fn serve<F>(address: SocketAddr, handle: impl Fn(TcpStream) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.expect("the echo's address is free");
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(handle(tcp));
        }
    });
}

/// HTTP/1.1: a body comes back as it is, with the request's header fields; `Upgrade` is granted, then bytes come back.
async fn plain(mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let asked = request.headers().clone();
    if asked.contains_key(header::UPGRADE) {
        tokio::spawn(async move {
            let Ok(upgraded) = hyper::upgrade::on(&mut request).await else { return };
            let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
            let _ = copy(&mut reader, &mut writer).await;
            let _ = writer.shutdown().await;
        });
        let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
        return Ok(response);
    }
    if request.uri().path() == "/headers" {
        let text = asked.iter().map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
        let body = Full::new(Bytes::from(text.collect::<String>())).map_err(|never| match never {});
        return Ok(Response::new(body.boxed()));
    }
    Ok(Response::new(request.into_body().boxed()))
}

/// HTTP/2, as a gRPC server streams: each piece comes back when it arrives, and trailers at the end.
async fn streaming(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (frames, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, hyper::Error>>(1);
    let mut body = request.into_body();
    tokio::spawn(async move {
        while let Some(Ok(frame)) = body.frame().await {
            if frame.is_data() && frames.send(Ok(frame)).await.is_err() {
                return;
            }
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", header::HeaderValue::from_static("0"));
        let _ = frames.send(Ok(Frame::trailers(trailers))).await;
    });
    let body = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let response = Response::builder().header(header::CONTENT_TYPE, "application/grpc");
    Ok(response.body(BodyExt::boxed(body)).expect("a response"))
}

/// Speaks first, says everything back, and has the last word; or breaks the connection when told to.
async fn talk(mut tcp: TcpStream) -> std::io::Result<()> {
    tcp.write_all(GREETING).await?;
    let mut said = Vec::new();
    loop {
        if tcp.read_buf(&mut said).await? == 0 {
            break;
        }
        if said == BREAK {
            return tcp.set_zero_linger();
        }
    }
    tcp.write_all(&said).await?;
    tcp.write_all(FAREWELL).await?;
    tcp.shutdown().await
}
