//! The UDP socket and the QUIC endpoint on it, which dials peers and is dialled by them.

use crate::refusal::Refusal;
use crate::settings::Settings;
use identity::{ClientAuth, Expected, Identity, client_config, server_config};
use model::WorkloadIdentity;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
use rustls_pki_types::CertificateDer;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

/// The protocol that tunnels speak, in TLS's ALPN.
pub const ALPN: &[u8] = b"isthmus/1";
/// The name asked for in the hello; who answers, the certificate says.
pub(crate) const SERVER_NAME: &str = "gateway.isthmus-system.svc";

const FAREWELL: Duration = Duration::from_secs(1);

/// A socket that speaks QUIC.
#[derive(Clone, Debug)]
pub struct QuicEndpoint {
    pub(crate) endpoint: Endpoint,
    pub(crate) identity: Identity,
    pub(crate) settings: Arc<Settings>,
}

// === impl QuicEndpoint ===

impl QuicEndpoint {
    /// Binds `address` and lets in the `peers`, and nobody else.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn bind(
        address: SocketAddr,
        identity: Identity,
        peers: BTreeSet<WorkloadIdentity>,
        settings: Settings,
    ) -> io::Result<Self> {
        let tls = server_config(&identity, ClientAuth::Required, Expected::Exactly(Arc::new(peers)), &[ALPN]);
        let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        server.transport_config(settings.transport()).max_incoming(settings.max_incoming);
        server.incoming_buffer_size(64 << 10).incoming_buffer_size_total(16 << 20);
        let socket = socket(address, settings.socket_buffer)?;
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(server), socket, Arc::new(TokioRuntime))?;
        Ok(Self { endpoint, identity, settings: Arc::new(settings) })
    }

    /// The bound address.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Closes all connections, and returns once the peers were told, or after a second.
    pub async fn close(&self) {
        self.endpoint.close(Refusal::Draining.code(), b"leaving");
        // Peers that did not hear it find out by themselves.
        let _ = tokio::time::timeout(FAREWELL, self.endpoint.wait_idle()).await;
    }

    /// What dials a gateway that must be `peer`.
    pub(crate) fn dialler(&self, peer: WorkloadIdentity) -> io::Result<ClientConfig> {
        let tls = client_config(&self.identity, Expected::one(peer), &[ALPN]);
        let crypto = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
        let mut client = ClientConfig::new(Arc::new(crypto));
        client.transport_config(self.settings.transport());
        Ok(client)
    }
}

/// Who a verified connection's other end is.
pub(crate) fn peer_of(connection: &quinn::Connection) -> Option<WorkloadIdentity> {
    let certificates = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    identity::peer_identity(Some(&certificates))
}

fn socket(address: SocketAddr, buffer: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // The kernel grants what it allows (net.core.rmem_max), which is no reason not to start.
    let _ = socket.set_recv_buffer_size(buffer);
    let _ = socket.set_send_buffer_size(buffer);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}
