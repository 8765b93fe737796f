//! A small HTTP/1.1 client, for the demo and for Envoy's admin interface: keeps connections alive, gives up after a deadline.

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

const BODY_LIMIT: usize = 1 << 20;

/// One connection to one address, opened when first needed and again after it broke.
pub struct Client {
    address: SocketAddr,
    deadline: Duration,
    sender: Option<SendRequest<Empty<Bytes>>>,
}

/// A whole response.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The body, at most 1 MiB.
    pub body: Bytes,
}

// === impl Client ===

impl Client {
    /// A client of `address`, whose every request ends within `deadline`.
    pub fn new(address: SocketAddr, deadline: Duration) -> Self {
        Self { address, deadline, sender: None }
    }

    /// GETs `path` from `host`, with the headers of `pass` that are present.
    ///
    /// # Errors
    /// If no connection can be made, the connection breaks, or the deadline passes.
    pub async fn get(&mut self, host: &str, path: &str, pass: &http::HeaderMap) -> anyhow::Result<Reply> {
        self.send(Method::GET, host, path, pass).await
    }

    /// As [`Client::get`], by another method; there is no body.
    ///
    /// # Errors
    /// As there.
    pub async fn send(
        &mut self,
        method: Method,
        host: &str,
        path: &str,
        pass: &http::HeaderMap,
    ) -> anyhow::Result<Reply> {
        let deadline = self.deadline;
        let outcome = match tokio::time::timeout(deadline, self.exchange(method, host, path, pass)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(anyhow!("no answer from {} within {deadline:?}", self.address)),
        };
        if outcome.is_err() {
            self.sender = None;
        }
        outcome
    }

    async fn exchange(
        &mut self,
        method: Method,
        host: &str,
        path: &str,
        pass: &http::HeaderMap,
    ) -> anyhow::Result<Reply> {
        let uri: Uri = path.parse().with_context(|| format!("path {path:?}"))?;
        let mut request = Request::builder().method(method).uri(uri).header(header::HOST, host).body(Empty::new())?;
        for name in ["x-request-id", "traceparent", "user-agent"] {
            if let Some(value) = pass.get(name) {
                request.headers_mut().insert(name, value.clone());
            }
        }
        let response = self.sender().await?.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, BODY_LIMIT).collect().await.map_err(|error| anyhow!("body: {error}"))?;
        Ok(Reply { status: parts.status.as_u16(), headers: parts.headers, body: body.to_bytes() })
    }

    async fn sender(&mut self) -> anyhow::Result<&mut SendRequest<Empty<Bytes>>> {
        if let Some(sender) = &mut self.sender
            && sender.ready().await.is_err()
        {
            self.sender = None;
        }
        if self.sender.is_none() {
            let stream = TcpStream::connect(self.address).await.with_context(|| format!("connect {}", self.address))?;
            stream.set_nodelay(true)?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await?;
            // Ends with the connection, which ends with the sender.
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        Ok(self.sender.as_mut().expect("set above"))
    }
}
