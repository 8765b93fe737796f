//! Which of a cluster's gateways writes: the one that created the leader key, for as long as its lease lives.
//!
//! That others believe themselves leaders for a moment does no harm: every write compares the leader key's
//! create_revision in the store.

use crate::backoff::Backoff;
use crate::{Creation, Entry, Key, Lease, Store, StoreError};
use etcd_client::{EventType, WatchOptions};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The right to write a cluster's records.
#[derive(Debug)]
pub struct Leadership {
    key: String,
    create_revision: i64,
    lease: Lease,
}

// === impl Store ===

impl Store {
    /// Waits until `candidate` leads under `key`, with a lease of `ttl`. Goes on through every failure of the store;
    /// drop the future to give up.
    pub async fn campaign(&self, key: &Key, candidate: &str, ttl: Duration) -> Leadership {
        let key = key.to_string();
        let mut pauses = Backoff::new(self.settings.shortest_pause, self.settings.longest_pause);
        let mut lease = None;
        loop {
            match self.stand(&key, candidate, ttl, &mut lease).await {
                Ok(Some(create_revision)) => {
                    if let Some(lease) = lease.take() {
                        return Leadership { key, create_revision, lease };
                    }
                }
                Ok(None) => pauses.reset(),
                Err(error) => {
                    tracing::debug!(%error, key, "the election is repeated");
                    sleep(pauses.next()).await;
                }
            }
        }
    }

    /// One try: creates the leader key, or waits for its end. The key's create_revision if we lead.
    async fn stand(
        &self,
        key: &str,
        candidate: &str,
        ttl: Duration,
        lease: &mut Option<Lease>,
    ) -> Result<Option<i64>, StoreError> {
        let id = match lease.take_if(|lease| !lease.is_lost()) {
            Some(kept) => lease.insert(kept).id(),
            None => lease.insert(self.lease(ttl).await?).id(),
        };
        match self.create(key, candidate.as_bytes().to_vec(), id).await {
            Ok(Creation::Created(revision)) => Ok(Some(revision)),
            Ok(Creation::Exists(leader)) => {
                self.vacancy(key, &leader, ttl).await?;
                Ok(None)
            }
            Err(error) => {
                // The lease may have ended in the store without our knowing.
                if matches!(&error, StoreError::Refused { message, .. } if message.contains("lease not found")) {
                    *lease = None;
                }
                Err(error)
            }
        }
    }

    /// Waits until the leader's key is deleted, at most for `ttl`, so that an event that never comes delays no more.
    async fn vacancy(&self, key: &str, leader: &Entry, ttl: Duration) -> Result<(), StoreError> {
        let options = WatchOptions::new().with_start_revision(leader.revision + 1);
        let options = &options;
        let watch =
            self.call("watch", |client| async move { client.watch_client().watch(key, Some(options.clone())).await });
        let mut stream = watch.await?;
        let deleted = async {
            while let Ok(Some(response)) = stream.message().await {
                let is_deleted = response.events().iter().any(|event| event.event_type() == EventType::Delete);
                if is_deleted || response.canceled() {
                    return;
                }
            }
        };
        // Whatever ended the wait, the next try tells who leads.
        if timeout(ttl, deleted).await.is_err() {
            tracing::trace!(key, "still led by another");
        }
        Ok(())
    }
}

// === impl Leadership ===

impl Leadership {
    /// The leader key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The revision that made us leader; no later leader has the same.
    pub fn create_revision(&self) -> i64 {
        self.create_revision
    }

    /// The lease under which we lead; its id is drawn at random.
    pub(crate) fn lease(&self) -> i64 {
        self.lease.id()
    }

    /// Whether it may be over. It surely is when a write was answered with [`StoreError::NotLeader`].
    pub fn is_lost(&self) -> bool {
        self.lease.is_lost()
    }

    /// Waits until [`Leadership::is_lost`].
    pub async fn lost(&self) {
        self.lease.lost().await;
    }

    /// Lets another lead, at once.
    pub async fn resign(self) -> Result<(), StoreError> {
        self.lease.revoke().await
    }

    pub(crate) fn give_up(&self) {
        self.lease.give_up();
    }
}
