//! From this cluster's sidecars to the peers: the hello names a service, the catalog says who offers it, a tunnel leads
//! there. Never to a local endpoint.
//!
//! ```text
//! accept ─▶ hello ─▶ candidates ─▶ open + header + hello ─▶ first byte of the answer ─▶ copy
//!                        ▲──── refused, lost or silent: the hello is sent again elsewhere ─┘
//! ```

use crate::settings::Settings;
use crate::sni::{HelloError, read_hello};
use bytes::Bytes;
use model::{Catalog, ClusterId, Group, GroupId, Sni};
use rand::RngExt;
use std::collections::BTreeSet;
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

/// A group of a service in a peer.
struct Offer {
    cluster: ClusterId,
    /// The group to ask for; none if any will do.
    group: Option<GroupId>,
    weight: u64,
}

/// Why a connection was not carried.
#[derive(Debug, thiserror::Error)]
enum EgressError {
    #[error(transparent)]
    Hello(#[from] HelloError),
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
            Err(error) => {
                // Those that a peer was asked for are counted where it was asked.
                if error.is_the_sidecars() {
                    self.metrics.refused("", error.reason(), "egress");
                }
                tracing::info!(
                    target: "access", %address, direction = "egress", duration_ms = started.elapsed().as_millis(), refused = %error,
                );
            }
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
        let mut tried = BTreeSet::new();
        for _ in 0..self.settings.attempts {
            // Looked up anew each time: the catalog may know better by now.
            let Some((peer, group)) = self.choose(&sni, &tried) else { break };
            match self.attempt(&peer, &sni, group, &hello).await {
                Ok((stream, first)) => return Ok((sni, peer, stream, first)),
                Err(error) => {
                    tracing::debug!(%peer, %error, "another way is tried");
                    self.metrics.refused(peer.as_str(), error.reason(), "egress");
                    let hopeless = !error.reason().is_worth_another_try();
                    last = error;
                    if hopeless {
                        break;
                    }
                }
            }
            tried.insert(peer);
        }
        Err(last)
    }

    async fn attempt(
        &self,
        peer: &ClusterId,
        sni: &Sni,
        group: Option<GroupId>,
        hello: &[u8],
    ) -> Result<(TunnelStream, Bytes), EgressError> {
        let header = StreamHeader {
            source: self.own.clone(),
            host: sni.host.clone(),
            port: sni.port,
            group,
            hops: 0,
            visited: vec![self.own.clone()],
        };
        let asking = async {
            let mut stream = self.peers.open(peer, &header, hello).await?;
            match stream.read().await {
                Ok(Some(first)) => Ok((stream, first)),
                // An end without a byte: the workload accepted nothing.
                Ok(None) => Err(EgressError::Refused(peer.clone(), Refusal::Unreachable)),
                Err(CopyError::Refused(reason)) => Err(EgressError::Refused(peer.clone(), reason)),
                Err(error) => Err(error.into()),
            }
        };
        // A stream that is given up is reset. Opening waits where the peer allows no more streams.
        let answer = tokio::time::timeout(self.settings.first_byte(), asking).await;
        answer.unwrap_or_else(|_| Err(EgressError::Refused(peer.clone(), Refusal::Unreachable)))
    }

    /// One of the routable peers that offer the service, and of the groups that are asked for, by their ready weight;
    /// peers without a tunnel, and those `tried` before, only when no other is left.
    fn choose(&self, sni: &Sni, tried: &BTreeSet<ClusterId>) -> Option<(ClusterId, Option<GroupId>)> {
        let catalog = self.catalog.borrow().clone();
        let mut offers: Vec<Offer> = catalog
            .by_host(&sni.host)
            .flat_map(|service| service.imports.values())
            .filter(|import| import.export.ports.iter().any(|port| port.number == sni.port))
            .filter(|import| catalog.peers.get(&import.cluster).is_some_and(|peer| peer.is_routable()))
            .flat_map(|import| {
                let is_asked = |group: &&Group| sni.groups.is_empty() || sni.groups.contains(&group.id);
                let asked = import.export.groups.iter().filter(|group| group.ready > 0).filter(is_asked);
                asked.map(|group| Offer {
                    cluster: import.cluster.clone(),
                    group: (!sni.groups.is_empty()).then(|| group.id.clone()),
                    weight: u64::from(group.weight.max(1)),
                })
            })
            .collect();
        let connected = |cluster: &ClusterId| self.peers.path(cluster).connected > 0;
        prefer(&mut offers, |offer| connected(&offer.cluster));
        prefer(&mut offers, |offer| !tried.contains(&offer.cluster));
        let total: u64 = offers.iter().map(|offer| offer.weight).sum();
        let mut ticket = if total == 0 { return None } else { rand::rng().random_range(0..total) };
        offers.into_iter().find_map(|offer| {
            let drawn = ticket < offer.weight;
            ticket = ticket.saturating_sub(offer.weight);
            drawn.then_some((offer.cluster, offer.group))
        })
    }
}

/// Keeps only the `better` ones, if there are any.
fn prefer<T>(all: &mut Vec<T>, better: impl Fn(&T) -> bool) {
    if all.iter().any(&better) {
        all.retain(better);
    }
}

// === impl EgressError ===

impl EgressError {
    /// As it is counted.
    fn reason(&self) -> Refusal {
        match self {
            Self::Hello(_) | Self::Late => Refusal::BadHeader,
            Self::NotImported(_) => Refusal::NotExported,
            Self::Refused(_, reason) => *reason,
            Self::Open(_) | Self::Copy(_) => Refusal::Unreachable,
        }
    }

    /// Whether it was refused before a peer was asked; a connection that says nothing, as a probe's, is not refused.
    fn is_the_sidecars(&self) -> bool {
        match self {
            Self::Hello(HelloError::Io(_)) | Self::Refused(..) | Self::Open(_) | Self::Copy(_) => false,
            Self::Hello(_) | Self::Late | Self::NotImported(_) => true,
        }
    }
}
