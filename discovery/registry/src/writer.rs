//! The one writer: takes in events, and publishes the catalog that follows from all of them.

use crate::address::{Allocator, Slot};
use crate::event::{Event, GatewayEvent, PeerView};
use crate::merge::{self, PeerInput};
use crate::metrics::{self, Metrics};
use crate::registrations;
use crate::settings::PeerKeys;
use crate::source::address::Wishes;
use crate::status::{Conflict, FileView, PeerStatus, Status, WorkloadStatus};
use federation::{health, peer};
use model::{Catalog, Cluster, ClusterId, Gateway, Host, Peer, TrustBundle};
use resource::Document;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;
use store::Workload;
use tokio::sync::watch;

/// Everything that the sources have said.
pub(crate) struct Writer {
    cluster: Arc<Cluster>,
    bundles: BTreeMap<model::TrustDomain, TrustBundle>,
    health: health::Settings,
    files: FileView,
    /// The workloads that registered themselves.
    registered: Vec<Document>,
    workload_status: Vec<WorkloadStatus>,
    peers: BTreeMap<ClusterId, PeerState>,
    gateways: BTreeMap<Arc<str>, Arc<Gateway>>,
    allocator: Allocator,
    gone: BTreeSet<Host>,
    conflicts: Vec<Conflict>,
    metrics: Metrics,
    outlets: Outlets,
}

/// Where the writer's readers listen.
pub(crate) struct Outlets {
    pub(crate) catalog: watch::Sender<Arc<Catalog>>,
    pub(crate) documents: watch::Sender<Arc<Vec<Document>>>,
    pub(crate) status: watch::Sender<Arc<Status>>,
    pub(crate) wishes: watch::Sender<Arc<Wishes>>,
}

struct PeerState {
    cluster: Cluster,
    known: peer::Peer,
}

// === impl Writer ===

impl Writer {
    pub(crate) fn new(
        cluster: Cluster,
        own_bundle: TrustBundle,
        peers: &BTreeMap<ClusterId, PeerKeys>,
        health: health::Settings,
        (metrics, outlets): (Metrics, Outlets),
        now: Instant,
    ) -> Self {
        let bundles = peers.values().map(|peer| peer.bundle.clone()).chain([own_bundle]);
        Self {
            cluster: Arc::new(cluster),
            bundles: bundles.map(|bundle| (bundle.trust_domain.clone(), bundle)).collect(),
            health,
            files: FileView::default(),
            registered: Vec::new(),
            workload_status: Vec::new(),
            peers: peers.iter().map(|(id, keys)| (id.clone(), PeerState::new(&keys.cluster, now))).collect(),
            gateways: BTreeMap::new(),
            allocator: Allocator::new(health.forget_after),
            gone: BTreeSet::new(),
            conflicts: Vec::new(),
            metrics,
            outlets,
        }
    }

    /// Takes in `event`; whether the catalog may be different.
    pub(crate) fn apply(&mut self, event: Event, now: Instant) -> bool {
        match event {
            Event::Files(files) => self.files(files),
            Event::Peer(id, view) => self.peer(&id, view, now),
            Event::Addresses(slots) => self.addresses(slots, now),
            Event::Workloads(workloads) => self.workloads(&workloads),
        }
    }

    /// Takes in what a gateway tells; whether the catalog may be different.
    pub(crate) fn gateway(&mut self, event: GatewayEvent, now: Instant) -> bool {
        let changed = event.apply(&mut self.gateways);
        for (id, peer) in &mut self.peers {
            let paths = self.gateways.values().map(|gateway| gateway.paths.get(id).copied().unwrap_or_default());
            peer.known.step(peer::Event::Paths(paths.collect()), now);
        }
        changed
    }

    /// Takes in that it is `now`; whether the catalog may be different.
    pub(crate) fn tick(&mut self, now: Instant) -> bool {
        let forgotten = self.allocator.forget(now);
        self.gone.extend(forgotten);
        self.judge(now)
    }

    /// Publishes the catalog, if it is different from the last, and everything else there is to tell.
    pub(crate) fn publish(&mut self, now: Instant) {
        self.judge(now);
        let before = self.outlets.catalog.borrow().clone();
        let inputs = self.peers.iter().map(|(id, peer)| (id.clone(), peer.input())).collect();
        let (mut services, conflicts) =
            merge::services(&self.cluster, &self.files.documents, &self.registered, &inputs);
        self.allocator.want(&merge::hosts_without_addresses(&services), now);
        merge::assign(&mut services, |host| self.allocator.slot(host));
        self.conflicts = conflicts;
        let shared = services.into_iter().map(|(key, service)| match before.services.get(&key) {
            // What is equal stays the same, so that readers see at once that nothing happened to it.
            Some(known) if **known == service => (key, known.clone()),
            _ => (key, Arc::new(service)),
        });
        let peers = inputs.into_iter().map(|(id, input)| match before.peers.get(&id) {
            Some(known) if **known == input.peer => (id, known.clone()),
            _ => (id, Arc::new(input.peer)),
        });
        let catalog = Catalog {
            cluster: self.cluster.clone(),
            services: shared.collect(),
            peers: peers.collect(),
            gateways: self.gateways.clone(),
            bundles: self.bundles.clone(),
        };
        self.metrics.services.set(count(catalog.services.len()));
        if catalog != *before {
            self.outlets.catalog.send_replace(Arc::new(catalog));
        }
        self.wish();
        self.tell(now);
    }

