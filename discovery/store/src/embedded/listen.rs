//! Connections: plain ones on loopback, elsewhere mutual TLS. Handshakes run beside each other, bounded in time and
//! number.

use super::tls;
use model::WorkloadIdentity;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many connections there may be.
const CONNECTIONS: usize = 1024;
/// How long accepting rests after it failed, as it does when file descriptors run out.
const REST: Duration = Duration::from_millis(100);

/// Who is at the other end; nobody in particular without TLS.
#[derive(Debug, Clone)]
pub(super) struct Peer(pub(super) Option<WorkloadIdentity>);

/// An accepted connection.
pub(super) struct Connection {
    bytes: Either<TcpStream, TlsStream<TcpStream>>,
    peer: Peer,
    _permit: OwnedSemaphorePermit,
}

/// Accepts until shutdown.
pub(super) fn accept(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    shutdown: CancellationToken,
) -> ReceiverStream<io::Result<Connection>> {
    let (accepted, stream) = mpsc::channel(16);
    let acceptor = tls.map(TlsAcceptor::from);
    tokio::spawn(async move { shutdown.run_until_cancelled(accept_all(listener, acceptor, accepted)).await });
    ReceiverStream::new(stream)
}

async fn accept_all(listener: TcpListener, tls: Option<TlsAcceptor>, accepted: mpsc::Sender<io::Result<Connection>>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    while let Ok(permit) = permits.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(open(stream, tls.clone(), permit, accepted.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the store is not accepted");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

async fn open(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    permit: OwnedSemaphorePermit,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    // Small answers must not wait for more; a socket that refuses the option still works.
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = acceptor else {
        let _ = accepted.send(Ok(Connection { bytes: Either::Left(stream), peer: Peer(None), _permit: permit })).await;
        return;
    };
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let peer = Peer(tls::peer(&stream));
            let _ = accepted.send(Ok(Connection { bytes: Either::Right(stream), peer, _permit: permit })).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "a client of the store is refused"),
        Err(_) => tracing::debug!("a client of the store did not end its handshake"),
    }
}

// === impl Connection ===

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.bytes).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(cx)
    }
}
