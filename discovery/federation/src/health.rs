//! Whether a peer is alive, from two signals: what the store says of it, and what the path to it says.
//!
//! ```text
//!                      path up     path lost
//! control signal       Live        Unreachable
//! lost >= suspectAfter Suspect     Stale, then Removed after forgetAfter of both
//! ```
//!
//! Loss of information is not information: one lost signal never removes a peer. Time is the observer's own monotonic
//! clock; nothing that a peer says of time ever expires anything.

use model::PeerHealth;
use std::time::{Duration, Instant};

/// When silence begins to mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long the control signal may be away before the peer is suspect. Default 15 s.
    pub suspect_after: Duration,
    /// How long both signals may be away before the peer is removed. Default 1 h.
    pub forget_after: Duration,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// At least one liveness key of the peer stands in the store. Need not be repeated while it does.
    ControlSeen,
    /// The peer's last liveness key has vanished, or the store cannot be read.
    ControlLost,
    /// All own gateways report that no gateway of the peer answers.
    PathLost,
    /// At least one own gateway reaches the peer, or none has tried yet.
    PathRestored,
    /// The peer has left, by a signed tombstone or an operator's command.
    Left,
}

/// What is known of one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    control: Signal,
    path: Signal,
    left: bool,
}

/// What to do with a peer's services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Keep them, in this health.
    Kept(PeerHealth),
    /// Drop them; the positions of its records are still remembered.
    Removed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Present,
    LostSince(Instant),
}

// === impl Settings ===

impl Default for Settings {
    fn default() -> Self {
        Self { suspect_after: Duration::from_secs(15), forget_after: Duration::from_hours(1) }
    }
}

// === impl Verdict ===

impl Verdict {
    /// One word for it: `live`, `suspect`, `unreachable`, `stale` or `removed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kept(PeerHealth::Live) => "live",
            Self::Kept(PeerHealth::Suspect) => "suspect",
            Self::Kept(PeerHealth::Unreachable) => "unreachable",
            Self::Kept(PeerHealth::Stale) => "stale",
            Self::Removed => "removed",
        }
    }
}

// === impl State ===

impl State {
    /// A peer of which nothing has been heard by `now`. Its path counts as working until it was tried.
    pub fn new(now: Instant) -> Self {
        Self { control: Signal::LostSince(now), path: Signal::Present, left: false }
    }

    /// What is known after `event` at `now`.
    #[must_use]
    pub fn step(mut self, event: Event, now: Instant) -> Self {
        match event {
            Event::ControlSeen => (self.control, self.left) = (Signal::Present, false),
            Event::ControlLost => self.control = self.control.lost(now),
            Event::PathLost => self.path = self.path.lost(now),
            Event::PathRestored => self.path = Signal::Present,
            Event::Left => self.left = true,
        }
        self
    }

    /// What to do with the peer's services at `now`.
    pub fn verdict(&self, settings: &Settings, now: Instant) -> Verdict {
        let suspect = self.control.lost_for(now).is_some_and(|lost| lost >= settings.suspect_after);
        let path = self.path.lost_for(now);
        let both = self.control.lost_for(now).zip(path).map(|(control, path)| control.min(path));
        if self.left || both.is_some_and(|lost| lost > settings.forget_after) {
            return Verdict::Removed;
        }
        Verdict::Kept(match (suspect, path.is_some()) {
            (false, false) => PeerHealth::Live,
            (true, false) => PeerHealth::Suspect,
            (false, true) => PeerHealth::Unreachable,
            (true, true) => PeerHealth::Stale,
        })
    }

    /// Why the verdict is `verdict`, in words.
    pub fn reason(&self, verdict: Verdict) -> &'static str {
        match verdict {
            Verdict::Kept(PeerHealth::Live) => "its gateways are alive in the store, and one of them answers",
            Verdict::Kept(PeerHealth::Suspect) => "no gateway of it has been alive in the store for suspectAfter",
            Verdict::Kept(PeerHealth::Unreachable) => "all own gateways report that none of its gateways answers",
            Verdict::Kept(PeerHealth::Stale) => "neither is it alive in the store, nor does a gateway of it answer",
            Verdict::Removed if self.left => "it has left",
            Verdict::Removed => "nothing has been heard of it, by either way, for forgetAfter",
        }
    }

    /// When the verdict next changes by time alone, if nothing else happens; always after `now`.
    pub fn changes_at(&self, settings: &Settings, now: Instant) -> Option<Instant> {
        let Signal::LostSince(control) = self.control else { return None };
        let suspect = control.checked_add(settings.suspect_after);
        let forget = match self.path {
            // The verdict changes when *more* than forgetAfter has passed.
            Signal::LostSince(path) => control.max(path).checked_add(settings.forget_after + Duration::from_nanos(1)),
            Signal::Present => None,
        };
        [suspect, forget].into_iter().flatten().filter(|at| *at > now && !self.left).min()
    }
}

// === impl Signal ===

impl Signal {
    fn lost(self, now: Instant) -> Self {
        match self {
            Self::Present => Self::LostSince(now),
            Self::LostSince(_) => self,
        }
    }

