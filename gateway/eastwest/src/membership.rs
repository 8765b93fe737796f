//! Our place in the federation: that this gateway lives, and, if it leads, what the cluster offers.
//!
//! ```text
//! alive:  lease ─▶ signed key under it ─▶ renewed until shutdown
//! leader: campaign ─▶ what is published? ─▶ desired − published ─▶ signed records, each compared with the leadership
//! ```

use federation::election::next_epoch;
use federation::export::{Exports, Target, Write, desired, plan};
use identity::RegistryKey;
use model::{Catalog, Cluster, ServiceKey};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use store::{Key, KeyKind, Leadership, Payload, Position, Record, RecordError, Store, StoreError, cluster_prefix};
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

/// One reign: what is published, and where in the sequence it stands.
struct Reign<'a> {
    member: &'a Member,
    leadership: &'a Leadership,
    position: Position,
    published: Exports,
}

// === impl Member ===

impl Member {
    /// Leads whenever it may, for ever.
    pub(crate) async fn lead(self) {
        let leader = Key::leader(self.cluster.id.clone());
        loop {
            let leadership = self.store.campaign(&leader, &self.gateway, self.leader_life).await;
            tracing::info!(gateway = %self.gateway, "leading: this gateway writes the cluster's records");
            let ended = tokio::select! {
                () = leadership.lost() => None,
                ended = self.reign(&leadership) => Some(ended),
            };
            tracing::info!(gateway = %self.gateway, ?ended, "leading no more");
        }
    }

    async fn reign(&self, leadership: &Leadership) -> WriteError {
        let mut backoff = FIRST_BACKOFF;
        let mut reign = loop {
            match self.begin(leadership).await {
                Ok(reign) => break reign,
                Err(error) => tracing::warn!(%error, "what is published cannot be read"),
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(LAST_BACKOFF);
        };
        let mut catalog = self.catalog.clone();
        backoff = FIRST_BACKOFF;
        loop {
            let now = catalog.borrow_and_update().clone();
            match reign.publish(&now).await {
                Ok(()) => {
                    backoff = FIRST_BACKOFF;
                    if catalog.changed().await.is_err() {
                        return std::future::pending().await;
                    }
                }
                Err(error @ WriteError::Store(StoreError::NotLeader(_))) => return error,
                Err(error) => {
                    tracing::warn!(%error, "exports not written yet");
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(LAST_BACKOFF);
                }
            }
        }
    }

    /// Reads what stands under our prefix: it is what a new reign continues from.
    async fn begin<'a>(&'a self, leadership: &'a Leadership) -> Result<Reign<'a>, StoreError> {
        let listing = self.store.get_prefix(&cluster_prefix(&self.cluster.id)).await?;
        let (mut highest, mut published) = (0, Exports::new());
        for entry in listing.entries {
            // What is not ours, or is damaged, will be written over.
            let Ok(record) = Record::decode(&entry.key, &entry.value, &self.cluster.uid, &self.key.public()) else {
                continue;
            };
            highest = highest.max(record.position.epoch);
            if let (KeyKind::Service { audience, .. }, Payload::Service(export)) = (record.key.kind, record.payload) {
                let target = audience.map_or(Target::All, Target::Cluster);
                published.insert((target, export.key.clone()), export);
            }
        }
        let position = Position { epoch: next_epoch(highest, unix_seconds()), sequence: 0 };
        Ok(Reign { member: self, leadership, position, published })
    }

    /// Shows that this gateway lives and where its peers reach it, for as long as the future is polled.
    pub(crate) async fn stay_alive(&self, addresses: Vec<String>) {
        let mut backoff = FIRST_BACKOFF;
        loop {
            match self.live(&addresses).await {
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
    async fn live(&self, addresses: &[String]) -> Result<(), WriteError> {
        let Ok(key) = Key::alive(self.cluster.id.clone(), &self.gateway) else {
            tracing::error!(gateway = %self.gateway, "the gateway's name cannot stand in a key");
            return std::future::pending().await;
        };
        let path = key.to_string();
        let before = self
            .store
            .get(&path)
            .await?
            .and_then(|entry| Record::decode(&path, &entry.value, &self.cluster.uid, &self.key.public()).ok());
        let epoch = next_epoch(before.map_or(0, |record| record.position.epoch), unix_seconds());
        let payload = Payload::Alive { gateway: self.gateway.to_string(), addresses: addresses.to_vec() };
        let value = self.encode(key, Position { epoch, sequence: 0 }, payload)?;
        let lease = self.store.lease(self.alive_life).await?;
        self.store.put_leased(&path, value, lease.id()).await?;
        lease.lost().await;
        Ok(())
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

// === impl Reign ===

impl Reign<'_> {
    async fn publish(&mut self, catalog: &Catalog) -> Result<(), WriteError> {
        let wanted = desired(catalog, &self.member.export_labels);
        for write in plan(&wanted, &self.published) {
            match write {
                Write::Put(target, export) => {
                    let at = (target, export.key.clone());
                    if let Err(error) = self.write(&at, Payload::Service(export.clone())).await {
                        let WriteError::Record(_) = error else { return Err(error) };
                        // Too large to be a record: the others are not kept waiting for it.
                        tracing::error!(service = %at.1, %error, "this service cannot be exported");
                    }
                    self.published.insert(at, export);
                }
                Write::Tombstone(target, key) => {
                    let at = (target, key);
                    self.write(&at, Payload::Tombstone).await?;
                    self.published.remove(&at);
                }
            }
        }
        Ok(())
    }

    async fn write(&mut self, (target, service): &(Target, ServiceKey), payload: Payload) -> Result<(), WriteError> {
        let audience = match target {
            Target::All => None,
            Target::Cluster(cluster) => Some(cluster.clone()),
        };
        let own = self.member.cluster.id.clone();
        let key = Key::service(own, audience, service.namespace.clone(), service.host.clone());
        let path = key.to_string();
        self.position.sequence += 1;
        tracing::info!(key = path, position = %self.position, "record written");
        let value = self.member.encode(key, self.position, payload)?;
        self.member.store.put_as_leader(self.leadership, &path, value).await?;
        Ok(())
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
