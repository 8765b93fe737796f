//! When leases end. Their existence is in the database; only the clock is here, and starts anew with the process, so
//! that nobody loses a lease to a restart of the store.

use super::apply::LeaseChange;
use super::caller::Caller;
use super::fault::Fault;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The clocks of all leases.
#[derive(Default)]
pub(super) struct Leases(Mutex<HashMap<i64, Clock>>);

struct Clock {
    /// Seconds.
    ttl: i64,
    ends: Instant,
    owner: String,
}

// === impl Leases ===

impl Leases {
    /// Begins every lease anew.
    pub(super) fn replace(&self, leases: Vec<(i64, i64, String)>, now: Instant) {
        let clocks = leases.into_iter().map(|(id, ttl, owner)| (id, Clock { ttl, ends: end(now, ttl), owner }));
        *self.0.lock() = clocks.collect();
    }

    /// Takes in what a commit did.
    pub(super) fn record(&self, changes: Vec<LeaseChange>, now: Instant) {
        if changes.is_empty() {
            return;
        }
        let mut clocks = self.0.lock();
        for change in changes {
            match change {
                LeaseChange::Granted { id, ttl, owner } => {
                    clocks.insert(id, Clock { ttl, ends: end(now, ttl), owner });
                }
                LeaseChange::Revoked(id) => {
                    clocks.remove(&id);
                }
            }
        }
    }

    /// Renews a lease. Its time to live in seconds; none when there is no such lease, or it has ended.
    pub(super) fn keep_alive(&self, id: i64, caller: &Caller, now: Instant) -> Result<Option<i64>, Fault> {
        let mut clocks = self.0.lock();
        let Some(clock) = clocks.get_mut(&id).filter(|clock| clock.ends > now) else {
            return Ok(None);
        };
        caller.may_use_lease(&clock.owner)?;
        clock.ends = end(now, clock.ttl);
        Ok(Some(clock.ttl))
    }

    /// Remaining and granted time to live in seconds.
    pub(super) fn time_to_live(&self, id: i64, now: Instant) -> Option<(i64, i64)> {
        let clocks = self.0.lock();
        let clock = clocks.get(&id).filter(|clock| clock.ends > now)?;
        Some((clock.ends.duration_since(now).as_secs().cast_signed(), clock.ttl))
    }

    /// All that have not ended.
    pub(super) fn all(&self, now: Instant) -> Vec<i64> {
        let mut ids: Vec<i64> = self.0.lock().iter().filter(|(_, clock)| clock.ends > now).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// Those that have ended and wait to be revoked.
    pub(super) fn ended(&self, now: Instant) -> Vec<i64> {
        self.0.lock().iter().filter(|(_, clock)| clock.ends <= now).map(|(id, _)| *id).collect()
    }
}

fn end(now: Instant, ttl: i64) -> Instant {
    now + Duration::from_secs(ttl.unsigned_abs())
}
