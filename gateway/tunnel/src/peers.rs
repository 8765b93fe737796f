//! The peers' gateways, and a tunnel kept open to each of them.
//!
//! ```text
//! set_gateways ─▶ one keeper a gateway: resolve ─▶ dial ─▶ Tunnel ─▶ watched ─▶ dial again, for ever
//! open ─▶ the usable tunnels in turn ─▶ TunnelStream
//! ```

use crate::header::{HeaderError, StreamHeader};
use crate::metrics::{Metrics, PathLabels};
use crate::quic::{QuicEndpoint, SERVER_NAME};
use crate::stream::{CopyError, TunnelStream};
use crate::tunnel::Tunnel;
use arc_swap::ArcSwapOption;
use bytes::{BufMut, BytesMut};
use model::{ClusterId, TrustDomain, WorkloadIdentity};
use prometheus_client::metrics::gauge::Gauge;
use quinn::ClientConfig;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LAST_BACKOFF: Duration = Duration::from_secs(2);
/// How often a tunnel's figures are shown.
const FIGURES: Duration = Duration::from_secs(1);
/// The namespace of gateways' identities.
const SYSTEM_NAMESPACE: &str = "isthmus-system";
const TRANSPORT: &str = "quic";

/// Why no stream could be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No peer of this name is known.
    #[error("no peer {0}")]
    UnknownPeer(ClusterId),
    /// None of its gateways can be reached.
    #[error("no gateway of {0} can be reached")]
    Unreachable(ClusterId),
    /// The header cannot be sent.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The tunnel was lost in this moment.
    #[error(transparent)]
    Stream(#[from] CopyError),
}

/// The figures of a peer's best tunnel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerPath {
    /// Gateways of the peer that are known.
    pub gateways: usize,
    /// Tunnels that are up.
    pub connected: usize,
    /// Attempts that failed since one succeeded, over all gateways: nobody answers.
    pub failures: u64,
    /// The least round-trip time.
    pub rtt: Duration,
    /// Packets sent on the tunnels that are up.
    pub sent: u64,
    /// Of them, packets deemed lost.
    pub lost: u64,
}

/// All peers. Cheap to clone.
#[derive(Clone)]
pub struct PeerSet(Arc<Inner>);

struct Inner {
    quic: QuicEndpoint,
    metrics: Metrics,
    peers: BTreeMap<ClusterId, Peer>,
    shutdown: CancellationToken,
}

struct Peer {
    dialler: ClientConfig,
    /// Replaced whole when the peer's gateways change; never held across an await.
    gateways: Mutex<BTreeMap<Arc<str>, Keeper>>,
    open: ArcSwapOption<Vec<Arc<Slot>>>,
    next: AtomicUsize,
}

/// Keeps one gateway's tunnel.
struct Keeper {
    addresses: Vec<String>,
    stop: CancellationToken,
    slot: Arc<Slot>,
}

/// The tunnel to one gateway, while there is one.
#[derive(Default)]
struct Slot {
    tunnel: ArcSwapOption<Tunnel>,
    failures: AtomicUsize,
}

/// The identity of a cluster's gateways.
///
/// # Errors
/// Never for a valid cluster.
pub fn gateway_identity(cluster: &ClusterId, domain: &TrustDomain) -> Result<WorkloadIdentity, model::Invalid> {
    WorkloadIdentity::new(domain.clone(), SYSTEM_NAMESPACE.parse()?, &format!("gateway-{cluster}"))
}

// === impl PeerSet ===

