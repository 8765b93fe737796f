//! gRPC over our own TLS: tonic's stays off.
//!
//! ```text
//! client: connect ─▶ Channel            server: incoming ─▶ serve_with_incoming ─▶ identify ─▶ peer(&request)
//! ```

mod incoming;

pub use incoming::{Connection, Incoming, IncomingSettings, PeerInfo, incoming, incoming_with};

use crate::IdentityError;
use http::Uri;
use hyper_util::rt::TokioIo;
use model::WorkloadIdentity;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// From the name's lookup to the end of the handshake.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A silent connection is probed this often, and given up when a probe is not answered for as long as
/// [`KEEPALIVE_TIMEOUT`].
pub const KEEPALIVE: Duration = Duration::from_secs(30);
/// See [`KEEPALIVE`].
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to `address` (`HOST:PORT`) with `tls`, whose ALPN should be `h2`, sending `name` as SNI. The channel connects
/// again by itself, and then shows the identity's certificate of that time.
pub async fn connect(
    address: &str,
    tls: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<Channel, IdentityError> {
    let unreachable = |reason: String| IdentityError::Unreachable { address: address.to_owned(), reason };
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| unreachable(causes(&error)))?
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let target: Arc<str> = address.into();
    let connector = tower::service_fn(move |_: Uri| {
        let (target, tls, name) = (target.clone(), tls.clone(), name.clone());
        async move { open(&target, tls, name).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await.map_err(|error| unreachable(causes(&error)))
}

/// An interceptor: copies the identity that the handshake proved into the request's extensions, as a
/// [`WorkloadIdentity`]. A request without one passes, for the service to decide.
pub fn identify(mut request: Request<()>) -> Result<Request<()>, Status> {
    if let Some(identity) = peer(&request).cloned() {
        request.extensions_mut().insert(identity);
    }
    Ok(request)
}

/// The identity that the handshake of this request's connection proved.
pub fn peer<T>(request: &Request<T>) -> Option<&WorkloadIdentity> {
    request.extensions().get::<PeerInfo>()?.identity.as_ref()
}

async fn open(
    address: &str,
    tls: Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<TlsStream<TcpStream>, io::Error> {
    let opening = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(tls).connect(name, stream).await
    };
    let timeout = || io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {CONNECT_TIMEOUT:?}"));
    tokio::time::timeout(CONNECT_TIMEOUT, opening).await.map_err(|_| timeout())?
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
