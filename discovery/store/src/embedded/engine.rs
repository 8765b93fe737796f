//! What the services share: the queue to the writer, reads, and the tasks that run with the clock.

use super::apply::{Command, Limits, Reply};
use super::caller::{Access, Caller};
use super::disk::{Disk, Meta, Tables};
use super::fault::Fault;
use super::leases::Leases;
use super::settings::Settings;
use super::writer::{Answer, Request, Writer};
use etcd_client::proto::PbResponseHeader;
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How often ended leases are looked for.
const LEASE_TICK: Duration = Duration::from_millis(200);
/// Compaction keeps between one period of history and a tenth more.
const COMPACTION_STEPS: u32 = 10;

/// A running store, cheap to clone.
#[derive(Clone)]
pub(super) struct Engine {
    queue: mpsc::Sender<Request>,
    pub(super) disk: Arc<Disk>,
    pub(super) leases: Arc<Leases>,
    pub(super) committed: watch::Receiver<Meta>,
    pub(super) access: Access,
    pub(super) settings: Arc<Settings>,
    pub(super) shutdown: CancellationToken,
    store: u64,
}

// === impl Engine ===

impl Engine {
    /// Opens the database and starts the writer, which ends when the last engine is dropped.
    pub(super) fn start(
        settings: Settings,
        access: Access,
        shutdown: CancellationToken,
    ) -> Result<(Self, JoinHandle<()>), Fault> {
        let disk = Arc::new(Disk::open(&settings.data)?);
        let tables = disk.read()?;
        let leases = Arc::new(Leases::default());
        leases.replace(tables.leases()?, Instant::now());
        let (committed, seen) = watch::channel(tables.meta);
        let (queue, requests) = mpsc::channel(settings.queue.max(1));
        let writer = Writer {
            disk: disk.clone(),
            queue: requests,
            committed,
            leases: leases.clone(),
            limits: Limits {
                quota_bytes: i64::try_from(settings.quota_bytes).unwrap_or(i64::MAX),
                operations: settings.transaction_operations,
            },
            batch: settings.batch.max(1),
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run())
            .map_err(|error| Fault::Disk(format!("the writer's thread cannot start: {error}")))?;
        let store = tables.meta.store.unsigned_abs();
        let settings = Arc::new(settings);
        Ok((Self { queue, disk, leases, committed: seen, access, settings, shutdown, store }, thread))
    }

    /// Has the writer do `command`; returns once it is on disk.
    pub(super) async fn write(&self, command: Command, caller: Caller) -> Result<Answer, Fault> {
        let (answer, outcome) = oneshot::channel();
        let limit = self.settings.write_timeout;
        self.queue.send_timeout(Request { command, caller, answer }, limit).await.map_err(|error| match error {
            mpsc::error::SendTimeoutError::Timeout(_) => Fault::TooManyRequests,
            mpsc::error::SendTimeoutError::Closed(_) => Fault::Stopped,
        })?;
        match timeout(limit, outcome).await {
            Err(_) => Err(Fault::TimedOut),
            Ok(Err(_)) => Err(Fault::Stopped),
            Ok(Ok(outcome)) => outcome,
        }
    }

    /// Reads committed tables on a thread that may block.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, Fault>
    where
        T: Send + 'static,
        F: FnOnce(&Tables) -> Result<T, Fault> + Send + 'static,
    {
        let disk = self.disk.clone();
        tokio::task::spawn_blocking(move || work(&disk.read()?))
            .await
            .unwrap_or_else(|error| Err(Fault::Disk(format!("a read broke off: {error}"))))
    }

    /// The header of an answer given at `revision`.
    pub(super) fn header(&self, revision: i64) -> PbResponseHeader {
        PbResponseHeader { cluster_id: self.store, member_id: self.store, revision, raft_term: 1 }
    }

    /// The last committed revision.
    pub(super) fn revision(&self) -> i64 {
        self.committed.borrow().revision
    }

    /// Whether the quota is used up.
    pub(super) fn is_full(&self) -> bool {
        u64::try_from(self.committed.borrow().bytes).is_ok_and(|bytes| bytes >= self.settings.quota_bytes)
    }

    /// Revokes leases that have ended, until shutdown.
    pub(super) async fn expire_leases(self) {
        let mut ticks = tokio::time::interval(LEASE_TICK);
        while self.shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            for id in self.leases.ended(Instant::now()) {
                if let Err(fault) = self.write(Command::Revoke(id), Caller::Server).await
                    && fault != Fault::LeaseNotFound
                {
                    tracing::warn!(%fault, lease = id, "an ended lease is not revoked yet");
                }
            }
        }
    }

    /// Compacts to where the store stood one period ago, until shutdown.
    pub(super) async fn compact(self) {
        let mut ticks =
            tokio::time::interval((self.settings.compaction / COMPACTION_STEPS).max(Duration::from_millis(1)));
        let mut past = VecDeque::with_capacity(COMPACTION_STEPS as usize + 1);
        while self.shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            past.push_back(self.revision());
            if past.len() <= COMPACTION_STEPS as usize {
                continue;
            }
            let Some(revision) = past.pop_front() else { continue };
            if revision <= self.committed.borrow().compacted {
                continue;
            }
            match self.write(Command::Compact(revision), Caller::Server).await {
                Ok(Answer { reply: Reply::Compacted, .. }) => tracing::debug!(revision, "history compacted"),
                Ok(_) | Err(Fault::Compacted) => {}
                Err(fault) => tracing::warn!(%fault, revision, "history is not compacted"),
            }
        }
    }
}