impl PeerSet {
    /// The peers that may be dialled over `quic`: each cluster with the identity of its gateways.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(
        quic: QuicEndpoint,
        peers: &BTreeMap<ClusterId, WorkloadIdentity>,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) -> io::Result<Self> {
        let peers = peers
            .iter()
            .map(|(cluster, identity)| Ok((cluster.clone(), Peer::new(quic.dialler(identity.clone())?))))
            .collect::<io::Result<_>>()?;
        Ok(Self(Arc::new(Inner { quic, metrics, peers, shutdown })))
    }

    /// The gateways of a peer, by name, with their `HOST:PORT` addresses. Tunnels to those that are no longer among them
    /// take no new streams, and are closed when idle.
    pub fn set_gateways(&self, cluster: &ClusterId, gateways: &BTreeMap<Arc<str>, Vec<String>>) {
        let Some(peer) = self.0.peers.get(cluster) else { return };
        let mut kept = peer.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|name, keeper| gateways.get(name) == Some(&keeper.addresses) || keeper.leave());
        for (name, addresses) in gateways {
            kept.entry(name.clone()).or_insert_with(|| self.keep(cluster, peer, name, addresses));
        }
        peer.open.store(Some(Arc::new(kept.values().map(|keeper| keeper.slot.clone()).collect())));
    }

    /// Opens a stream to some gateway of `cluster`, and sends the header and the first bytes of the payload together.
    /// Each call takes the next tunnel.
    ///
    /// # Errors
    /// If no gateway of the peer can be reached, or the tunnel is lost in this moment.
    pub async fn open(
        &self,
        cluster: &ClusterId,
        header: &StreamHeader,
        payload: &[u8],
    ) -> Result<TunnelStream, OpenError> {
        let peer = self.0.peers.get(cluster).ok_or_else(|| OpenError::UnknownPeer(cluster.clone()))?;
        let tunnel = peer.next_tunnel().ok_or_else(|| OpenError::Unreachable(cluster.clone()))?;
        let header = header.encode()?;
        let (send, receive) = tunnel.connection.open_bi().await.map_err(|_| CopyError::Lost)?;
        let mut stream = TunnelStream::new(send, receive, Tunnel::clone(&tunnel));
        let mut first = BytesMut::with_capacity(header.len() + payload.len());
        first.put_slice(&header);
        first.put_slice(payload);
        stream.write(first.freeze()).await?;
        Ok(stream)
    }

    /// How a peer can be reached.
    pub fn path(&self, cluster: &ClusterId) -> PeerPath {
        let Some(peer) = self.0.peers.get(cluster) else { return PeerPath::default() };
        let slots = peer.open.load();
        let slots = slots.as_deref().map(Vec::as_slice).unwrap_or_default();
        let mut path = PeerPath { gateways: slots.len(), ..PeerPath::default() };
        for slot in slots {
            path.failures += slot.failures.load(Ordering::Relaxed) as u64;
            let Some(tunnel) = slot.tunnel.load_full().filter(|tunnel| tunnel.is_usable()) else { continue };
            let stats = tunnel.stats().path;
            path.rtt = if path.connected == 0 { stats.rtt } else { path.rtt.min(stats.rtt) };
            path.connected += 1;
            path.sent += stats.sent_packets;
            path.lost += stats.lost_packets;
        }
        path
    }

    /// The peers.
    pub fn clusters(&self) -> impl Iterator<Item = &ClusterId> {
        self.0.peers.keys()
    }

    fn keep(&self, cluster: &ClusterId, peer: &Peer, name: &Arc<str>, addresses: &[String]) -> Keeper {
        let keeper = Keeper {
            addresses: addresses.to_vec(),
            stop: self.0.shutdown.child_token(),
            slot: Arc::new(Slot::default()),
        };
        let labels = PathLabels { peer: cluster.to_string(), gateway: name.to_string(), transport: TRANSPORT };
        let dial = Dial {
            quic: self.0.quic.clone(),
            config: peer.dialler.clone(),
            addresses: addresses.to_vec(),
            slot: keeper.slot.clone(),
            metrics: self.0.metrics.clone(),
            labels,
        };
        tokio::spawn(keeper.stop.clone().run_until_cancelled_owned(dial.keep_open()));
        keeper
    }
}

// === impl Peer ===

impl Peer {
    fn new(dialler: ClientConfig) -> Self {
        Self { dialler, gateways: Mutex::default(), open: ArcSwapOption::empty(), next: AtomicUsize::new(0) }
    }

