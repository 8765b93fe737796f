//! gRPC over the mesh's mTLS: a client's channel, and the stream of accepted connections that a server takes.
//!
//! tonic's own TLS stays off: who the peer is must come from our verifier.

use crate::tls::peer_identity;
use futures_util::Stream;
use hyper_util::rt::TokioIo;
use model::WorkloadIdentity;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::{TlsAcceptor, TlsConnector, server};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};

const HANDSHAKE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);
/// Handshakes under way at once; more wait in the kernel's queue.
const HANDSHAKES: usize = 256;
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Who is at the other end of a request, in its extensions.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// Its identity, if it showed a certificate.
    pub identity: Option<WorkloadIdentity>,
    /// Its address.
    pub address: SocketAddr,
}

/// An accepted connection.
#[derive(Debug)]
pub struct Accepted {
    stream: server::TlsStream<TcpStream>,
    peer: PeerInfo,
}

/// Opens a channel to `address` (`HOST:PORT`), verified by `tls`.
///
/// # Errors
/// If the address is not one, or no connection can be made within five seconds.
pub async fn connect(address: &str, tls: Arc<ClientConfig>) -> Result<Channel, tonic::transport::Error> {
    let target = address.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let (target, tls) = (target.clone(), TlsConnector::from(tls.clone()));
        async move {
            let stream = TcpStream::connect(&target).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from("isthmus").expect("a constant name");
            let stream = tokio::time::timeout(HANDSHAKE, tls.connect(name, stream)).await??;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    Endpoint::try_from(format!("http://{address}"))?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
}

/// The connections accepted on `listener`, each after its handshake, until `shutdown`. A failed handshake ends that
/// connection only; an accept error (no descriptors left, say) ends nothing.
pub fn incoming(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    shutdown: CancellationToken,
) -> impl Stream<Item = io::Result<Accepted>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(accept(listener, TlsAcceptor::from(tls), sender, shutdown));
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|accepted| (Ok(accepted), receiver))
    })
}

/// Who sent this request.
///
/// # Errors
/// UNAUTHENTICATED if it came without a client certificate.
pub fn peer<T>(request: &Request<T>) -> Result<WorkloadIdentity, Status> {
    request
        .extensions()
        .get::<PeerInfo>()
        .and_then(|peer| peer.identity.clone())
        .ok_or_else(|| Status::unauthenticated("a client certificate of the mesh is needed"))
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, sender: mpsc::Sender<Accepted>, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            () = sender.closed() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, address)) = accepted else {
            tokio::time::sleep(ACCEPT_BACKOFF).await;
            continue;
        };
        let (tls, sender) = (tls.clone(), sender.clone());
        tokio::spawn(async move {
            match handshake(&tls, stream, address).await {
                // The receiver is gone only at shutdown.
                Ok(accepted) => drop(sender.send(accepted).await),
                Err(error) => tracing::debug!(%address, %error, "handshake failed"),
            }
            drop(place);
        });
    }
}

async fn handshake(tls: &TlsAcceptor, stream: TcpStream, address: SocketAddr) -> io::Result<Accepted> {
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await??;
    let identity = peer_identity(stream.get_ref().1.peer_certificates());
    Ok(Accepted { stream, peer: PeerInfo { identity, address } })
}

// === impl Accepted ===

impl Connected for Accepted {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
