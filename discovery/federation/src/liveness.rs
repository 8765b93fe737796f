//! Under which epoch a gateway says that it lives.

use crate::election::next_epoch;
use std::time::{Duration, Instant};

/// The epochs of one gateway's signs of life.
#[derive(Debug, Clone, Copy, Default)]
pub struct Liveness {
    highest_epoch: u64,
    written: Option<(u64, Instant)>,
}

/// How far the clock may run ahead of the time that has passed before it was set, and did not drift.
const SET: Duration = Duration::from_secs(30);

// === impl Liveness ===

impl Liveness {
    /// The epoch of the next sign of life: greater than the one that stands in the store, and than all that this process
    /// has used, whatever the clock says.
    pub fn begin(&mut self, standing_epoch: u64, unix_seconds: u64, now: Instant) -> u64 {
        self.highest_epoch = next_epoch(self.highest_epoch.max(standing_epoch), unix_seconds);
        self.written = Some((self.highest_epoch, now));
        self.highest_epoch
    }

    /// Whether the sign of life is to be written anew: the clock was behind when it was written, and has been set right
    /// since. Readers may remember a later one, of before this process, and not believe it.
    pub fn is_outpaced(&self, unix_seconds: u64, now: Instant) -> bool {
        self.written.is_some_and(|(epoch, at)| {
            let passed = now.saturating_duration_since(at) + SET;
            unix_seconds > epoch.saturating_add(passed.as_secs())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_set_back_does_not_lower_the_epoch_and_one_set_right_raises_it() {
        let start = Instant::now();
        let mut liveness = Liveness::default();
        assert_eq!(liveness.begin(0, 5_000, start), 5_000);
        assert_eq!(liveness.begin(0, 1_000, start), 5_001);
        let mut restarted = Liveness::default();
        assert_eq!(restarted.begin(0, 1_000, start), 1_000);
        let later = start + Duration::from_mins(1);
        assert!(!restarted.is_outpaced(1_060, later));
        assert!(restarted.is_outpaced(5_060, later));
        assert_eq!(restarted.begin(1_000, 5_060, later), 5_060);
        assert!(!restarted.is_outpaced(5_060, later));
    }
}