    /// The usable tunnels, one after the other.
    fn next_tunnel(&self) -> Option<Arc<Tunnel>> {
        let slots = self.open.load();
        let slots = slots.as_deref()?;
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        (0..slots.len())
            .filter_map(|step| slots[first.wrapping_add(step) % slots.len()].tunnel.load_full())
            .find(|tunnel| tunnel.is_usable())
    }
}

// === impl Keeper ===

impl Keeper {
    /// Ends the keeping; false, for `retain`.
    fn leave(&self) -> bool {
        self.stop.cancel();
        false
    }
}

/// What it takes to keep a tunnel to one gateway.
struct Dial {
    quic: QuicEndpoint,
    config: ClientConfig,
    addresses: Vec<String>,
    slot: Arc<Slot>,
    metrics: Metrics,
    labels: PathLabels,
}

/// Shows whether a tunnel is up; not for longer than it is kept.
struct Up(Gauge);

// === impl Dial ===

impl Dial {
    async fn keep_open(self) {
        let mut backoff = FIRST_BACKOFF;
        let up = Up(self.metrics.state.get_or_create_owned(&self.labels));
        loop {
            up.0.set(0);
            match self.connect().await {
                Ok(tunnel) => {
                    tracing::info!(peer = self.labels.peer, gateway = self.labels.gateway, "tunnel up");
                    let tunnel = Arc::new(tunnel);
                    backoff = FIRST_BACKOFF;
                    self.slot.failures.store(0, Ordering::Relaxed);
                    self.slot.tunnel.store(Some(tunnel.clone()));
                    up.0.set(1);
                    self.show_until_closed(&tunnel).await;
                    self.slot.tunnel.store(None);
                    tracing::info!(peer = self.labels.peer, gateway = self.labels.gateway, "tunnel down");
                }
                Err(error) => {
                    self.slot.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(peer = self.labels.peer, gateway = self.labels.gateway, %error, "no tunnel");
                }
            }
            tokio::time::sleep(backoff.mul_f64(rand::random_range(0.5..1.0))).await;
            backoff = (backoff * 2).min(LAST_BACKOFF);
        }
    }

    /// Tries the gateway's addresses in turn; names are resolved anew each time.
    async fn connect(&self) -> io::Result<Tunnel> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the gateway has no address");
        let mut tried = BTreeSet::new();
        for name in &self.addresses {
            let resolved: Vec<SocketAddr> = match tokio::net::lookup_host(name).await {
                Ok(resolved) => resolved.collect(),
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            for address in resolved {
                if !tried.insert(address) {
                    continue;
                }
                match self.dial(address).await {
                    Ok(tunnel) => return Ok(tunnel),
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    }

    async fn dial(&self, address: SocketAddr) -> io::Result<Tunnel> {
        let connecting =
            self.quic.endpoint.connect_with(self.config.clone(), address, SERVER_NAME).map_err(io::Error::other)?;
        let connection = tokio::time::timeout(self.quic.settings.connect(), connecting).await??;
        Ok(Tunnel::new(connection))
    }

    async fn show_until_closed(&self, tunnel: &Tunnel) {
        let rtt = self.metrics.rtt.get_or_create_owned(&self.labels);
        let sent = self.metrics.sent.get_or_create_owned(&self.labels);
        let lost = self.metrics.lost.get_or_create_owned(&self.labels);
        let mut ticks = tokio::time::interval(FIGURES);
        loop {
            tokio::select! {
                _ = tunnel.connection.closed() => return,
                _ = ticks.tick() => {}
            }
            let path = tunnel.stats().path;
            rtt.set(path.rtt.as_secs_f64());
            sent.set(path.sent_packets.cast_signed());
            lost.set(path.lost_packets.cast_signed());
        }
    }
}

// === impl Up ===

impl Drop for Up {
    fn drop(&mut self) {
        self.0.set(0);
    }
}
