//! From this cluster's sidecars to the peers: the hello names a service, the catalog says who offers it, a tunnel leads
//! there. Never to a local endpoint.
//!
//! ```text
//! accept ─▶ hello ─▶ candidates ─▶ open + header + hello ─▶ first byte of the answer ─▶ copy
//!                        ▲──── refused, lost or silent: the hello is sent again elsewhere ─┘
//! ```

use crate::settings::Settings;
use crate::sni::read_hello;
use bytes::Bytes;
use model::{Catalog, ClusterId, Sni};
use rand::RngExt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;
use tunnel::{CopyError, GuardedTcp, Metrics, OpenError, PeerSet, Refusal, StreamHeader, StreamLabels, TunnelStream};

const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Takes sidecars' connections.
pub(crate) struct Egress {
    pub(crate) settings: Arc<Settings>,
    pub(crate) own: ClusterId,
    pub(crate) peers: PeerSet,
    pub(crate) catalog: watch::Receiver<Arc<Catalog>>,
    pub(crate) metrics: Metrics,
}

/// Why a connection was not carried.
#[derive(Debug, thiserror::Error)]
enum EgressError {
    #[error(transparent)]
    Hello(#[from] crate::sni::HelloError),
    #[error("the hello took too long")]
    Late,
    #[error("no peer offers {0}")]
    NotImported(Sni),
    #[error("{0}: {1}")]
    Refused(ClusterId, Refusal),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Copy(#[from] CopyError),
}

// === impl Egress ===

impl Egress {
    /// Accepts on `listener` for as long as the future is polled; connections run on `tasks`.
    pub(crate) async fn run(self: Arc<Self>, listener: TcpListener, tasks: TaskTracker) {
        let places = Arc::new(Semaphore::new(self.settings.connections));
        loop {
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            let tcp = GuardedTcp::new(stream);
            let Ok(place) = places.clone().try_acquire_owned() else {
                self.metrics.refused("", Refusal::Overloaded, "egress");
                continue;
            };
            let egress = self.clone();
            tasks.spawn(async move {
                egress.connection(tcp, address).await;
                drop(place);
            });
        }
    }

    async fn connection(&self, mut tcp: GuardedTcp, address: SocketAddr) {
        let started = Instant::now();
        match self.carry(&mut tcp).await {
            Ok((sni, peer, stream, first)) => {
                let labels =
                    StreamLabels { peer: peer.to_string(), service: sni.host.to_string(), direction: "egress" };
                let metrics = self.metrics.stream(&labels);
                let open = metrics.open();
                let ended = self.copy(tcp, stream, first, &metrics).await;
                drop(open);
                tracing::info!(
                    target: "access", %address, service = %sni.host, port = sni.port, %peer, direction = "egress",
                    duration_ms = started.elapsed().as_millis(), ended = ended.err().map(tracing::field::display),
                );
            }
            Err(error) => tracing::info!(
                target: "access", %address, direction = "egress", duration_ms = started.elapsed().as_millis(), refused = %error,
            ),
        }
    }

    async fn copy(
        &self,
        mut tcp: GuardedTcp,
        stream: TunnelStream,
        first: Bytes,
        metrics: &tunnel::StreamMetrics,
    ) -> Result<(), CopyError> {
        tcp.stream().write_all(&first).await?;
        stream.copy(tcp, metrics).await
    }

    /// Reads the hello and brings it to where it is answered; returns with the first bytes of the answer.
    async fn carry(&self, tcp: &mut GuardedTcp) -> Result<(Sni, ClusterId, TunnelStream, Bytes), EgressError> {
        let stream: &mut TcpStream = tcp.stream();
        // Where it fails, the connection has ended.
        let _ = stream.set_nodelay(true);
        let hello = tokio::time::timeout(self.settings.hello(), read_hello(stream)).await;
        let (sni, hello) = hello.map_err(|_| EgressError::Late)??;
        let mut last = EgressError::NotImported(sni.clone());
        for _ in 0..self.settings.attempts {
            // Looked up anew each time: the catalog may know better by now.
            let Some(peer) = self.choose(&sni) else { break };
            match self.attempt(&peer, &sni, &hello).await {
                Ok((stream, first)) => return Ok((sni, peer, stream, first)),
                Err(error) => {
                    let hopeless = matches!(&error, EgressError::Refused(_, reason) if !reason.is_worth_another_try());
                    tracing::debug!(%peer, %error, "another way is tried");
                    last = error;
                    if hopeless {
                        break;
                    }
                }
            }
        }
        if let EgressError::NotImported(_) = last {
            self.metrics.refused("", Refusal::NotExported, "egress");
        }
        Err(last)
    }

    async fn attempt(&self, peer: &ClusterId, sni: &Sni, hello: &[u8]) -> Result<(TunnelStream, Bytes), EgressError> {
        let header = StreamHeader {
            source: self.own.clone(),
            host: sni.host.clone(),
            port: sni.port,
            group: sni.group.clone(),
            hops: 0,
            visited: vec![self.own.clone()],
        };
        let mut stream = self.peers.open(peer, &header, hello).await?;
        let answer = tokio::select! {
            answer = stream.read() => Some(answer),
            () = tokio::time::sleep(self.settings.first_byte()) => None,
        };
        match answer {
            Some(Ok(Some(first))) => Ok((stream, first)),
            // An end without a byte: the workload accepted nothing.
            Some(Ok(None)) => Err(EgressError::Refused(peer.clone(), Refusal::Unreachable)),
            Some(Err(CopyError::Refused(reason))) => {
                self.metrics.refused(peer.as_str(), reason, "egress");
                Err(EgressError::Refused(peer.clone(), reason))
            }
            Some(Err(error)) => Err(error.into()),
            None => {
                stream.refuse(Refusal::Reset);
                Err(EgressError::Refused(peer.clone(), Refusal::Unreachable))
            }
        }
    }

    /// One of the routable peers that offer the service, by their ready weight; those without a tunnel only when no other
    /// is left.
    fn choose(&self, sni: &Sni) -> Option<ClusterId> {
        let catalog = self.catalog.borrow().clone();
        let mut offers: Vec<(ClusterId, u64)> = catalog
            .by_host(&sni.host)
            .flat_map(|service| service.imports.values())
            .filter(|import| import.export.ports.iter().any(|port| port.number == sni.port))
            .filter(|import| catalog.peers.get(&import.cluster).is_some_and(|peer| peer.is_routable()))
            .map(|import| {
                let groups = import.export.groups.iter();
                let asked =
                    groups.filter(|group| group.ready > 0 && sni.group.as_ref().is_none_or(|id| *id == group.id));
                (import.cluster.clone(), asked.map(|group| u64::from(group.weight.max(1))).sum())
            })
            .filter(|(_, weight)| *weight > 0)
            .collect();
        let connected = |cluster: &ClusterId| self.peers.path(cluster).connected > 0;
        if offers.iter().any(|(cluster, _)| connected(cluster)) {
            offers.retain(|(cluster, _)| connected(cluster));
        }
        let total: u64 = offers.iter().map(|(_, weight)| weight).sum();
        let mut ticket = if total == 0 { return None } else { rand::rng().random_range(0..total) };
        offers.into_iter().find_map(|(cluster, weight)| {
            let drawn = ticket < weight;
            ticket = ticket.saturating_sub(weight);
            drawn.then_some(cluster)
        })
    }
}
