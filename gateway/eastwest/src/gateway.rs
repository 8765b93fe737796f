//! The gateway as a whole: bound, wired, drained.

use crate::egress::Egress;
use crate::ingress::{Ingress, Loads, Served};
use crate::membership::Member;
use crate::report::Reporter;
use crate::settings::Settings;
use identity::{Identity, RegistryKey};
use model::{Catalog, Cluster, ClusterId, TrustDomain, WorkloadIdentity};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;
use tunnel::{Metrics, PeerSet, QuicEndpoint, accept, gateway_identity};

/// What a gateway is made of, beside its settings.
pub struct Parts {
    /// Its cluster.
    pub cluster: Cluster,
    /// Its own name among the cluster's gateways.
    pub name: Arc<str>,
    /// Its certificate: `ns/isthmus-system/sa/gateway-CLUSTER`. Its bundles must hold the peers' roots.
    pub identity: Identity,
    /// The peers, with their trust domains.
    pub peers: BTreeMap<ClusterId, TrustDomain>,
    /// What exists, kept current by a registry.
    pub catalog: watch::Receiver<Arc<Catalog>>,
    /// The store; without one nothing is offered and no peer is told that we live.
    pub store: Option<Store>,
    /// The key that signs the cluster's records.
    pub registry_key: Arc<RegistryKey>,
    /// What is counted.
    pub metrics: Metrics,
}

/// A running gateway.
pub struct Gateway {
    listen: SocketAddr,
    tunnel: SocketAddr,
    peers: PeerSet,
    finished: TaskTracker,
}

/// What runs until shutdown.
struct Running {
    settings: Arc<Settings>,
    member: Option<Member>,
    quic: QuicEndpoint,
    streams: TaskTracker,
    stop_tunnels: CancellationToken,
}

// === impl Gateway ===

impl Gateway {
    /// Binds both ports and runs until `shutdown`; `connect` opens channels to the own control plane, for reports.
    ///
    /// # Errors
    /// If a port cannot be bound.
    pub async fn start<C, F, E>(
        settings: Settings,
        parts: Parts,
        connect: C,
        shutdown: CancellationToken,
    ) -> io::Result<Self>
    where
        C: FnMut() -> F + Send + 'static,
        F: Future<Output = Result<Channel, E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        let settings = Arc::new(settings);
        let identities = parts.peer_identities()?;
        let allowed = identities.values().cloned().collect();
        let quic = QuicEndpoint::bind(settings.tunnel, parts.identity.clone(), allowed, settings.tunnels.clone())?;
        let listener = TcpListener::bind(settings.listen).await?;
        let (listen, tunnel) = (listener.local_addr()?, quic.local_addr()?);
        // Tunnels outlive the shutdown by the time that draining takes.
        let stop_tunnels = CancellationToken::new();
        let peers = PeerSet::new(quic.clone(), &identities, parts.metrics.clone(), stop_tunnels.clone())?;
        let (work, streams, finished) = (TaskTracker::new(), TaskTracker::new(), TaskTracker::new());
        let until = |token: &CancellationToken| token.clone();

        let egress = Arc::new(Egress {
            settings: settings.clone(),
            own: parts.cluster.id.clone(),
            peers: peers.clone(),
            catalog: parts.catalog.clone(),
            metrics: parts.metrics.clone(),
        });
        work.spawn(until(&shutdown).run_until_cancelled_owned(egress.run(listener, streams.clone())));
        let ingress = Arc::new(Ingress {
            settings: settings.clone(),
            own: parts.cluster.id.clone(),
            catalog: parts.catalog.clone(),
            metrics: parts.metrics.clone(),
            loads: Loads::default(),
            served: Served::default(),
            leaving: shutdown.clone(),
        });
        let incoming = accept(quic.clone(), &identities, stop_tunnels.clone());
        work.spawn(until(&stop_tunnels).run_until_cancelled_owned(ingress.run(incoming, streams.clone())));
        work.spawn(until(&stop_tunnels).run_until_cancelled_owned(follow(parts.catalog.clone(), peers.clone())));
        let addresses = if settings.announce.is_empty() { vec![listen] } else { settings.announce.clone() };
        let reporter = Reporter { gateway: parts.name.clone(), addresses, peers: peers.clone() };
        work.spawn(until(&shutdown).run_until_cancelled_owned(reporter.run(connect)));
        let member = parts.member(&settings);
        if let Some(member) = &member {
            let advertised =
                if settings.advertise.is_empty() { vec![tunnel.to_string()] } else { settings.advertise.clone() };
            let (leader, living) = (member.clone(), member.clone());
            work.spawn(until(&shutdown).run_until_cancelled_owned(leader.lead()));
            work.spawn(until(&shutdown).run_until_cancelled_owned(async move { living.stay_alive(advertised).await }));
        }
        work.close();
        let running = Running { settings, member, quic, streams, stop_tunnels };
        finished.spawn(async move {
            shutdown.cancelled().await;
            running.drain().await;
            work.wait().await;
        });
        finished.close();
        Ok(Self { listen, tunnel, peers, finished })
    }

    /// Where it takes sidecars: the bound address.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where it takes tunnels: the bound address.
    pub fn tunnel(&self) -> SocketAddr {
        self.tunnel
    }

    /// The peers' tunnels.
    pub fn peers(&self) -> &PeerSet {
        &self.peers
    }

    /// Returns once all has ended, after shutdown.
    pub async fn finished(&self) {
        self.finished.wait().await;
    }
}

/// Keeps the tunnels to where the catalog says that the peers' gateways are.
async fn follow(mut catalog: watch::Receiver<Arc<Catalog>>, peers: PeerSet) {
    loop {
        let now = catalog.borrow_and_update().clone();
        for (cluster, peer) in &now.peers {
            peers.set_gateways(cluster, &peer.gateways);
        }
        if catalog.changed().await.is_err() {
            return;
        }
    }
}

// === impl Parts ===

impl Parts {
    fn peer_identities(&self) -> io::Result<BTreeMap<ClusterId, WorkloadIdentity>> {
        self.peers
            .iter()
            .map(|(cluster, domain)| {
                Ok((cluster.clone(), gateway_identity(cluster, domain).map_err(io::Error::other)?))
            })
            .collect()
    }

    fn member(&self, settings: &Settings) -> Option<Member> {
        Some(Member {
            cluster: self.cluster.clone(),
            gateway: self.name.clone(),
            key: self.registry_key.clone(),
            store: self.store.clone()?,
            catalog: self.catalog.clone(),
            export_labels: settings.export_labels.clone(),
            leader_life: Duration::from_secs(settings.leader_seconds),
            alive_life: Duration::from_secs(settings.alive_seconds),
        })
    }
}

// === impl Running ===

impl Running {
    /// Says goodbye, lets streams finish for a while, and closes the tunnels.
    async fn drain(self) {
        if let Some(member) = &self.member {
            member.leave().await;
        }
        self.streams.close();
        // Those that are still open after this time are reset.
        let _ = tokio::time::timeout(self.settings.drain(), self.streams.wait()).await;
        self.stop_tunnels.cancel();
        self.quic.close().await;
    }
}
