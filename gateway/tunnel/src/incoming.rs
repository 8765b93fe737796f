//! Streams that peers open: whose they are, the connection's certificate says.

use crate::header::{HeaderError, StreamHeader};
use crate::quic::{QuicEndpoint, peer_of};
use crate::refusal::Refusal;
use crate::stream::TunnelStream;
use crate::tunnel::Tunnel;
use model::{ClusterId, WorkloadIdentity};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Streams that wait to be taken; beyond, peers wait.
const WAITING: usize = 1024;

/// A stream of a peer, its header read.
#[derive(Debug)]
pub struct Arrival {
    /// The peer, from its certificate.
    pub peer: ClusterId,
    /// What its gateway asks for.
    pub header: StreamHeader,
    /// The stream, from the first byte of the payload on.
    pub stream: TunnelStream,
}

/// A stream that was refused before its header could be read whole.
#[derive(Debug)]
pub struct Misfit {
    /// The peer.
    pub peer: ClusterId,
    /// Why.
    pub reason: Refusal,
}

/// What comes in.
pub type Incoming = mpsc::Receiver<Result<Arrival, Misfit>>;

/// Accepts connections of the `peers` on `quic`, and their streams, until `shutdown`.
pub fn accept(
    quic: QuicEndpoint,
    peers: &BTreeMap<ClusterId, WorkloadIdentity>,
    shutdown: CancellationToken,
) -> Incoming {
    let (sender, receiver) = mpsc::channel(WAITING);
    let clusters = peers.iter().map(|(cluster, identity)| (identity.clone(), cluster.clone())).collect();
    let acceptor = Arc::new(Acceptor { quic, clusters, sender });
    tokio::spawn(shutdown.run_until_cancelled_owned(acceptor.connections()));
    receiver
}

struct Acceptor {
    quic: QuicEndpoint,
    clusters: BTreeMap<WorkloadIdentity, ClusterId>,
    sender: mpsc::Sender<Result<Arrival, Misfit>>,
}

impl Acceptor {
    async fn connections(self: Arc<Self>) {
        while let Some(incoming) = self.quic.endpoint.accept().await {
            let crowded = self.quic.endpoint.open_connections() > self.quic.settings.retry_above;
            if crowded && !incoming.remote_address_validated() && incoming.may_retry() {
                // An error means that the peer proved its address already.
                let _ = incoming.retry();
                continue;
            }
            tokio::spawn(self.clone().connection(incoming));
        }
    }

    async fn connection(self: Arc<Self>, incoming: quinn::Incoming) {
        let address = incoming.remote_address();
        let connection = match incoming.await {
            Ok(connection) => connection,
            Err(error) => return tracing::info!(%address, %error, "a gateway was not let in"),
        };
        let Some(peer) = peer_of(&connection).and_then(|identity| self.clusters.get(&identity).cloned()) else {
            return connection.close(Refusal::Identity.code(), b"not a known peer's gateway");
        };
        tracing::info!(%peer, %address, "a peer's gateway connected");
        let tunnel = Tunnel::new(connection);
        while let Ok((send, receive)) = tunnel.connection.accept_bi().await {
            let stream = TunnelStream::new(send, receive, tunnel.clone());
            tokio::spawn(self.clone().stream(peer.clone(), stream));
        }
    }

    async fn stream(self: Arc<Self>, peer: ClusterId, mut stream: TunnelStream) {
        let header = tokio::time::timeout(self.quic.settings.header(), read_header(&mut stream)).await;
        let outcome = match header.unwrap_or(Err(Refusal::BadHeader)) {
            Ok(header) => Ok(Arrival { peer, header, stream }),
            Err(reason) => {
                stream.refuse(reason);
                Err(Misfit { peer, reason })
            }
        };
        // The receiver is gone only at shutdown.
        let _ = self.sender.send(outcome).await;
    }
}

async fn read_header(stream: &mut TunnelStream) -> Result<StreamHeader, Refusal> {
    let mut prefix = [0; 2];
    stream.read_exact(&mut prefix).await.map_err(|_| Refusal::BadHeader)?;
    let mut body = vec![0; StreamHeader::length(prefix).map_err(|_| Refusal::BadHeader)?];
    stream.read_exact(&mut body).await.map_err(|_| Refusal::BadHeader)?;
    StreamHeader::decode(&body).map_err(|error| match error {
        HeaderError::Version(_) => Refusal::BadVersion,
        _ => Refusal::BadHeader,
    })
}
