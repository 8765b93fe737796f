//! One peer as this cluster judges it: what the store shows of it, how its path is, and what follows for its services.
//!
//! ```text
//! View (record lease) ──┐
//!                       ├─▶ step ─▶ judge ─▶ Transition {from, to, reason}
//! Paths (tunnel probes) ┘
//! ```

use crate::health::{self, Verdict};
use crate::offers::View;
use model::{Path, PeerHealth};
use std::sync::Arc;
use std::time::Instant;

/// What is known of one peer.
#[derive(Debug, Clone)]
pub struct Peer {
    view: View,
    health: health::State,
    verdict: Verdict,
    /// When the store was last known to be watched.
    vouched: Option<Instant>,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The store shows this of it.
    View(View),
    /// The own gateways report these paths to it, one each. A gateway that is gone says nothing.
    Paths(Vec<Path>),
}

/// The verdict is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// What it was.
    pub from: Verdict,
    /// What it is.
    pub to: Verdict,
    /// Why, in words.
    pub reason: &'static str,
}

// === impl Peer ===

impl Peer {
    /// A peer of which nothing is known at `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            view: View::default(),
            health: health::State::new(now),
            verdict: Verdict::Kept(PeerHealth::Live),
            vouched: None,
        }
    }

    /// Takes in `event`; whether what the peer offers, or where its gateways are, is different now.
    pub fn step(&mut self, event: Event, now: Instant) -> bool {
        match event {
            Event::View(view) => self.show(view, now),
            Event::Paths(paths) => {
                self.paths(&paths, now);
                false
            }
        }
    }

    /// Judges anew; what changed, if anything did.
    pub fn judge(&mut self, settings: &health::Settings, now: Instant) -> Option<Transition> {
        let to = self.health.verdict(settings, now);
        let from = std::mem::replace(&mut self.verdict, to);
        (from != to).then(|| Transition { from, to, reason: self.health.reason(to) })
    }

    /// What the store shows of it.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The last verdict.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Its health, by the last verdict.
    pub fn health(&self) -> PeerHealth {
        match self.verdict {
            Verdict::Kept(health) => health,
            Verdict::Removed => PeerHealth::Stale,
        }
    }

    /// Whether its services are dropped.
    pub fn is_removed(&self) -> bool {
        self.verdict == Verdict::Removed
    }

    /// How many seconds ago the store last vouched for its records; 0 while it is watched, absent before the first time.
    pub fn age_seconds(&self, now: Instant) -> Option<u64> {
        let age = self.vouched.map(|at| now.saturating_duration_since(at).as_secs());
        if self.view.watched { Some(0) } else { age }
    }

    fn show(&mut self, view: View, now: Instant) -> bool {
        let is_seen = view.watched && view.alive > 0;
        let event = if is_seen { health::Event::ControlSeen } else { health::Event::ControlLost };
        self.health = self.health.step(event, now);
        if view.watched || self.view.watched {
            self.vouched = Some(now);
        }
        let changed = !Arc::ptr_eq(&self.view.exports, &view.exports) || self.view.gateways != view.gateways;
        self.view = view;
        changed
    }

    /// The data path is lost when all the own gateways say so, and back when one of them says so. One that has not
    /// tried yet says nothing.
    fn paths(&mut self, paths: &[Path], now: Instant) {
        if paths.contains(&Path::Connected) {
            self.health = self.health.step(health::Event::PathRestored, now);
        } else if !paths.is_empty() && paths.iter().all(|path| *path == Path::Unreachable) {
            self.health = self.health.step(health::Event::PathLost, now);
        }
    }
}
