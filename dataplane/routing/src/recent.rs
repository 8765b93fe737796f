//! How many there were of late: counted in a few slots of time, so that counting costs two atomics.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Counts by slots of a window of time.
#[derive(Debug, Default)]
pub(crate) struct Recent([Slot; SLOTS]);

#[derive(Debug, Default)]
struct Slot {
    /// The number of the slot of time that is counted, and one more; 0 if none is.
    number: AtomicU64,
    count: AtomicU32,
}

/// The parts of a window: it is as exact as one of them.
const SLOTS: usize = 8;

// === impl Recent ===

impl Recent {
    /// One more at `now`, in windows as long as `window`.
    pub(crate) fn add(&self, now: Duration, window: Duration) {
        let number = number(now, window);
        let slot = &self.0[(number % SLOTS as u64) as usize];
        // Whoever comes first in a slot of time empties it; one that comes at the same moment may be lost.
        if slot.number.swap(number, Ordering::Relaxed) != number {
            slot.count.store(0, Ordering::Relaxed);
        }
        slot.count.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were in the window that ends at `now`.
    pub(crate) fn count(&self, now: Duration, window: Duration) -> u32 {
        let number = number(now, window);
        let is_recent = |slot: &&Slot| slot.number.load(Ordering::Relaxed) + SLOTS as u64 > number;
        let counts = self.0.iter().filter(is_recent).map(|slot| slot.count.load(Ordering::Relaxed));
        counts.fold(0, u32::saturating_add)
    }
}

/// Greater by [`SLOTS`] than it need be, so that slots that were never used are long past.
fn number(now: Duration, window: Duration) -> u64 {
    let slot = (window / SLOTS as u32).as_nanos().max(1);
    u64::try_from(now.as_nanos() / slot).unwrap_or(u64::MAX - SLOTS as u64 - 1) + SLOTS as u64 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_past_does_not_count() {
        let (recent, window) = (Recent::default(), Duration::from_millis(800));
        let at = Duration::from_millis;
        assert_eq!(recent.count(at(0), window), 0);
        for now in [0, 10, 150, 700] {
            recent.add(at(now), window);
        }
        assert_eq!(recent.count(at(750), window), 4);
        assert_eq!(recent.count(at(820), window), 2);
        assert_eq!(recent.count(at(950), window), 1);
        recent.add(at(10_000), window);
        assert_eq!(recent.count(at(10_000), window), 1);
    }
}
