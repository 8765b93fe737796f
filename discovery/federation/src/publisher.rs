//! What the elected gateway of a cluster writes: pure, so that it can be tried against a store that lies.
//!
//! ```text
//! Elected(what stands) ─▶ epoch ─╮
//! Wanted(exports) ───────────────┼─▶ due ─▶ next_write ─▶ (store) ─▶ Written
//! Stands(what stands now) ───────╯
//! ```
//! A new reign writes first what is different, and then everything else once more under its own epoch: a store that was
//! restored from a backup holds records older than those that readers remember, and they would believe none of them.

use crate::election::next_epoch;
use crate::export::{self, Exports, Target};
use crate::high_water::Position;
use model::{ServiceExport, ServiceKey};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Where a record of ours lies.
pub type At = (Target, ServiceKey);

/// A record of ours as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Where.
    pub at: At,
    /// Which of our writes it is.
    pub position: Position,
    /// What it says; nothing if it withdraws.
    pub export: Option<ServiceExport>,
}

/// One write to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Where.
    pub at: At,
    /// As which of our writes.
    pub position: Position,
    /// What it says; nothing if it withdraws.
    pub export: Option<ServiceExport>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// We lead now.
    Elected {
        /// What stands in the store, and is ours.
        standing: Vec<Standing>,
        /// The highest epoch of any record of the cluster in the store.
        highest_epoch: u64,
        /// Our clock, in seconds since 1970.
        unix_seconds: u64,
    },
    /// This, and nothing else, is to be published.
    Wanted(Exports),
    /// This, and nothing else, stands in the store now. It may have been read before our last writes.
    Stands(Vec<Standing>),
    /// This stands in the store now; nothing of ours, if absent.
    Seen(At, Option<Standing>),
    /// The store has taken the write.
    Written(Write),
    /// The write can never be: it is not tried again until it is another one.
    Unwritable(Write),
    /// The store may, or may not, have taken the write.
    Failed(Write),
    /// We do not lead any more.
    Deposed,
}

/// What is published, and what is still to be written.
#[derive(Debug, Clone, Default)]
pub struct Publisher {
    /// The highest epoch that was ever seen or used here.
    highest_epoch: u64,
    /// All places that were ever seen or written here: what a restored store has lost is withdrawn again.
    known: BTreeSet<At>,
    wanted: Option<Exports>,
    reign: Option<Reign>,
}

#[derive(Debug, Clone, Default)]
struct Reign {
    position: Position,
    /// What the store has, as far as is known; withdrawals are absent.
    published: Exports,
    /// The position of what the store has, withdrawals too.
    positions: BTreeMap<At, Position>,
    due: VecDeque<At>,
}

/// The most places that are remembered beyond those that are wanted.
const KNOWN: usize = 10_000;

// === impl Publisher ===

impl Publisher {
    /// Takes in what happened.
    pub fn step(&mut self, event: Event) {
        match event {
            Event::Elected { standing, highest_epoch, unix_seconds } => {
                self.elected(standing, highest_epoch, unix_seconds);
            }
            Event::Wanted(exports) => self.wanted = Some(exports),
            Event::Stands(standing) => self.stands(standing),
            Event::Seen(at, standing) => self.seen(at, standing),
            Event::Written(write) => return self.written(write),
            Event::Unwritable(write) => return self.unwritable(write),
            Event::Failed(write) => self.failed(&write.at),
            Event::Deposed => self.reign = None,
        }
        self.plan();
    }

    /// The next write, if we lead and any is due. Each is to be answered with [`Event::Written`],
    /// [`Event::Unwritable`] or [`Event::Failed`] before the next is asked for.
    pub fn next_write(&mut self) -> Option<Write> {
        let reign = self.reign.as_mut()?;
        let at = reign.due.pop_front()?;
        reign.position.sequence += 1;
        let export = self.wanted.as_ref().and_then(|wanted| wanted.get(&at)).cloned();
        Some(Write { at, position: reign.position, export })
    }

    /// The epoch of the present reign.
    pub fn epoch(&self) -> Option<u64> {
        self.reign.as_ref().map(|reign| reign.position.epoch)
    }

