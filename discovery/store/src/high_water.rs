//! What a reader has seen of every key, so that nothing older is believed again: a store that was restored, rolled
//! back or tampered with cannot bring back what was withdrawn.

use crate::{Key, Position, Record};
use std::collections::BTreeMap;

/// The largest jump of an epoch, or of a sequence within one. Epochs are about Unix seconds; a record at the end of the
/// range would lock its owner out for good.
const JUMP: u64 = 1 << 32;

/// The greatest position seen of every key.
#[derive(Debug, Clone, Default)]
pub struct HighWater {
    seen: BTreeMap<Key, Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    position: Position,
    /// Of the payload; not known after a restart.
    digest: Option<u64>,
}

/// Why a verified record is not to be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// Seen before: the same record again, after a new list for instance. Nothing is wrong.
    #[error("{key}: {position} is known")]
    Known {
        /// Its key.
        key: Key,
        /// Its position.
        position: Position,
    },
    /// Older than what was seen: a replay or a rollback.
    #[error("{key}: {position} is older than {seen}, which was seen")]
    Old {
        /// Its key.
        key: Key,
        /// Its position.
        position: Position,
        /// The greatest seen.
        seen: Position,
    },
    /// Two different records at one position: two writers use the owner's key.
    #[error("{key}: two different records at {position}")]
    Equivocation {
        /// Its key.
        key: Key,
        /// Its position.
        position: Position,
    },
    /// Too far ahead of what was seen to be a real position.
    #[error("{key}: {position} is too far ahead of {seen}")]
    Jump {
        /// Its key.
        key: Key,
        /// Its position.
        position: Position,
        /// The greatest seen.
        seen: Position,
    },
}

// === impl HighWater ===

impl HighWater {
    /// Takes `record` for the newest of its key, or says why it is not.
    pub fn admit(&mut self, record: &Record) -> Result<(), Stale> {
        let (key, position) = (&record.key, record.position);
        let digest = record.payload.digest();
        let last = self.seen.get(key).copied();
        let seen = last.map(|last| last.position).unwrap_or_default();
        if last.is_some() && position <= seen {
            let same = last.and_then(|last| last.digest).is_none_or(|known| known == digest);
            let key = key.clone();
            return Err(match position == seen {
                true if same => Stale::Known { key, position },
                true => Stale::Equivocation { key, position },
                false => Stale::Old { key, position, seen },
            });
        }
        let base = if position.epoch == seen.epoch { seen.sequence } else { 0 };
        if position.epoch - seen.epoch > JUMP || position.sequence.saturating_sub(base) > JUMP {
            return Err(Stale::Jump { key: key.clone(), position, seen });
        }
        self.seen.insert(key.clone(), Seen { position, digest: Some(digest) });
        Ok(())
    }

    /// The greatest position seen of `key`.
    pub fn position(&self, key: &Key) -> Option<Position> {
        self.seen.get(key).map(|seen| seen.position)
    }

    /// All of them, to be kept across a restart.
    pub fn positions(&self) -> impl Iterator<Item = (&Key, Position)> {
        self.seen.iter().map(|(key, seen)| (key, seen.position))
    }

    /// Takes in what was kept; never lowers a mark.
    pub fn restore(&mut self, positions: impl IntoIterator<Item = (Key, Position)>) {
        for (key, position) in positions {
            let seen = self.seen.entry(key).or_insert(Seen { position, digest: None });
            if seen.position < position {
                *seen = Seen { position, digest: None };
            }
        }
    }

    /// Forgets a key, once its owner has left for longer than `forgetAfter`.
    pub fn forget(&mut self, key: &Key) {
        self.seen.remove(key);
    }
}
