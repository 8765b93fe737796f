//! When to push what has changed: soon for endpoints, a little later for configuration, never without end.

use crate::DebounceSettings;
use crate::world::Urgency;
use std::time::Duration;
use tokio::time::Instant;

/// The changes that wait to be pushed. Time is an argument.
#[derive(Debug, Default)]
pub(crate) struct Debounce {
    /// The first and the last change of each urgency.
    configuration: Option<(Instant, Instant)>,
    endpoints: Option<(Instant, Instant)>,
}

// === impl Debounce ===

impl Debounce {
    /// Something changed.
    pub(crate) fn note(&mut self, urgency: Urgency, now: Instant) {
        let waiting = match urgency {
            Urgency::Configuration => &mut self.configuration,
            Urgency::Endpoints => &mut self.endpoints,
        };
        let first = waiting.map_or(now, |(first, _)| first);
        *waiting = Some((first, now));
    }

    /// When to push; not at all if nothing waits.
    pub(crate) fn due(&self, settings: &DebounceSettings) -> Option<Instant> {
        let due = |waiting: Option<(Instant, Instant)>, quiet: u64, max: u64| {
            waiting.map(|(first, last)| (last + Duration::from_millis(quiet)).min(first + Duration::from_millis(max)))
        };
        let configuration = due(self.configuration, settings.configuration_quiet_ms, settings.configuration_max_ms);
        let endpoints = due(self.endpoints, settings.endpoints_quiet_ms, settings.endpoints_max_ms);
        [configuration, endpoints].into_iter().flatten().min()
    }

    /// A push takes all that waits; since when it waited.
    pub(crate) fn take(&mut self) -> Option<Instant> {
        let (configuration, endpoints) = (self.configuration.take(), self.endpoints.take());
        [configuration, endpoints].into_iter().flatten().map(|(first, _)| first).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_and_most_decide_and_the_most_urgent_takes_all_along() {
        let settings = DebounceSettings::default();
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut waiting = Debounce::default();
        assert_eq!(waiting.due(&settings), None);
        waiting.note(Urgency::Configuration, at(0));
        assert_eq!(waiting.due(&settings), Some(at(100)));
        waiting.note(Urgency::Configuration, at(60));
        assert_eq!(waiting.due(&settings), Some(at(160)));
        for ms in (100..2000).step_by(50) {
            waiting.note(Urgency::Configuration, at(ms));
        }
        assert_eq!(waiting.due(&settings), Some(at(1000)));
        waiting.note(Urgency::Endpoints, at(500));
        assert_eq!(waiting.due(&settings), Some(at(510)));
        for ms in (505..700).step_by(5) {
            waiting.note(Urgency::Endpoints, at(ms));
        }
        assert_eq!(waiting.due(&settings), Some(at(600)));
        assert_eq!(waiting.take(), Some(at(0)));
        assert_eq!(waiting.due(&settings), None);
    }
}
