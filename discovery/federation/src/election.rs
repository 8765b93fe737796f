//! The epoch under which a newly elected writer signs its records.

use crate::high_water::JUMP;

/// The epoch of a writer that has just won: greater than every epoch ever seen for this cluster, and no less than the
/// time in Unix seconds, so that a store restored from an old backup cannot lock its owner out.
///
/// It never jumps further than readers believe: a clock that says the year 2500 would lock its owner out for good. At
/// the end of the range the epoch stays there, rather than wrap to one that every reader refuses.
pub fn next_epoch(highest_seen: u64, unix_seconds: u64) -> u64 {
    highest_seen.saturating_add(1).max(unix_seconds.min(highest_seen.saturating_add(JUMP)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_restored_store_and_a_clock_set_back_both_move_on() {
        assert_eq!(next_epoch(0, 1_700_000_000), 1_700_000_000);
        assert_eq!(next_epoch(1_700_000_500, 1_700_000_000), 1_700_000_501);
        assert_eq!(next_epoch(u64::MAX, 1), u64::MAX);
        assert_eq!(next_epoch(1_700_000_000, u64::MAX), 1_700_000_000 + JUMP);
    }

    proptest! {
        #[test]
        fn an_epoch_is_greater_than_all_before(highest in 0..u64::MAX, seconds: u64) {
            prop_assert!(next_epoch(highest, seconds) > highest);
            prop_assert!(next_epoch(highest, seconds) >= seconds.min(JUMP));
        }
    }
}
