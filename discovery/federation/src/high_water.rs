//! What a reader has seen of every key, so that nothing older is believed again: a store that was restored, rolled
//! back or tampered with cannot bring back what was withdrawn.

use std::collections::BTreeMap;
use std::fmt;

/// The largest jump of an epoch, or of a sequence within one. Epochs are about Unix seconds; a record at the end of the
/// range would lock its owner out for good.
pub(crate) const JUMP: u64 = 1 << 32;

/// The order of a cluster's writes: by epoch, which grows with every election, then by sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Whose writes: the election's.
    pub epoch: u64,
    /// Which of them.
    pub sequence: u64,
}

/// What has a place in the order of its owner's writes.
pub trait Positioned {
    /// Where it lies: positions are compared under one key only.
    type Key: Ord + Clone + fmt::Display + fmt::Debug;

    /// Where it lies.
    fn key(&self) -> &Self::Key;

    /// Which write it is.
    fn position(&self) -> Position;

    /// Tells two contents apart; equal ones have equal digests within a process.
    fn digest(&self) -> u64;
}

/// The greatest position seen of every key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HighWater<K: Ord> {
    seen: BTreeMap<K, Seen>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Seen {
    position: Position,
    /// Of the payload; not known after a restart.
    digest: Option<u64>,
}

/// Why a verified record is not to be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stale<K: fmt::Display + fmt::Debug> {
    /// Seen before: the same record again, after a new list for instance. Nothing is wrong.
    #[error("{key}: {position} is known")]
    Known {
        /// Its key.
        key: K,
        /// Its position.
        position: Position,
    },
    /// Older than what was seen: a replay or a rollback.
    #[error("{key}: {position} is older than {seen}, which was seen")]
    Old {
        /// Its key.
        key: K,
        /// Its position.
        position: Position,
        /// The greatest seen.
        seen: Position,
    },
    /// Two different records at one position: two writers use the owner's key.
    #[error("{key}: two different records at {position}")]
    Equivocation {
        /// Its key.
        key: K,
        /// Its position.
        position: Position,
    },
    /// Too far ahead of what was seen to be a real position.
    #[error("{key}: {position} is too far ahead of {seen}")]
    Jump {
        /// Its key.
        key: K,
        /// Its position.
        position: Position,
        /// The greatest seen.
        seen: Position,
    },
}

// === impl Position ===

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}, sequence {}", self.epoch, self.sequence)
    }
}

// === impl HighWater ===

impl<K: Ord> Default for HighWater<K> {
    fn default() -> Self {
        Self { seen: BTreeMap::new() }
    }
}

impl<K: Ord + Clone + fmt::Display + fmt::Debug> HighWater<K> {
    /// Takes `record` for the newest of its key, or says why it is not.
    pub fn admit(&mut self, record: &impl Positioned<Key = K>) -> Result<(), Stale<K>> {
        let (key, position, digest) = (record.key(), record.position(), record.digest());
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
    pub fn position(&self, key: &K) -> Option<Position> {
        self.seen.get(key).map(|seen| seen.position)
    }

    /// All of them, to be kept across a restart.
    pub fn positions(&self) -> impl Iterator<Item = (&K, Position)> {
        self.seen.iter().map(|(key, seen)| (key, seen.position))
    }

    /// Takes in what was kept; never lowers a mark.
    pub fn restore(&mut self, positions: impl IntoIterator<Item = (K, Position)>) {
        for (key, position) in positions {
            let seen = self.seen.entry(key).or_insert(Seen { position, digest: None });
            if seen.position < position {
                *seen = Seen { position, digest: None };
            }
        }
    }

    /// Forgets a key, once its owner has left for longer than `forgetAfter`.
    pub fn forget(&mut self, key: &K) {
        self.seen.remove(key);
    }
}
