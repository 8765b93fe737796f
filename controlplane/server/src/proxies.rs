//! The connected proxies, and what each has been told.
//!
//! No lock is held while anything is translated: a proxy that connects while the world changes is told the old one, and
//! the pusher is woken to tell it the new one.

use crate::metrics::Metrics;
use crate::registration::Registration;
use crate::views::Views;
use crate::world::World;
use arc_swap::ArcSwap;
use model::{Locality, WorkloadIdentity};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tonic::Status;
use translate::translate;
use xds::{Event, Interception, Node, NodeKind, Snapshot, Software, Source, type_url};

/// The connected proxies. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Proxies(Arc<Inner>);

struct Inner {
    world: ArcSwap<World>,
    table: Mutex<BTreeMap<Id, Proxy>>,
    /// Whether the first world is complete.
    ready: AtomicBool,
    /// A proxy was told an old world.
    stale: Notify,
    metrics: Metrics,
    registration: Registration,
    views: Views,
}

/// What tells two proxies apart: node id and service account. The namespace is in the node id, and the server admits
/// only what the certificate says.
type Id = (String, String);

/// One connected proxy.
pub(crate) struct Proxy {
    pub(crate) node: Arc<Node>,
    pub(crate) identity: WorkloadIdentity,
    pub(crate) connected: SystemTime,
    pub(crate) snapshots: watch::Sender<Arc<Snapshot>>,
    /// The last rejection of each type that was not followed by an acknowledgement.
    pub(crate) rejected: BTreeMap<&'static str, String>,
    /// Of the world that it was told.
    pub(crate) generation: u64,
    streams: usize,
    /// When the change happened whose push it has not acknowledged yet.
    awaited: Option<Instant>,
}

/// All of a proxy that its resources depend on: proxies that are equal in it are translated once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Inputs {
    identity: WorkloadIdentity,
    is_sidecar: bool,
    interception: &'static str,
    addresses: Vec<IpAddr>,
    labels: BTreeMap<String, String>,
    cluster: String,
    network: String,
    locality: Locality,
    own_ports: Vec<u16>,
    software: Software,
    version: String,
}

/// Proxies to be told the same.
pub(crate) struct Batch {
    inputs: Inputs,
    pub(crate) node: Arc<Node>,
    pub(crate) identity: WorkloadIdentity,
    /// What they were told, and the generation of the world that it was of.
    pub(crate) told: Arc<Snapshot>,
    pub(crate) generation: u64,
    members: Vec<Id>,
}

// === impl Proxies ===

impl Proxies {
    pub(crate) fn new(world: World, registration: Registration, metrics: Metrics) -> Self {
        metrics.knows(&world.catalog);
        Self(Arc::new(Inner {
            world: ArcSwap::from_pointee(world),
            table: Mutex::default(),
            ready: AtomicBool::new(false),
            stale: Notify::new(),
            metrics,
            registration,
            views: Views::default(),
        }))
    }

    /// From now on, proxies are served.
    pub(crate) fn set_ready(&self) {
        self.0.ready.store(true, Ordering::Release);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::Acquire)
    }

    pub(crate) fn world(&self) -> Arc<World> {
        self.0.world.load_full()
    }

    /// From now on, proxies that connect are told `world`.
    pub(crate) fn set_world(&self, world: World) {
        self.0.metrics.knows(&world.catalog);
        self.0.world.store(Arc::new(world));
    }

    /// Returns when a proxy may have been told an old world.
    pub(crate) async fn stale(&self) {
        self.0.stale.notified().await;
    }

    /// Those that were told an older world than `generation`, equal ones together; forgets those that are gone.
    pub(crate) fn behind(&self, generation: u64) -> Vec<Batch> {
        let mut table = self.table();
        table.retain(|_, proxy| !proxy.snapshots.is_closed());
        self.0.views.forget();
        self.0.metrics.connected(table.len());
        let mut batches: HashMap<(Inputs, u64), Batch> = HashMap::new();
        for (id, proxy) in table.iter().filter(|(_, proxy)| proxy.generation < generation) {
            let inputs = Inputs::of(&proxy.node, &proxy.identity);
            let new = || Batch {
                inputs: inputs.clone(),
                node: proxy.node.clone(),
                identity: proxy.identity.clone(),
                told: proxy.snapshots.borrow().clone(),
                generation: proxy.generation,
                members: Vec::new(),
            };
            batches.entry((inputs.clone(), proxy.generation)).or_insert_with(new).members.push(id.clone());
        }
        batches.into_values().collect()
    }

    /// Tells the batch's proxies `snapshot` of `generation`, which shows a change of the time `since`.
    pub(crate) fn tell(&self, batch: &Batch, snapshot: &Arc<Snapshot>, generation: u64, since: Option<Instant>) {
        let mut table = self.table();
        for id in &batch.members {
            let Some(proxy) = table.get_mut(id) else { continue };
            // It may have connected anew meanwhile, with other labels or to a newer world.
            if proxy.generation < generation && Inputs::of(&proxy.node, &proxy.identity) == batch.inputs {
                proxy.generation = generation;
                if proxy.tell(snapshot, &self.0.metrics) {
                    proxy.awaited = since;
                }
            }
        }
    }

    /// What `node` that was told `before` is to be told, of which others may have been told most already.
    pub(crate) fn shared(&self, node: &Node, snapshot: Snapshot, before: &Snapshot) -> Arc<Snapshot> {
        self.0.views.shared(node, snapshot, before)
    }

    /// Looks at every connected proxy, in order.
    pub(crate) fn each<T>(&self, look: impl FnMut(&Proxy) -> T) -> Vec<T> {
        self.table().values().map(look).collect()
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<Id, Proxy>> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(&self, node: &Node, act: impl FnOnce(&mut Proxy)) {
        if let Some(proxy) = self.table().get_mut(&id(node)) {
            act(proxy);
        }
    }
}

