//! What an endpoint carries and how it fares: the only thing here that changes while requests flow.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The load of one endpoint; shared by all versions of the table that have the endpoint.
#[derive(Debug, Default)]
pub struct Load {
    active: AtomicU32,
    failures: AtomicU32,
    /// When it may be tried again, in milliseconds on the caller's clock.
    avoided_until: AtomicU64,
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
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
