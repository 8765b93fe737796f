//! Chooses an endpoint: lowest priority first, and of two drawn by weight the less loaded one.

use crate::Endpoint;
use std::sync::Arc;
use std::time::Duration;

/// Endpoints by priority, ready to be drawn from.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    endpoints: Vec<Arc<Endpoint>>,
    /// The sums of the weights up to each endpoint.
    sums: Vec<u64>,
}

/// How often two are drawn before all are looked at.
const DRAWS: usize = 4;

// === impl Balance ===

impl Balance {
    pub(crate) fn new(endpoints: &[Arc<Endpoint>]) -> Self {
        let mut priorities: Vec<u32> = endpoints.iter().map(|endpoint| endpoint.facts.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        let level = |priority| Level::new(endpoints.iter().filter(|e| e.facts.priority == priority).cloned().collect());
        Self { levels: priorities.into_iter().map(level).collect() }
    }

    /// One that is not among `tried` and not avoided at `now`; if there is none, one that was not tried; else any.
    pub(crate) fn pick(&self, tried: &[u64], now: Duration, draw: &mut impl FnMut() -> u64) -> Option<&Arc<Endpoint>> {
        let fresh = |endpoint: &Endpoint| !tried.contains(&endpoint.id);
        let good = |endpoint: &Endpoint| fresh(endpoint) && !endpoint.load.is_avoided(now);
        let mut of = |fits: &dyn Fn(&Endpoint) -> bool| self.levels.iter().find_map(|level| level.pick(fits, draw));
        of(&good).or_else(|| of(&fresh)).or_else(|| of(&|_| true))
    }
}

// === impl Level ===

impl Level {
    fn new(endpoints: Vec<Arc<Endpoint>>) -> Self {
        let mut sum = 0;
        let mut add = |endpoint: &Arc<Endpoint>| {
            sum += u64::from(endpoint.facts.weight);
            sum
        };
        let sums = endpoints.iter().map(&mut add).collect();
        Self { endpoints, sums }
    }

    fn pick(&self, fits: &dyn Fn(&Endpoint) -> bool, draw: &mut impl FnMut() -> u64) -> Option<&Arc<Endpoint>> {
        if let [only] = &self.endpoints[..] {
            return fits(only).then_some(only);
        }
        for _ in 0..DRAWS {
            let (one, other) = (self.draw(draw()), self.draw(draw()));
            match (fits(one), fits(other)) {
                (true, true) => return Some(if is_lighter(other, one) { other } else { one }),
                (true, false) => return Some(one),
                (false, true) => return Some(other),
                (false, false) => {}
            }
        }
        let left = self.endpoints.iter().filter(|endpoint| fits(endpoint));
        left.reduce(|best, next| if is_lighter(next, best) { next } else { best })
    }

    fn draw(&self, number: u64) -> &Arc<Endpoint> {
        let total = self.sums.last().copied().unwrap_or(1);
        let at = self.sums.partition_point(|sum| *sum <= number % total);
        &self.endpoints[at]
    }
}

/// Whether `one` has less to do than `other`, for its weight.
fn is_lighter(one: &Endpoint, other: &Endpoint) -> bool {
    let load = |endpoint: &Endpoint| u64::from(endpoint.load.active()) + 1;
    load(one) * u64::from(other.facts.weight) < load(other) * u64::from(one.facts.weight)
}