impl Source for Proxies {
    fn open(&self, node: &Node, peer: &WorkloadIdentity) -> Result<watch::Receiver<Arc<Snapshot>>, Status> {
        if !self.is_ready() {
            return Err(Status::unavailable("the control plane starts: the peers' records are still being read"));
        }
        self.0.registration.open(node, peer)?;
        let world = self.world();
        let snapshot = self.told(node, peer, world.generation);
        let new = || self.shared(node, translate(&world.catalog, &world.intent, node, peer), &Snapshot::default());
        let snapshot = snapshot.unwrap_or_else(new);
        let receiver = self.enter(node, peer, &snapshot, world.generation);
        if self.world().generation != world.generation {
            self.0.stale.notify_one();
        }
        tracing::info!(node = node.id, identity = %peer, "a proxy connected");
        Ok(receiver)
    }

    fn observe(&self, node: &Node, event: Event) {
        match event {
            Event::Ack { type_url, .. } => self.with(node, |proxy| {
                proxy.rejected.remove(type_url);
                if let Some(since) = proxy.awaited.take() {
                    self.0.metrics.converged(since.elapsed());
                }
            }),
            Event::Nack { type_url, message, .. } => {
                tracing::warn!(node = node.id, type_url, message, "a proxy rejected a response");
                self.0.metrics.rejected(type_url);
                self.with(node, |proxy| {
                    proxy.rejected.insert(type_url, message);
                });
            }
        }
    }

    fn health(&self, node: &Node, health: Result<(), String>) {
        self.0.registration.health(node, health);
    }

    fn closed(&self, node: &Node) {
        self.0.registration.closed(node);
        let mut table = self.table();
        let Some(proxy) = table.get_mut(&id(node)) else { return };
        proxy.streams = proxy.streams.saturating_sub(1);
        if proxy.streams == 0 {
            table.remove(&id(node));
        }
        self.0.metrics.connected(table.len());
        tracing::info!(node = node.id, "a proxy's stream ended");
    }
}

impl Proxies {
    /// What this very node was told of `generation`, if it is connected already.
    fn told(&self, node: &Node, peer: &WorkloadIdentity, generation: u64) -> Option<Arc<Snapshot>> {
        let table = self.table();
        let known = table
            .get(&id(node))
            .filter(|proxy| proxy.generation == generation && *proxy.node == *node && proxy.identity == *peer);
        known.map(|proxy| proxy.snapshots.borrow().clone())
    }

    fn enter(
        &self,
        node: &Node,
        peer: &WorkloadIdentity,
        snapshot: &Arc<Snapshot>,
        generation: u64,
    ) -> watch::Receiver<Arc<Snapshot>> {
        let mut table = self.table();
        let proxy = table.entry(id(node)).or_insert_with(|| Proxy::new(node, peer, snapshot.clone(), generation));
        // A proxy that connects anew may say something else of itself: its newest word counts.
        if *proxy.node != *node || proxy.generation < generation {
            (proxy.node, proxy.identity, proxy.generation) = (Arc::new(node.clone()), peer.clone(), generation);
            proxy.tell(snapshot, &self.0.metrics);
        }
        proxy.streams += 1;
        let receiver = proxy.snapshots.subscribe();
        self.0.metrics.connected(table.len());
        receiver
    }
}

fn id(node: &Node) -> Id {
    (node.id.clone(), node.service_account.clone())
}

// === impl Proxy ===

impl Proxy {
    fn new(node: &Node, identity: &WorkloadIdentity, snapshot: Arc<Snapshot>, generation: u64) -> Self {
        Self {
            node: Arc::new(node.clone()),
            identity: identity.clone(),
            connected: SystemTime::now(),
            snapshots: watch::Sender::new(snapshot),
            rejected: BTreeMap::new(),
            generation,
            streams: 0,
            awaited: None,
        }
    }

    /// Tells the proxy `snapshot`, unless it was told the same; whether it was different.
    fn tell(&self, snapshot: &Arc<Snapshot>, metrics: &Metrics) -> bool {
        self.snapshots.send_if_modified(|told| {
            let mut different = false;
            for of in type_url::ORDER {
                if told.get(of) != snapshot.get(of) {
                    metrics.pushed(of);
                    different = true;
                }
            }
            if different {
                *told = snapshot.clone();
            }
            different
        })
    }
}

// === impl Inputs ===

impl Inputs {
    fn of(node: &Node, identity: &WorkloadIdentity) -> Self {
        Self {
            identity: identity.clone(),
            is_sidecar: node.kind == NodeKind::Sidecar,
            interception: match node.interception {
                Interception::Redirect => "REDIRECT",
                Interception::Tproxy => "TPROXY",
                Interception::None => "NONE",
            },
            addresses: node.addresses.clone(),
            labels: node.labels.clone(),
            cluster: node.cluster.clone(),
            network: node.network.clone(),
            locality: node.locality.clone(),
            own_ports: node.own_ports.clone(),
            software: node.software,
            version: node.version.clone(),
        }
    }
}
