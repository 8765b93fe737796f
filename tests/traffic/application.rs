//! The HTTP application: tells what it saw, and misbehaves as the request's header fields ask.
//!
//! | field | what it does |
//! |---|---|
//! | `x-status: 503` | answers so |
//! | `x-delay: 500ms` | waits before it answers |
//! | `x-reset: 1` | ends the connection without an answer |
//! | `x-grpc-status: 14` | answers so, in header fields alone |
//! | `x-status-times: 2` | does the above only for the first two requests of a number |
//! | `x-status-instance: reviews-v1` | does the above only as this instance |
//! | `x-answer-NAME: value` | answers with the field NAME |

use crate::ledger::{Ledger, Seen};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::json;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

type Body = BoxBody<Bytes, Infallible>;

const ANSWER: &str = "x-answer-";
const GRPC: &str = "application/grpc";

/// Serves HTTP/1.1 and HTTP/2 in the clear at `address`, as `instance`.
pub async fn start(address: SocketAddr, instance: String, ledger: Arc<Ledger>) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    tokio::spawn(async move {
        while let Ok((tcp, peer)) = listener.accept().await {
            // An answer is small, and nobody should wait for its acknowledgement.
            let _ = tcp.set_nodelay(true);
            tokio::spawn(handle(tcp, peer, instance.clone(), ledger.clone()));
        }
    });
    Ok(())
}

/// Serves one connection from `peer`, as `instance`.
pub async fn handle<S>(stream: S, peer: SocketAddr, instance: String, ledger: Arc<Ledger>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| serve(instance.clone(), ledger.clone(), peer, request));
    // Callers leave as they like.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn serve(
    instance: String,
    ledger: Arc<Ledger>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let seen = saw(&instance, peer, &head, &body);
    let answer = json!({
        "instance": seen.instance, "method": seen.method, "path": seen.path, "authority": seen.authority,
        "version": seen.version, "headers": seen.headers, "body": seen.body,
    });
    let attempt = ledger.write(seen);
    let asked = Asked { headers: &head.headers };
    let misbehaves = asked.number("x-status-times").is_none_or(|times| attempt <= times)
        && asked.text("x-status-instance").is_none_or(|name| name == instance);
    if misbehaves {
        if let Some(delay) = asked.text("x-delay").and_then(milliseconds) {
            tokio::time::sleep(delay).await;
        }
        if asked.text("x-reset").is_some() {
            // The server ends the connection when its service fails.
            return Err(io::Error::other("asked to"));
        }
    }
    let mut response = asked.response(misbehaves, &answer.to_string());
    response.headers_mut().insert("x-instance", HeaderValue::from_str(&instance).map_err(io::Error::other)?);
    Ok(response)
}

fn saw(instance: &str, peer: SocketAddr, head: &http::request::Parts, body: &[u8]) -> Seen {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let host = || head.headers.get(HOST).map(text).unwrap_or_default();
    Seen {
        instance: instance.to_owned(),
        method: head.method.to_string(),
        version: format!("{:?}", head.version),
        peer,
        path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        authority: head.uri.authority().map_or_else(host, ToString::to_string),
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: String::from_utf8_lossy(body).into_owned(),
    }
}

/// What the request's header fields ask for.
struct Asked<'a> {
    headers: &'a HeaderMap,
}

// === impl Asked ===

impl Asked<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.text(name)?.parse().ok()
    }

    fn response(&self, misbehaves: bool, json: &str) -> Response<Body> {
        let is_grpc = self.text(CONTENT_TYPE.as_str()).is_some_and(|kind| kind.starts_with(GRPC));
        let mut response = match self.text("x-grpc-status").filter(|_| misbehaves) {
            Some(status) => trailers_only(status),
            None if is_grpc => streamed(json),
            None => Response::new(Full::new(Bytes::from(json.to_owned())).boxed()),
        };
        let kind = if is_grpc { GRPC } else { "application/json" };
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        let status = self.text("x-status").filter(|_| misbehaves).and_then(|status| status.parse().ok());
        *response.status_mut() = status.unwrap_or(StatusCode::OK);
        for (name, value) in self.headers {
            let Some(name) = name.as_str().strip_prefix(ANSWER) else { continue };
            if let Ok(name) = HeaderName::try_from(name) {
                response.headers_mut().append(name, value.clone());
            }
        }
        response
    }
}

/// gRPC's answer without a message.
fn trailers_only(status: &str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::new()).boxed());
    if let Ok(status) = HeaderValue::from_str(status) {
        response.headers_mut().insert("grpc-status", status);
    }
    response
}

/// gRPC's answer with a body, and the status after it.
fn streamed(json: &str) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from(json.to_owned()));
    Response::new(body.with_trailers(async move { Some(Ok(trailers)) }).boxed())
}

fn milliseconds(text: &str) -> Option<Duration> {
    text.strip_suffix("ms")?.parse().ok().map(Duration::from_millis)
}