    fn elected(&mut self, standing: Vec<Standing>, highest_epoch: u64, unix_seconds: u64) {
        self.highest_epoch = self.highest_epoch.max(highest_epoch);
        let mut reign = Reign::default();
        for standing in standing {
            self.highest_epoch = self.highest_epoch.max(standing.position.epoch);
            self.known.insert(standing.at.clone());
            reign.take(standing);
        }
        self.highest_epoch = next_epoch(self.highest_epoch, unix_seconds);
        reign.position = Position { epoch: self.highest_epoch, sequence: 0 };
        self.reign = Some(reign);
    }

    fn stands(&mut self, standing: Vec<Standing>) {
        let Some(reign) = &mut self.reign else { return };
        let mut missing: BTreeSet<At> = reign.positions.keys().cloned().collect();
        for standing in standing {
            missing.remove(&standing.at);
            self.known.insert(standing.at.clone());
            self.highest_epoch = self.highest_epoch.max(standing.position.epoch);
            reign.take(standing);
        }
        for at in missing {
            reign.lose(&at);
        }
        self.outrank();
    }

    fn seen(&mut self, at: At, standing: Option<Standing>) {
        let Some(reign) = &mut self.reign else { return };
        match standing {
            // An echo of our own.
            Some(standing) if reign.has_written(standing.position) => {}
            Some(standing) => {
                self.known.insert(at);
                self.highest_epoch = self.highest_epoch.max(standing.position.epoch);
                reign.take(standing);
                self.outrank();
            }
            None => reign.lose(&at),
        }
    }

    /// Somebody wrote under a higher epoch than ours, and we lead: readers believe us again under a higher one yet.
    fn outrank(&mut self) {
        let Some(reign) = &mut self.reign else { return };
        if self.highest_epoch > reign.position.epoch {
            self.highest_epoch = self.highest_epoch.saturating_add(1);
            reign.position = Position { epoch: self.highest_epoch, sequence: 0 };
        }
    }

    fn written(&mut self, write: Write) {
        self.known.insert(write.at.clone());
        let Some(reign) = &mut self.reign else { return };
        reign.take(Standing { at: write.at, position: write.position, export: write.export });
        self.forget();
    }

    fn unwritable(&mut self, write: Write) {
        let Some(reign) = &mut self.reign else { return };
        reign.take(Standing { at: write.at, position: write.position, export: write.export });
    }

    fn failed(&mut self, at: &At) {
        self.known.insert(at.clone());
        if let Some(reign) = &mut self.reign {
            reign.lose(at);
        }
    }

    /// What is due: what is new or changed, what is withdrawn, and then what stands under an earlier epoch or not at all.
    fn plan(&mut self) {
        let (Some(reign), Some(wanted)) = (&mut self.reign, &self.wanted) else { return };
        let writes = export::plan(wanted, &reign.published);
        let mut due: VecDeque<At> = writes.into_iter().map(export::Write::into_at).collect();
        let first: BTreeSet<At> = due.iter().cloned().collect();
        let is_old = |at: &&At| reign.positions.get(*at).is_none_or(|at| at.epoch < reign.position.epoch);
        due.extend(self.known.iter().filter(is_old).filter(|at| !first.contains(*at)).cloned());
        reign.due = due;
    }

    fn forget(&mut self) {
        let wanted = self.wanted.as_ref();
        let most = KNOWN + wanted.map_or(0, BTreeMap::len);
        if self.known.len() > most {
            let first = self.known.iter().find(|at| wanted.is_none_or(|wanted| !wanted.contains_key(at))).cloned();
            self.known.retain(|at| Some(at) != first.as_ref());
        }
    }
}

// === impl Reign ===

impl Reign {
    fn has_written(&self, position: Position) -> bool {
        position.epoch == self.position.epoch && position.sequence <= self.position.sequence
    }

    fn take(&mut self, standing: Standing) {
        self.positions.insert(standing.at.clone(), standing.position);
        match standing.export {
            Some(export) => drop(self.published.insert(standing.at, export)),
            None => drop(self.published.remove(&standing.at)),
        }
    }

    fn lose(&mut self, at: &At) {
        self.positions.remove(at);
        self.published.remove(at);
    }
}

#[cfg(test)]
mod tests;
