//! How often one identity may ask: a bucket that fills evenly, so that a burst is possible and a flood is not.

use model::WorkloadIdentity;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Above this many buckets, the full ones are forgotten: they say nothing.
const MANY: usize = 4096;

/// One bucket an identity.
#[derive(Debug)]
pub(crate) struct RateLimit {
    per_minute: u32,
    buckets: HashMap<WorkloadIdentity, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

// === impl RateLimit ===

impl RateLimit {
    /// Lets each identity ask `per_minute` times a minute, all at once or spread.
    pub(crate) fn new(per_minute: u32) -> Self {
        Self { per_minute: per_minute.max(1), buckets: HashMap::new() }
    }

    /// Takes one request of `identity`, or says how long it should wait.
    pub(crate) fn admit(&mut self, identity: &WorkloadIdentity, now: Instant) -> Result<(), Duration> {
        let most = f64::from(self.per_minute);
        let filled = |bucket: &Bucket| {
            let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
            (bucket.left + passed * most / 60.0).min(most)
        };
        if self.buckets.len() >= MANY {
            self.buckets.retain(|_, bucket| filled(bucket) < most);
        }
        let bucket = self.buckets.entry(identity.clone()).or_insert(Bucket { left: most, at: now });
        *bucket = Bucket { left: filled(bucket), at: now };
        if bucket.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.left) * 60.0 / most));
        }
        bucket.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(name: &str) -> WorkloadIdentity {
        format!("spiffe://east.example/ns/a/sa/{name}").parse().expect("an identity")
    }

    #[test]
    fn a_burst_empties_only_its_own_bucket_and_time_fills_it() {
        let (mut limit, start) = (RateLimit::new(10), Instant::now());
        for _ in 0..10 {
            limit.admit(&identity("loud"), start).expect("within the limit");
        }
        let wait = limit.admit(&identity("loud"), start).expect_err("one too many");
        assert!(wait > Duration::from_secs(5) && wait <= Duration::from_secs(6), "{wait:?}");
        limit.admit(&identity("quiet"), start).expect("somebody else");
        limit.admit(&identity("loud"), start + Duration::from_secs(7)).expect("a token has come back");
        limit.admit(&identity("loud"), start + Duration::from_secs(7)).expect_err("and only one");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut limit, start) = (RateLimit::new(60), Instant::now());
        for number in 0..MANY {
            limit.admit(&identity(&format!("w{number}")), start).expect("the first");
        }
        limit.admit(&identity("last"), start + Duration::from_mins(1)).expect("the first");
        assert_eq!(limit.buckets.len(), 1);
    }
}
