//! The one writer: takes what waits, does it in one redb transaction, and answers after its fsync.
//!
//! ```text
//! services ──Request──▶ queue ──▶ writer thread ── commit ──▶ watches are told, then the callers are answered
//! ```
//! An answer is given only when what it speaks of is on disk; a batch shares the fsync, each request has its revision.

use super::apply::{Apply, Command, LeaseChange, Limits, Reply};
use super::caller::Caller;
use super::disk::{Disk, Meta};
use super::fault::Fault;
use super::leases::Leases;
use redb::Durability;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};

/// A request on its way to the writer.
pub(super) struct Request {
    pub(super) command: Command,
    pub(super) caller: Caller,
    pub(super) answer: oneshot::Sender<Result<Answer, Fault>>,
}

/// What a request is told: the outcome, and the store's revision then.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reply: Reply,
    pub(super) revision: i64,
}

/// The writer's state; runs on a thread of its own because redb blocks.
pub(super) struct Writer {
    pub(super) disk: Arc<Disk>,
    pub(super) queue: mpsc::Receiver<Request>,
    pub(super) committed: watch::Sender<Meta>,
    pub(super) leases: Arc<Leases>,
    pub(super) limits: Limits,
    pub(super) batch: usize,
}

type Outcome = (oneshot::Sender<Result<Answer, Fault>>, Result<Answer, Fault>);

// === impl Writer ===

impl Writer {
    /// Serves the queue until nobody can send any more.
    pub(super) fn run(mut self) {
        let mut scrubbing = self.committed.borrow().scrubbed < self.committed.borrow().compacted;
        let mut batch = Vec::with_capacity(self.batch);
        loop {
            if !self.fill(&mut batch, scrubbing) {
                return;
            }
            scrubbing = self.serve(&mut batch);
        }
    }

    /// Waits for work, unless there is scrubbing to go on with. False at the end.
    fn fill(&mut self, batch: &mut Vec<Request>, scrubbing: bool) -> bool {
        if !scrubbing {
            return self.queue.blocking_recv_many(batch, self.batch) > 0;
        }
        while batch.len() < self.batch {
            match self.queue.try_recv() {
                Ok(request) => batch.push(request),
                Err(mpsc::error::TryRecvError::Empty) => return true,
                Err(mpsc::error::TryRecvError::Disconnected) => return !batch.is_empty(),
            }
        }
        true
    }

    /// Does one batch. Whether scrubbing must go on.
    fn serve(&mut self, batch: &mut Vec<Request>) -> bool {
        let mut outcomes = Vec::with_capacity(batch.len());
        match self.commit(batch, &mut outcomes) {
            Ok((meta, changes, scrubbing)) => {
                self.leases.record(changes, Instant::now());
                self.committed.send_if_modified(|seen| std::mem::replace(seen, meta) != meta);
                for (answer, outcome) in outcomes {
                    // Who asked may have gone.
                    let _ = answer.send(outcome);
                }
                scrubbing
            }
            Err(fault) => {
                tracing::error!(%fault, "the store's disk refused a write");
                let waiting = outcomes.into_iter().map(|(answer, _)| answer);
                for answer in waiting.chain(batch.drain(..).map(|request| request.answer)) {
                    let _ = answer.send(Err(fault.clone()));
                }
                self.recover();
                false
            }
        }
    }

    fn commit(
        &self,
        batch: &mut Vec<Request>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(Meta, Vec<LeaseChange>, bool), Fault> {
        let mut transaction = self.disk.database()?.begin_write()?;
        transaction.set_durability(Durability::Immediate).map_err(|error| Fault::Disk(error.to_string()))?;
        let mut tables = Apply::open(&transaction, self.limits)?;
        let before = tables.meta;
        for Request { command, caller, answer } in batch.drain(..) {
            let outcome = tables.apply(command, &caller);
            if let Err(fault) = &outcome
                && fault.is_disk()
            {
                let fault = fault.clone();
                outcomes.push((answer, Err(fault.clone())));
                return Err(fault);
            }
            let revision = tables.meta.revision;
            outcomes.push((answer, outcome.map(|reply| Answer { reply, revision })));
        }
        let scrubbing = tables.scrub()?;
        let is_unchanged = tables.meta == before && tables.lease_changes.is_empty();
        let (meta, changes) = tables.finish()?;
        if is_unchanged {
            transaction.abort()?;
        } else {
            transaction.commit()?;
        }
        Ok((meta, changes, scrubbing))
    }

    /// After the disk failed: opens the database again and believes only what is in it.
    fn recover(&self) {
        let deadline = Instant::now() + Duration::from_secs(1);
        loop {
            let outcome = self.disk.reopen().and_then(|()| self.disk.read());
            match outcome.and_then(|tables| Ok((tables.leases()?, tables.meta))) {
                Ok((leases, meta)) => {
                    self.leases.replace(leases, Instant::now());
                    self.committed.send_replace(meta);
                    return;
                }
                // Readers may hold the old database for a moment. The next write tries again.
                Err(fault) if Instant::now() >= deadline => {
                    tracing::error!(%fault, "the store's database cannot be opened");
                    return;
                }
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}