    fn lost_for(self, now: Instant) -> Option<Duration> {
        match self {
            Self::Present => None,
            Self::LostSince(since) => Some(now.saturating_duration_since(since)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Seconds after the start, and what happens then.
    type At = (u64, Event);

    const KINDS: [Event; 5] =
        [Event::ControlSeen, Event::ControlLost, Event::PathLost, Event::PathRestored, Event::Left];

    #[test]
    fn each_signal_alone_and_both_together() {
        use Event::{ControlLost, ControlSeen, Left, PathLost, PathRestored};
        let kept = Verdict::Kept;
        let cases: [(&[At], u64, Verdict); 11] = [
            (&[], 14, kept(PeerHealth::Live)),
            (&[], 15, kept(PeerHealth::Suspect)),
            (&[], 1_000_000, kept(PeerHealth::Suspect)),
            (&[(0, ControlSeen)], 1_000_000, kept(PeerHealth::Live)),
            (&[(0, ControlSeen), (5, PathLost)], 1_000_000, kept(PeerHealth::Unreachable)),
            (&[(0, ControlSeen), (5, PathLost), (9, PathRestored)], 10, kept(PeerHealth::Live)),
            (&[(0, ControlSeen), (5, PathLost), (9, ControlLost)], 23, kept(PeerHealth::Unreachable)),
            (&[(0, ControlSeen), (5, PathLost), (9, ControlLost)], 24, kept(PeerHealth::Stale)),
            (&[(0, ControlSeen), (5, PathLost), (9, ControlLost)], 3609, kept(PeerHealth::Stale)),
            (&[(0, ControlSeen), (5, PathLost), (9, ControlLost)], 3610, Verdict::Removed),
            (&[(0, ControlSeen), (5, Left)], 5, Verdict::Removed),
        ];
        for (events, at, expected) in cases {
            let start = Instant::now();
            let after = |seconds| start + Duration::from_secs(seconds);
            let state = events.iter().fold(State::new(start), |state, (s, event)| state.step(*event, after(*s)));
            assert_eq!(state.verdict(&Settings::default(), after(at)), expected, "{events:?} at {at}");
        }
    }

    #[test]
    fn a_forgotten_peer_comes_back_by_either_signal_and_one_that_left_by_its_own() {
        let start = Instant::now();
        let later = start + Duration::from_secs(10_000);
        let settings = Settings::default();
        let forgotten = State::new(start).step(Event::PathLost, start);
        assert_eq!(forgotten.verdict(&settings, later), Verdict::Removed);
        let reached = forgotten.step(Event::PathRestored, later);
        assert_eq!(reached.verdict(&settings, later), Verdict::Kept(PeerHealth::Suspect));
        let gone = State::new(start).step(Event::Left, start);
        assert_eq!(gone.step(Event::PathRestored, later).verdict(&settings, later), Verdict::Removed);
        let back = gone.step(Event::ControlSeen, later);
        assert_eq!(back.verdict(&settings, later), Verdict::Kept(PeerHealth::Live));
    }

    proptest! {
        #[test]
        fn nothing_is_removed_without_leave_or_the_loss_of_both_for_long(
            events in proptest::collection::vec((0..2000u64, 0..KINDS.len()), 0..40),
        ) {
            let settings = Settings::default();
            let mut now = Instant::now();
            let (mut control, mut path, mut left) = (Some(now), None, false);
            let mut state = State::new(now);
            for (seconds, kind) in events {
                now += Duration::from_secs(seconds);
                state = state.step(KINDS[kind], now);
                match KINDS[kind] {
                    Event::ControlSeen => (control, left) = (None, false),
                    Event::ControlLost => control = control.or(Some(now)),
                    Event::PathLost => path = path.or(Some(now)),
                    Event::PathRestored => path = None,
                    Event::Left => left = true,
                }
                let long = control.zip(path).is_some_and(|(c, p)| now.duration_since(c.max(p)) > settings.forget_after);
                prop_assert_eq!(state.verdict(&settings, now) == Verdict::Removed, left || long);
            }
        }

        #[test]
        fn the_verdict_changes_by_time_exactly_when_foretold(
            events in proptest::collection::vec((0..2000u64, 0..KINDS.len()), 0..20),
        ) {
            let settings = Settings::default();
            let mut now = Instant::now();
            let mut state = State::new(now);
            for (seconds, kind) in events {
                now += Duration::from_secs(seconds);
                state = state.step(KINDS[kind], now);
            }
            let verdict = state.verdict(&settings, now);
            let Some(at) = state.changes_at(&settings, now) else {
                prop_assert_eq!(state.verdict(&settings, now + Duration::from_secs(1_000_000)), verdict);
                return Ok(());
            };
            let just_before = at.checked_sub(Duration::from_nanos(1)).expect("a time after now");
            prop_assert_eq!(state.verdict(&settings, just_before), verdict);
            prop_assert_ne!(state.verdict(&settings, at), verdict);
        }
    }
}
