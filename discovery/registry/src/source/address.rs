//! The addresses allocated to hosts, as the store has them: read for all replicas, and claimed by whoever needs one first.
//!
//! ```text
//! store ─▶ verified slots ─▶ writer's allocator ─▶ wishes ─▶ create-if-absent ─▶ store
//! ```

use crate::address::{Claim, Slot};
use crate::event::Event;
use federation::election::next_epoch;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use identity::RegistryKey;
use model::{Cluster, Host};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::{Change, HighWater, Key, KeyKind, Payload, Position, Record, Stale, Store, StoreError};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// What the allocator wants of the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Wishes {
    /// To be written.
    pub(crate) claims: Vec<Claim>,
    /// To be deleted: hosts that have been gone for longer than `forgetAfter`.
    pub(crate) gone: BTreeSet<Host>,
}

/// The own cluster's allocations.
pub(crate) struct Addresses {
    cluster: Cluster,
    key: Arc<RegistryKey>,
    store: Store,
    high_water: HighWater,
    /// The hosts that the store has.
    stored: BTreeSet<Host>,
}

/// How many writes may be under way at once.
const WRITES: usize = 16;
/// How long to wait before what the store refused is tried again.
const RETRY: Duration = Duration::from_secs(2);

// === impl Addresses ===

impl Addresses {
    pub(crate) fn new(cluster: Cluster, key: Arc<RegistryKey>, store: Store) -> Self {
        Self { cluster, key, store, high_water: HighWater::default(), stored: BTreeSet::new() }
    }

    /// Tells `events` what the store has, and the store what is wished, until `shutdown`.
    pub(crate) async fn run(
        mut self,
        mut wishes: watch::Receiver<Arc<Wishes>>,
        events: mpsc::Sender<Event>,
        shutdown: CancellationToken,
    ) {
        let mut changes =
            self.store.watch_prefix(&format!("{}addresses/", store::cluster_prefix(&self.cluster.id))).boxed();
        let mut retry = tokio::time::interval(RETRY);
        retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_open = false;
        loop {
            let slots = tokio::select! {
                () = shutdown.cancelled() => return,
                Some(change) = changes.next() => {
                    is_open = !matches!(change, Change::Lost(_));
                    self.apply(change)
                }
                Ok(()) = wishes.changed() => Vec::new(),
                _ = retry.tick() => Vec::new(),
            };
            if !slots.is_empty() {
                if events.send(Event::Addresses(slots)).await.is_err() {
                    return;
                }
                // The wishes were made without these slots: new ones follow.
                continue;
            }
            if is_open {
                let wishes = wishes.borrow_and_update().clone();
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = self.fulfil(&wishes) => {}
                }
            }
        }
    }
}

impl Addresses {
    /// What `change` says of hosts; what does not verify says nothing.
    fn apply(&mut self, change: Change) -> Vec<(Host, Option<Slot>)> {
        match change {
            Change::Snapshot { entries, .. } => {
                let mut slots = Vec::new();
                let mut absent: BTreeSet<Host> = self.stored.clone();
                for entry in entries {
                    if let Some((host, slot)) = self.read(&entry.key, &entry.value) {
                        absent.remove(&host);
                        slots.extend(slot.map(|slot| (host, Some(slot))));
                    }
                }
                self.stored.retain(|host| !absent.contains(host));
                slots.extend(absent.into_iter().map(|host| (host, None)));
                slots
            }
            Change::Put(entry) => match self.read(&entry.key, &entry.value) {
                Some((host, Some(slot))) => vec![(host, Some(slot))],
                _ => Vec::new(),
            },
            Change::Delete { key, .. } => match key.parse() {
                Ok(Key { kind: KeyKind::Address { host }, .. }) => {
                    self.stored.remove(&host);
                    vec![(host, None)]
                }
                _ => Vec::new(),
            },
            Change::Lost(_) => Vec::new(),
        }
    }

    /// The host of a record that is ours, and its slot if that is news.
    fn read(&mut self, key: &str, value: &[u8]) -> Option<(Host, Option<Slot>)> {
        let record = match Record::decode(key, value, &self.cluster.uid, &self.key.public()) {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(key, %error, "an allocated address is not believed");
                return None;
            }
        };
        let Payload::Address { host, ipv4, ipv6 } = &record.payload else { return None };
        let slot = Slot::of(*ipv4, *ipv6)?;
        let is_stored = self.stored.contains(host);
        match self.high_water.admit(&record) {
            // The same again is news if the record was away in between.
            Err(Stale::Known { .. }) if is_stored => return Some((host.clone(), None)),
            Ok(()) | Err(Stale::Known { .. }) => {}
            Err(stale) => {
                tracing::warn!(key, %stale, "an allocated address is not believed");
                return None;
            }
        }
        self.stored.insert(host.clone());
        Some((host.clone(), Some(slot)))
    }

    /// Writes what is wished. What fails is wished again.
    async fn fulfil(&self, wishes: &Wishes) {
        let mut writes: Vec<BoxFuture<'_, Result<(), StoreError>>> = Vec::new();
        for claim in &wishes.claims {
            writes.push(self.claim(claim).boxed());
        }
        for host in wishes.gone.intersection(&self.stored) {
            writes.push(self.delete(host).boxed());
        }
        let mut writes = stream::iter(writes).buffer_unordered(WRITES);
        while let Some(written) = writes.next().await {
            if let Err(error) = written {
                tracing::debug!(%error, "an address is not written; it will be tried again");
                return;
            }
        }
    }

    async fn claim(&self, claim: &Claim) -> Result<(), StoreError> {
        let key = Key::address(self.cluster.id.clone(), claim.host.clone());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let seen = self.high_water.position(&key).map_or(0, |position| position.epoch);
        let record = Record {
            uid: self.cluster.uid.clone(),
            position: Position { epoch: next_epoch(seen, now), sequence: 0 },
            payload: Payload::Address { host: claim.host.clone(), ipv4: claim.slot.ipv4(), ipv6: claim.slot.ipv6() },
            key,
        };
        // A host and two addresses are far smaller than a record may be.
        let Ok(value) = record.encode(&self.key) else { return Ok(()) };
        let key = record.key.to_string();
        if claim.replace {
            self.store.put(&key, value).await.map(drop)
        } else {
            self.store.create_if_absent(&key, value).await.map(drop)
        }
    }

    async fn delete(&self, host: &Host) -> Result<(), StoreError> {
        let key = Key::address(self.cluster.id.clone(), host.clone());
        self.store.delete(&key.to_string()).await.map(drop)
    }
}
