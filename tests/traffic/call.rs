//! One connection to a proxy, and what comes back over it.

use crate::certificates::Certificates;
use crate::tls::{self, TlsCase};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// How long one request may take at all.
const LIMIT: Duration = Duration::from_secs(20);

/// A whole response.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub trailers: HeaderMap,
    pub body: String,
}

/// A connection that is opened when first needed, and again after it ended.
pub struct Client<'a> {
    at: SocketAddr,
    is_http2: bool,
    /// How TLS is spoken; it is not if absent.
    tls: Option<(&'a TlsCase, &'a Certificates)>,
    sender: Option<Sender>,
    opened: usize,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

// === impl Client ===

impl<'a> Client<'a> {
    pub fn new(at: SocketAddr, is_http2: bool) -> Self {
        Self { at, is_http2, tls: None, sender: None, opened: 0 }
    }

    /// As [`Client::new`], over TLS.
    pub fn over_tls(at: SocketAddr, is_http2: bool, tls: Option<&'a TlsCase>, certificates: &'a Certificates) -> Self {
        Self { at, is_http2, tls: tls.map(|tls| (tls, certificates)), sender: None, opened: 0 }
    }

    /// How many connections have been opened.
    pub fn opened(&self) -> usize {
        self.opened
    }

    /// Sends one request; its response, or how the connection ended without one.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, String> {
        let outcome = tokio::time::timeout(LIMIT, self.exchange(request)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}")));
        if outcome.is_err() {
            self.sender = None;
        }
        outcome
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, String> {
        let at = self.at;
        let sender = self.sender().await.map_err(|error| format!("connect {at}: {error}"))?;
        let response = sender.send(request).await.map_err(|error| format!("no response: {error}"))?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| format!("{} with a broken body: {error}", head.status))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        Ok(Reply { status: head.status.as_u16(), headers: head.headers, trailers, body })
    }

    async fn sender(&mut self) -> anyhow::Result<&mut Sender> {
        if let Some(sender) = &mut self.sender
            && !sender.is_ready().await
        {
            self.sender = None;
        }
        if self.sender.is_none() {
            self.opened += 1;
            self.sender = Some(Sender::open(self.at, self.is_http2, self.tls).await?);
        }
        Ok(self.sender.as_mut().expect("set above"))
    }
}

// === impl Sender ===

impl Sender {
    async fn open(at: SocketAddr, is_http2: bool, tls: Option<(&TlsCase, &Certificates)>) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect(at).await?;
        tcp.set_nodelay(true)?;
        let alpn = if is_http2 { "h2" } else { "http/1.1" };
        match tls {
            None => Self::begin(tcp, is_http2).await,
            Some((case, certificates)) => {
                Self::begin(tls::connect(tcp, case, &[alpn], certificates).await?, is_http2).await
            }
        }
    }

    async fn begin(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        is_http2: bool,
    ) -> anyhow::Result<Self> {
        let io = TokioIo::new(stream);
        // The connection's task ends with the connection, and that with the sender.
        if is_http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            return Ok(Self::Http2(sender));
        }
        let (sender, connection) = http1::handshake(io).await?;
        tokio::spawn(connection);
        Ok(Self::Http1(sender))
    }

    async fn is_ready(&mut self) -> bool {
        match self {
            Self::Http1(sender) => sender.ready().await.is_ok(),
            Self::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => sender.send_request(request).await,
            Self::Http2(sender) => sender.send_request(request).await,
        }
    }
}
