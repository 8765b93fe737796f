//! Accepts TLS connections for tonic: many handshakes at once, but not without end, and each within its time.
//!
//! ```text
//! accept ─▶ permit ─▶ handshake (a task each) ─▶ queue ─▶ tonic
//! ```

use crate::certificate::end_of;
use crate::peer_identity;
use model::WorkloadIdentity;
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

/// After `accept` failed, e.g. for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Limits of a listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct IncomingSettings {
    /// The most handshakes at once; the next connection waits in the kernel's queue. Default 256.
    pub max_handshakes: usize,
    /// The most open connections; likewise. Default 8192.
    pub max_connections: usize,
    /// How long a handshake may take, in milliseconds. Default 10 000.
    pub handshake_timeout_ms: u64,
}

/// Who is at the other end of a connection. In the extensions of every request of [`incoming`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Proved by the handshake; none if no certificate was shown.
    pub identity: Option<WorkloadIdentity>,
    /// When the certificate that was shown ends: a connection may outlive it.
    pub not_after: Option<SystemTime>,
    /// The other end's address.
    pub address: SocketAddr,
}

/// Connections whose handshake is done. It ends at shutdown.
#[derive(Debug)]
pub struct Incoming(mpsc::Receiver<Connection>);

/// One connection, which counts against the limit until it is dropped.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: PeerInfo,
    _place: OwnedSemaphorePermit,
}

/// What the accepting task owns.
struct Door {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    timeout: Duration,
    handshakes: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    ready: mpsc::Sender<Connection>,
}

// === impl IncomingSettings ===

impl Default for IncomingSettings {
    fn default() -> Self {
        Self { max_handshakes: 256, max_connections: 8192, handshake_timeout_ms: 10_000 }
    }
}

/// Accepts with the default limits; see [`incoming_with`].
pub fn incoming(listener: TcpListener, tls: Arc<ServerConfig>, shutdown: CancellationToken) -> Incoming {
    incoming_with(listener, tls, &IncomingSettings::default(), shutdown)
}

/// Accepts connections and finishes their handshakes, for tonic's `serve_with_incoming`. A failure, of one connection or
/// of `accept`, never ends it; `shutdown` does, and so does dropping the stream. Must be called within a tokio runtime.
pub fn incoming_with(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    settings: &IncomingSettings,
    shutdown: CancellationToken,
) -> Incoming {
    let (ready, receiver) = mpsc::channel(16);
    let door = Door {
        listener,
        acceptor: TlsAcceptor::from(tls),
        timeout: Duration::from_millis(settings.handshake_timeout_ms),
        handshakes: Arc::new(Semaphore::new(settings.max_handshakes.clamp(1, Semaphore::MAX_PERMITS))),
        connections: Arc::new(Semaphore::new(settings.max_connections.clamp(1, Semaphore::MAX_PERMITS))),
        ready,
    };
    tokio::spawn(door.run(shutdown));
    Incoming(receiver)
}

// === impl Door ===

impl Door {
    async fn run(self, shutdown: CancellationToken) {
        let mut handshakes = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.ready.closed() => return,
                Some(_) = handshakes.join_next() => {}
                accepted = self.accept() => if let Some((stream, address, turn, place)) = accepted {
                    let (acceptor, timeout, ready) = (self.acceptor.clone(), self.timeout, self.ready.clone());
                    handshakes.spawn(async move {
                        let connection = handshake(acceptor, stream, address, timeout, place).await;
                        drop(turn);
                        if let Some(connection) = connection {
                            // Fails only when nobody serves any more.
                            let _ = ready.send(connection).await;
                        }
                    });
                }
            }
        }
    }

    /// The next connection, once there is room for it. Dropping this future loses nothing.
    async fn accept(&self) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let place = self.connections.clone().acquire_owned().await.ok()?;
        let turn = self.handshakes.clone().acquire_owned().await.ok()?;
        match self.listener.accept().await {
            Ok((stream, address)) => Some((stream, address, turn, place)),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    timeout: Duration,
    place: OwnedSemaphorePermit,
) -> Option<Connection> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%address, %error, "a connection went away");
        return None;
    }
    match tokio::time::timeout(timeout, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates();
            let not_after = certificates.and_then(<[_]>::first).and_then(end_of);
            let peer = PeerInfo { identity: peer_identity(certificates), not_after, address };
            Some(Connection { stream, peer, _place: place })
        }
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "a handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!(%address, ?timeout, "a handshake took too long");
            None
        }
    }
}

// === impl Incoming ===

impl Stream for Incoming {
    type Item = Result<Connection, io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|connection| connection.map(Ok))
    }
}

// === impl Connection ===

impl Connected for Connection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
