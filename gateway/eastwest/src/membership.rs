//! Our place in the federation: that this gateway lives, and, if it leads, what the cluster offers.
//!
//! ```text
//! alive:  lease ─▶ signed key under it ─▶ renewed until shutdown
//! leader: campaign ─▶ what stands in the store ──╮
//!         catalog ─▶ what is desired ────────────┼─▶ federation's Publisher ─▶ signed records, each compared with the
//!         our own prefix, followed ──────────────╯                             leadership
//! ```

use federation::export::{Target, desired};
use federation::liveness::Liveness;
use federation::publisher::{At, Event, Publisher, Standing, Write};
use futures_util::{FutureExt, StreamExt};
use identity::RegistryKey;
use model::{Catalog, Cluster, ServiceKey};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use store::{
    Change, Changes, Entry, Key, KeyKind, Leadership, Payload, Position, Record, RecordError, Store, StoreError,
    cluster_prefix,
};
use tokio::sync::watch;

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LAST_BACKOFF: Duration = Duration::from_secs(5);

/// What a gateway needs to write for its cluster.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) cluster: Cluster,
    pub(crate) gateway: Arc<str>,
    pub(crate) key: Arc<RegistryKey>,
    pub(crate) store: Store,
    pub(crate) catalog: watch::Receiver<Arc<Catalog>>,
    pub(crate) export_labels: Vec<String>,
    pub(crate) leader_life: Duration,
    pub(crate) alive_life: Duration,
}

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

// === impl Member ===

impl Member {
    /// Leads whenever it may, for ever.
    pub(crate) async fn lead(self) {
        let leader = Key::leader(self.cluster.id.clone());
        // It outlives every reign: what was written once is never forgotten here, whatever the store says later.
        let mut publisher = Publisher::default();
        loop {
            let leadership = self.store.campaign(&leader, &self.gateway, self.leader_life).await;
            tracing::info!(gateway = %self.gateway, "leading: this gateway writes the cluster's records");
            let ended = tokio::select! {
                () = leadership.lost() => None,
                ended = self.reign(&leadership, &mut publisher) => Some(ended),
            };
            publisher.step(Event::Deposed);
            tracing::info!(gateway = %self.gateway, ?ended, "leading no more");
        }
    }

    async fn reign(&self, leadership: &Leadership, publisher: &mut Publisher) -> WriteError {
        let mut backoff = FIRST_BACKOFF;
        loop {
            match self.begin(publisher).await {
                Ok(()) => break,
                Err(error) => tracing::warn!(%error, "what is published cannot be read"),
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(LAST_BACKOFF);
        }
        let mut catalog = self.catalog.clone();
        let mut changes = self.store.watch_prefix(&format!("{}for/", cluster_prefix(&self.cluster.id)));
        backoff = FIRST_BACKOFF;
        publisher.step(Event::Wanted(desired(&catalog.borrow_and_update(), &self.export_labels)));
        loop {
            match self.publish(leadership, publisher).await {
                Ok(()) => backoff = FIRST_BACKOFF,
                Err(error @ WriteError::Store(StoreError::NotLeader(_))) => return error,
                Err(error) => {
                    tracing::warn!(%error, "exports not written yet");
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(LAST_BACKOFF);
                    continue;
                }
            }
            tokio::select! {
                changed = catalog.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                    publisher.step(Event::Wanted(desired(&catalog.borrow_and_update(), &self.export_labels)));
                }
                Some(change) = changes.next() => self.follow(change, &mut changes, publisher),
            }
        }
    }

    /// Reads what stands under our prefix: it is what a new reign continues from.
    async fn begin(&self, publisher: &mut Publisher) -> Result<(), StoreError> {
        let listing = self.store.get_prefix(&cluster_prefix(&self.cluster.id)).await?;
        let (mut highest_epoch, mut standing) = (0, Vec::new());
        // What is not ours, or is damaged, will be written over.
        for record in listing.entries.iter().filter_map(|entry| self.decode(entry)) {
            highest_epoch = highest_epoch.max(record.position.epoch);
            standing.extend(self::standing(record));
        }
        publisher.step(Event::Elected { standing, highest_epoch, unix_seconds: unix_seconds() });
        Ok(())
    }

    /// Takes in `change` of our own records, and all that waits behind it.
    fn follow(&self, change: Change, changes: &mut Changes, publisher: &mut Publisher) {
        let mut next = Some(change);
        while let Some(change) = next {
            self.see(change, publisher);
            next = StreamExt::next(changes).now_or_never().flatten();
        }
    }

    fn see(&self, change: Change, publisher: &mut Publisher) {
        match change {
            Change::Snapshot { entries, .. } => {
                let standing = entries.iter().filter_map(|entry| self.decode(entry)).filter_map(standing).collect();
                publisher.step(Event::Stands(standing));
            }
            Change::Put(entry) => {
                if let Some(at) = self.place(&entry.key) {
                    publisher.step(Event::Seen(at, self.decode(&entry).and_then(standing)));
                }
            }
            Change::Delete { key, .. } => {
                if let Some(at) = self.place(&key) {
                    publisher.step(Event::Seen(at, None));
                }
            }
            Change::Lost(reason) => tracing::debug!(%reason, "our own records are not followed"),
        }
    }

