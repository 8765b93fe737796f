//! A token bucket that is one number: lock-free, and filled by the passing of time alone.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A bucket. It is full when it is made; each request takes a token, and time brings tokens back evenly (as Envoy's does:
/// `tokensPerFill` over `fillInterval`, not all at once).
#[derive(Debug)]
pub(crate) struct Bucket {
    /// The most tokens in it.
    most: u32,
    /// How long one token takes to come, in nanoseconds.
    cost: i64,
    /// When it would have been empty, in nanoseconds on the caller's clock: what has come since is what is in it.
    empty: AtomicI64,
}

/// What a bucket holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// The most tokens in it.
    pub limit: u32,
    /// Those that are left.
    pub remaining: u32,
    /// When there will be one again; zero if there is one.
    pub reset: Duration,
}

// === impl Bucket ===

impl Bucket {
    /// A full bucket of `most` tokens, of which `per_fill` (not 0) come in each `interval`.
    pub(crate) fn new(most: u32, per_fill: u32, interval: Duration) -> Self {
        let cost = interval.as_nanos().div_ceil(u128::from(per_fill.max(1))).max(1);
        // No bucket is fuller than a century of time.
        let longest = i64::MAX / 4 / i64::from(most.max(1));
        Self { most, cost: i64::try_from(cost).unwrap_or(i64::MAX).min(longest), empty: AtomicI64::new(i64::MIN) }
    }

    /// Takes a token at `now` (since any fixed moment); whether there was one.
    pub(crate) fn take(&self, now: Duration) -> bool {
        let now = nanoseconds(now);
        let take = |empty: i64| {
            let held = self.held(empty, now);
            (held >= self.cost).then(|| now - (held - self.cost))
        };
        self.empty.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// What it holds at `now`.
    pub(crate) fn level(&self, now: Duration) -> Level {
        let held = self.held(self.empty.load(Ordering::Relaxed), nanoseconds(now));
        let remaining = u32::try_from(held / self.cost).unwrap_or(u32::MAX);
        let wait = if remaining == 0 { self.cost - held } else { 0 };
        Level { limit: self.most, remaining, reset: Duration::from_nanos(wait.unsigned_abs()) }
    }

    /// The time that is in it.
    fn held(&self, empty: i64, now: i64) -> i64 {
        now.saturating_sub(empty).clamp(0, i64::from(self.most) * self.cost)
    }
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_bucket_is_full_at_first_and_fills_evenly() {
        let bucket = Bucket::new(3, 3, 60 * SECOND);
        for now in [SECOND; 3] {
            assert!(bucket.take(now));
        }
        assert!(!bucket.take(SECOND));
        assert_eq!(bucket.level(SECOND), Level { limit: 3, remaining: 0, reset: 20 * SECOND });
        assert!(!bucket.take(20 * SECOND), "19 s later");
        assert!(bucket.take(21 * SECOND), "20 s later");
        assert!(!bucket.take(21 * SECOND));
        assert_eq!(bucket.level(500 * SECOND), Level { limit: 3, remaining: 3, reset: Duration::ZERO });
    }

    #[test]
    fn no_token_is_taken_twice() {
        let bucket = Bucket::new(1000, 1, 3600 * SECOND);
        let took = || (0..1000).filter(|_| bucket.take(SECOND)).count();
        let total: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(took)).collect();
            threads.into_iter().map(|thread| thread.join().expect("it does not panic")).sum()
        });
        assert_eq!(total, 1000);
    }

    #[test]
    fn extremes_neither_panic_nor_run_over() {
        for (most, per_fill, interval) in [
            (u32::MAX, 1, Duration::from_hours(87_660_000)),
            (1, u32::MAX, Duration::from_nanos(1)),
            (0, 0, Duration::ZERO),
            (u32::MAX, u32::MAX, Duration::MAX),
        ] {
            let bucket = Bucket::new(most, per_fill, interval);
            for now in [Duration::ZERO, SECOND, Duration::MAX, SECOND] {
                bucket.take(now);
                assert!(bucket.level(now).remaining <= most);
            }
        }
        assert!(!Bucket::new(0, 1, SECOND).take(SECOND), "a bucket without room");
    }
}
