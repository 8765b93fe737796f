//! What is under way to an upstream, against its limits.

use crate::Limits;
use crate::recent::Recent;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Counts of what is under way; shared by all versions of the table that have the upstream.
#[derive(Debug, Default)]
pub struct Usage {
    connections: AtomicU32,
    pending: AtomicU32,
    requests: AtomicU32,
    retries: AtomicU32,
    recent: Recent,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A connection.
    Connection,
    /// A request that waits for a connection.
    Pending,
    /// A request.
    Request,
    /// A retry.
    Retry,
}

/// One that is counted for as long as it lives.
#[derive(Debug)]
pub struct Use {
    usage: Arc<Usage>,
    kind: Kind,
}

// === impl Usage ===

impl Usage {
    /// One more of `kind`, if `limits` let it.
    pub fn begin(self: &Arc<Self>, kind: Kind, limits: &Limits) -> Option<Use> {
        let limit = match kind {
            Kind::Connection => limits.connections,
            Kind::Pending => limits.pending,
            Kind::Request => limits.requests,
            Kind::Retry => self.retries_within(limits, 0),
        };
        self.below(limit, kind)
    }

    /// One more retry at `now` (since any fixed moment), if `limits` let it.
    pub fn begin_retry(self: &Arc<Self>, limits: &Limits, now: Duration) -> Option<Use> {
        let recent = limits.retry_interval.map_or(0, |interval| self.recent.count(now, interval));
        self.below(self.retries_within(limits, recent), Kind::Retry)
    }

    /// Counts a request that began at `now` for the retries of a while, if `limits` have it so.
    pub fn note(&self, limits: &Limits, now: Duration) {
        if let Some(interval) = limits.retry_interval {
            self.recent.add(now, interval);
        }
    }

    fn below(self: &Arc<Self>, limit: u32, kind: Kind) -> Option<Use> {
        let counter = self.counter(kind);
        // Counted first and taken back if it was too much, so that two cannot both be the last one.
        if counter.fetch_add(1, Ordering::Relaxed) < limit {
            return Some(Use { usage: self.clone(), kind });
        }
        counter.fetch_sub(1, Ordering::Relaxed);
        None
    }

    /// One more of `kind`, whatever the limits.
    pub fn force(self: &Arc<Self>, kind: Kind) -> Use {
        self.counter(kind).fetch_add(1, Ordering::Relaxed);
        Use { usage: self.clone(), kind }
    }

    /// How many of `kind` are under way.
    pub fn count(&self, kind: Kind) -> u32 {
        self.counter(kind).load(Ordering::Relaxed)
    }

    fn retries_within(&self, limits: &Limits, recent: u32) -> u32 {
        let Some((percent, least)) = limits.retry_budget else { return limits.retries };
        let active = f64::from(recent.max(self.count(Kind::Request) + self.count(Kind::Pending)));
        #[expect(clippy::cast_sign_loss, reason = "a share of a count")]
        let share = (active * percent / 100.0) as u32;
        share.max(least)
    }

    fn counter(&self, kind: Kind) -> &AtomicU32 {
        match kind {
            Kind::Connection => &self.connections,
            Kind::Pending => &self.pending,
            Kind::Request => &self.requests,
            Kind::Retry => &self.retries,
        }
    }
}

// === impl Use ===

impl Drop for Use {
    fn drop(&mut self) {
        self.usage.counter(self.kind).fetch_sub(1, Ordering::Relaxed);
    }
}
