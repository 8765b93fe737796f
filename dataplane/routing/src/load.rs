//! What an endpoint carries and how it fares: the only thing here that changes while requests flow.

use crate::policy::Outliers;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The load of one endpoint; shared by all versions of the table that have the endpoint.
#[derive(Debug, Default)]
pub struct Load {
    active: AtomicU32,
    failures: AtomicU32,
    /// When it may be tried again, in milliseconds on the caller's clock.
    avoided_until: AtomicU64,
    /// When it was first seen, in milliseconds and one more; 0 if never.
    seen: AtomicU64,
    rows: Rows,
    ejections: AtomicU32,
    ejected_until: AtomicU64,
}

/// Failures in a row.
#[derive(Debug, Default)]
struct Rows {
    any: AtomicU32,
    gateway: AtomicU32,
    local: AtomicU32,
}

/// How a request or connection to an endpoint ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// With an answer of this status.
    Status(u16),
    /// With a connection that carries bytes.
    Connected,
    /// Without an answer: no connection, a broken one, or none in time.
    Nothing,
}

/// How long an endpoint is avoided after its first failure; doubled with each that follows.
const FIRST_AVOIDANCE: Duration = Duration::from_secs(1);
const LONGEST_AVOIDANCE: Duration = Duration::from_secs(10);

// === impl Load ===

impl Load {
    /// A request or connection began.
    pub fn begin(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    /// It ended.
    pub fn end(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many are on their way.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// It could not be reached at `now` (since any fixed moment): it is avoided for 1 s, then 2 s, up to 10 s.
    pub fn failed(&self, now: Duration) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed);
        let avoidance = FIRST_AVOIDANCE.saturating_mul(1 << failures.min(4)).min(LONGEST_AVOIDANCE);
        self.avoided_until.store(milliseconds(now + avoidance), Ordering::Relaxed);
    }

    /// It was reached: all is forgiven.
    pub fn reached(&self) {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.avoided_until.store(0, Ordering::Relaxed);
        }
    }

    /// Whether it is avoided at `now`.
    pub fn is_avoided(&self, now: Duration) -> bool {
        self.avoided_until.load(Ordering::Relaxed) > milliseconds(now)
    }

    /// Whether it is left out at `now`, because it failed too often.
    pub fn is_ejected(&self, now: Duration) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > milliseconds(now)
    }

    /// How long it has been known at `now`; the first who asks begins to count.
    pub(crate) fn age(&self, now: Duration) -> Duration {
        let now = milliseconds(now) + 1;
        let seen = self.seen.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        Duration::from_millis(now.saturating_sub(seen.err().unwrap_or(now)))
    }

    /// Counts how something ended; whether it failed so often in a row that it should be left out.
    pub(crate) fn report(&self, report: Report, outliers: &Outliers) -> bool {
        let (is_failure, is_gateway) = match report {
            Report::Status(status) if !outliers.statuses.is_empty() => (outliers.statuses.contains(&status), false),
            Report::Status(status) => (status >= 500, (502..=504).contains(&status)),
            Report::Connected => (false, false),
            Report::Nothing if outliers.local.is_some() => return exceeds(&self.rows.local, true, outliers.local),
            Report::Nothing => (true, true),
        };
        exceeds(&self.rows.local, false, None);
        let any = exceeds(&self.rows.any, is_failure, outliers.any);
        exceeds(&self.rows.gateway, is_gateway, outliers.gateway) || any
    }

    /// Leaves it out from `now` on: the nth time in a row of ejections n times as long.
    pub(crate) fn eject(&self, now: Duration, outliers: &Outliers) {
        let since = Duration::from_millis(milliseconds(now).saturating_sub(self.ejected_until.load(Ordering::Relaxed)));
        // Each interval without one is as if there had been one fewer.
        let forgiven = u32::try_from(since.as_millis() / outliers.interval.as_millis().max(1)).unwrap_or(u32::MAX);
        let before = self.ejections.load(Ordering::Relaxed).saturating_sub(forgiven);
        let time = outliers.base.saturating_mul(before + 1).min(outliers.longest);
        self.ejections.store(before + 1, Ordering::Relaxed);
        self.ejected_until.store(milliseconds(now + time), Ordering::Relaxed);
        for row in [&self.rows.any, &self.rows.gateway, &self.rows.local] {
            row.store(0, Ordering::Relaxed);
        }
    }
}

/// Counts one more failure in a row, or that the row has ended; whether it is now as long as `limit`.
fn exceeds(row: &AtomicU32, is_failure: bool, limit: Option<u32>) -> bool {
    if is_failure {
        let length = row.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        return limit.is_some_and(|limit| length >= limit);
    }
    // A store for each request would be shared by all of them for nothing.
    if row.load(Ordering::Relaxed) > 0 {
        row.store(0, Ordering::Relaxed);
    }
    false
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