    fn decode(&self, entry: &Entry) -> Option<Record> {
        Record::decode(&entry.key, &entry.value, &self.cluster.uid, &self.key.public()).ok()
    }

    fn place(&self, key: &str) -> Option<At> {
        at(&key.parse::<Key>().ok().filter(|key| key.cluster == self.cluster.id)?)
    }

    async fn publish(&self, leadership: &Leadership, publisher: &mut Publisher) -> Result<(), WriteError> {
        while let Some(write) = publisher.next_write() {
            match self.write(leadership, &write).await {
                Ok(()) => publisher.step(Event::Written(write)),
                Err(error @ WriteError::Record(_)) => {
                    // Too large to be a record: the others are not kept waiting for it.
                    tracing::error!(service = %write.at.1, %error, "this service cannot be exported");
                    publisher.step(Event::Unwritable(write));
                }
                Err(error) => {
                    publisher.step(Event::Failed(write));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn write(&self, leadership: &Leadership, write: &Write) -> Result<(), WriteError> {
        let (target, service) = &write.at;
        let audience = match target {
            Target::All => None,
            Target::Cluster(cluster) => Some(cluster.clone()),
        };
        let own = self.cluster.id.clone();
        let key = Key::service(own, audience, service.namespace.clone(), service.host.clone());
        let path = key.to_string();
        tracing::info!(key = path, position = %write.position, "record written");
        let payload = write.export.clone().map_or(Payload::Tombstone, Payload::Service);
        let value = self.encode(key, write.position, payload)?;
        self.store.put_as_leader(leadership, &path, value).await?;
        Ok(())
    }

    /// Shows that this gateway lives and where its peers reach it, for as long as the future is polled.
    pub(crate) async fn stay_alive(&self, addresses: Vec<String>) {
        let mut backoff = FIRST_BACKOFF;
        let mut liveness = Liveness::default();
        loop {
            match self.live(&addresses, &mut liveness).await {
                Ok(()) => backoff = FIRST_BACKOFF,
                Err(error) => {
                    tracing::warn!(%error, "liveness not shown");
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(LAST_BACKOFF);
                }
            }
        }
    }

    /// One life: until the lease is lost.
    async fn live(&self, addresses: &[String], liveness: &mut Liveness) -> Result<(), WriteError> {
        let Ok(key) = Key::alive(self.cluster.id.clone(), &self.gateway) else {
            tracing::error!(gateway = %self.gateway, "the gateway's name cannot stand in a key");
            return std::future::pending().await;
        };
        let path = key.to_string();
        let before = self.store.get(&path).await?.and_then(|entry| self.decode(&entry));
        let mut standing = before.map_or(0, |record| record.position.epoch);
        let lease = self.store.lease(self.alive_life).await?;
        loop {
            let epoch = liveness.begin(standing, unix_seconds(), Instant::now());
            let payload = Payload::Alive { gateway: self.gateway.to_string(), addresses: addresses.to_vec() };
            let value = self.encode(key.clone(), Position { epoch, sequence: 0 }, payload)?;
            self.store.put_leased(&path, value, lease.id()).await?;
            standing = epoch;
            // Nobody tells of a clock that was set, so it is looked at, once in each life of the lease.
            let outpaced = async {
                while !liveness.is_outpaced(unix_seconds(), Instant::now()) {
                    tokio::time::sleep(self.alive_life).await;
                }
            };
            tokio::select! {
                () = lease.lost() => return Ok(()),
                () = outpaced => tracing::info!(gateway = %self.gateway, "the clock was set: liveness is shown anew"),
            }
        }
    }

    /// Takes the liveness key away, as a gateway that leaves does.
    pub(crate) async fn leave(&self) {
        if let Ok(key) = Key::alive(self.cluster.id.clone(), &self.gateway)
            && let Err(error) = self.store.delete(&key.to_string()).await
        {
            tracing::debug!(%error, "the liveness key will end with its lease");
        }
    }

    fn encode(&self, key: Key, position: Position, payload: Payload) -> Result<Vec<u8>, RecordError> {
        let record = Record { key, uid: self.cluster.uid.clone(), position, payload };
        record.encode(&self.key)
    }
}

/// Where a record of a service lies.
fn at(key: &Key) -> Option<At> {
    let KeyKind::Service { audience, namespace, host } = &key.kind else { return None };
    let target = audience.clone().map_or(Target::All, Target::Cluster);
    Some((target, ServiceKey { host: host.clone(), namespace: namespace.clone() }))
}

fn standing(record: Record) -> Option<Standing> {
    let (at, position) = (at(&record.key)?, record.position);
    let export = match record.payload {
        Payload::Service(export) => Some(export),
        _ => None,
    };
    Some(Standing { at, position, export })
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
