//! Connects to an endpoint: TCP or a Unix socket, with the mesh's mTLS where the endpoint takes it.

use crate::destination::Destination;
use crate::shared::Shared;
use crate::stream::{Replay, Stream};
use crate::{ProxyError, announcement};
use identity::{peer_identity, server_name};
use model::WorkloadIdentity;
use routing::{Discovery, Keepalive, Target};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// A connection, and who is at its other end if that was proved.
pub(crate) struct Connected {
    pub(crate) stream: Stream,
    pub(crate) peer: Option<WorkloadIdentity>,
}

/// Connects; remembers of the endpoint whether that went well.
///
/// # Errors
/// If it cannot be reached in time, or is not who it should be.
pub(crate) async fn connect(shared: &Shared, destination: &Destination) -> Result<Connected, ProxyError> {
    let target = &destination.endpoint.facts.target;
    let limit = destination.settings.connect_timeout.unwrap_or(shared.settings.connect());
    let connected = match timeout(limit, dial(shared, destination)).await {
        Ok(result) => result.map_err(|source| ProxyError::Connect { target: target.clone(), source }),
        Err(_) => Err(ProxyError::Late { target: target.clone() }),
    };
    match &connected {
        Ok(_) => destination.endpoint.load.reached(),
        Err(error) => {
            tracing::debug!(%error, upstream = %destination.settings.name, "endpoint not reached");
            destination.endpoint.load.failed(shared.now());
        }
    }
    connected
}

async fn dial(shared: &Shared, destination: &Destination) -> io::Result<Connected> {
    let mut tcp = match &destination.endpoint.facts.target {
        Target::Socket(address) => TcpStream::connect(address).await?,
        Target::Name(name, port) if destination.settings.discovery == Discovery::Dynamic => {
            TcpStream::connect(&shared.dynamic.resolve(name, *port).await?[..]).await?
        }
        Target::Name(name, port) => TcpStream::connect((&**name, *port)).await?,
        Target::Unix(path) => {
            let stream = Stream::Unix(unix(path).await?);
            return Ok(Connected { stream, peer: None });
        }
    };
    tcp.set_nodelay(true)?;
    keep_alive_as(&tcp, destination.settings.policy.keepalive.as_ref())?;
    if let Some((version, between)) = destination.announced {
        tcp.write_all(&announcement::header(version, between)).await?;
    }
    let Some((config, sni)) = destination.client(shared).map_err(io::Error::other)? else {
        return Ok(Connected { stream: Stream::Plain(tcp.into()), peer: None });
    };
    let host = match (&destination.endpoint.facts.target, sni) {
        (Target::Name(name, _), "") => name.to_string(),
        (Target::Socket(address), "") => address.ip().to_string(),
        (_, sni) => sni.to_owned(),
    };
    let name = server_name(&host).map_err(io::Error::other)?;
    let tls = TlsConnector::from(config).connect(name, Replay::from(tcp)).await?;
    let peer = peer_identity(tls.get_ref().1.peer_certificates());
    Ok(Connected { stream: Stream::Client(Box::new(tls)), peer })
}

/// A Unix socket; one of the abstract namespace if the path begins with `@`, as Envoy has it.
async fn unix(path: &Path) -> io::Result<UnixStream> {
    let Some(name) = path.as_os_str().as_bytes().strip_prefix(b"@") else { return UnixStream::connect(path).await };
    let address = SocketAddr::from_abstract_name(name)?;
    // The kernel answers at once: nobody else takes part.
    let stream = net::UnixStream::connect_addr(&address)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// As [`keep_alive`], where the upstream does not say otherwise.
fn keep_alive_as(tcp: &TcpStream, wanted: Option<&Keepalive>) -> io::Result<()> {
    let Some(wanted) = wanted else { return keep_alive(tcp) };
    let mut probing = socket2::TcpKeepalive::new();
    if let Some(time) = wanted.time {
        probing = probing.with_time(time);
    }
    if let Some(interval) = wanted.interval {
        probing = probing.with_interval(interval);
    }
    if let Some(probes) = wanted.probes {
        probing = probing.with_retries(probes);
    }
    socket2::SockRef::from(tcp).set_tcp_keepalive(&probing)
}

/// A peer that vanished without a word is noticed within about a minute, on a connection that carries nothing.
pub(crate) fn keep_alive(tcp: &TcpStream) -> io::Result<()> {
    let probing = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    socket2::SockRef::from(tcp).set_tcp_keepalive(&probing)
}