    /// Publishes what there is to tell beside the catalog.
    pub(crate) fn tell(&self, now: Instant) {
        let status = Status {
            file_errors: self.files.errors.clone(),
            warnings: self.files.warnings.clone(),
            conflicts: self.conflicts.clone(),
            peers: self.peers.iter().map(|(id, peer)| (id.clone(), peer.status(now))).collect(),
            workloads: self.workload_status.clone(),
        };
        self.metrics.file_errors.set(count(status.file_errors.len()));
        self.metrics.conflicts.set(count(status.conflicts.len()));
        for (id, peer) in &status.peers {
            let label = metrics::Peer { cluster: id.to_string() };
            let age = peer.age_seconds.unwrap_or_default();
            self.metrics.record_age.get_or_create(&label).set(i64::try_from(age).unwrap_or(i64::MAX));
        }
        replace(&self.outlets.status, status);
    }

    fn files(&mut self, files: FileView) -> bool {
        for error in files.errors.iter().filter(|error| !self.files.errors.contains(error)) {
            tracing::warn!(%error, "a file is not taken in; what it last said is kept");
        }
        for warning in files.warnings.iter().filter(|warning| !self.files.warnings.contains(warning)) {
            tracing::warn!(%warning, "not honoured");
        }
        let changed = self.files.documents != files.documents;
        self.files = files;
        if changed {
            self.outlets.documents.send_replace(self.files.documents.clone());
        }
        changed
    }

    fn peer(&mut self, id: &ClusterId, view: PeerView, now: Instant) -> bool {
        self.peers.get_mut(id).is_some_and(|peer| peer.known.step(peer::Event::View(view), now))
    }

    fn workloads(&mut self, workloads: &[Workload]) -> bool {
        let registered: Vec<Document> = workloads.iter().map(registrations::document).collect();
        self.workload_status = workloads.iter().map(WorkloadStatus::from).collect();
        let changed = self.registered != registered;
        self.registered = registered;
        changed
    }

    fn addresses(&mut self, slots: Vec<(Host, Option<Slot>)>, now: Instant) -> bool {
        let mut changed = false;
        for (host, slot) in slots {
            if let Some(slot) = slot {
                changed |= self.allocator.observe(&host, slot, now);
            } else {
                self.gone.remove(&host);
                self.allocator.vanished(&host);
                changed = true;
            }
        }
        changed
    }

    /// What follows for the peers' health from the time that has passed; whether anything does.
    fn judge(&mut self, now: Instant) -> bool {
        let mut changed = false;
        for (id, peer) in &mut self.peers {
            let Some(transition) = peer.known.judge(&self.health, now) else { continue };
            let (from, to) = (transition.from.as_str(), transition.to.as_str());
            tracing::info!(peer = %id, from, to, reason = transition.reason, "a peer's health changed");
            self.metrics.transition(id, &transition);
            changed = true;
        }
        changed
    }

    fn wish(&mut self) {
        self.gone.retain(|host| self.allocator.slot(host).is_none());
        replace(&self.outlets.wishes, Wishes { claims: self.allocator.claims(), gone: self.gone.clone() });
    }
}

/// As a gauge wants it.
fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Sends `value`, if it is different from the last.
fn replace<T: PartialEq>(outlet: &watch::Sender<Arc<T>>, value: T) {
    outlet.send_if_modified(|last| {
        let changed = **last != value;
        if changed {
            *last = Arc::new(value);
        }
        changed
    });
}

// === impl PeerState ===

impl PeerState {
    fn new(cluster: &Cluster, now: Instant) -> Self {
        Self { cluster: cluster.clone(), known: peer::Peer::new(now) }
    }

    fn input(&self) -> PeerInput {
        let (gateways, health) = (self.known.view().gateways.clone(), self.known.health());
        let peer = Peer { cluster: self.cluster.clone(), gateways, health };
        PeerInput { peer, exports: self.known.view().exports.clone(), forgotten: self.known.is_removed() }
    }

    fn status(&self, now: Instant) -> PeerStatus {
        let view = self.known.view();
        PeerStatus {
            health: self.known.health(),
            read: view.read,
            watched: view.watched,
            gateways_alive: view.alive,
            services: view.exports.len(),
            age_seconds: self.known.age_seconds(now),
            rejected: view.rejected.clone(),
            forgotten: self.known.is_removed(),
        }
    }
}

#[cfg(test)]
mod tests;
