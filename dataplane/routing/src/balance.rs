//! Chooses an endpoint: lowest priority first, and there as the upstream's policy says.

use crate::Endpoint;
use crate::hash::hash;
use crate::policy::{Choice, Outliers, Policy, Warmup};
use crate::ring::Table;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Endpoints by priority, ready to be drawn from.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    levels: Vec<Level>,
    choice: Choice,
    warmup: Option<Warmup>,
    outliers: Option<Outliers>,
}

/// What an endpoint is looked for with.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Where the request or connection was going.
    pub destination: std::net::SocketAddr,
    /// What the request is alike in with others.
    pub hash: Option<u64>,
    /// Endpoints that were tried already, by id.
    pub tried: &'a [u64],
    /// The time since any fixed moment.
    pub now: Duration,
}

#[derive(Debug)]
struct Level {
    endpoints: Vec<Arc<Endpoint>>,
    /// The sums of the weights up to each endpoint.
    sums: Vec<u64>,
    /// For choices by hash.
    table: Option<Table>,
    /// How many were chosen in turn, and how far the next one is in weights.
    turn: AtomicU64,
    stride: u64,
}

/// How often some are drawn before all are looked at.
const DRAWS: usize = 4;

// === impl Balance ===

impl Balance {
    pub(crate) fn new(endpoints: &[Arc<Endpoint>], policy: &Policy) -> Self {
        let mut priorities: Vec<u32> = endpoints.iter().map(|endpoint| endpoint.facts.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        let of = |priority| endpoints.iter().filter(move |e| e.facts.priority == priority).cloned().collect();
        Self {
            levels: priorities.into_iter().map(|priority| Level::new(of(priority), policy.choice)).collect(),
            choice: policy.choice,
            warmup: policy.warmup,
            outliers: policy.outliers.clone(),
        }
    }

    /// One that is not among those tried, not avoided and not left out; if there is none, one that was not tried; else
    /// any that is not left out.
    pub(crate) fn pick(&self, wanted: &Wanted<'_>, draw: &mut impl FnMut() -> u64) -> Option<&Arc<Endpoint>> {
        let now = wanted.now;
        let fresh = |endpoint: &Endpoint| !wanted.tried.contains(&endpoint.id);
        // What was left out under a policy that is gone is not left out any more.
        let ejects = self.outliers.is_some();
        let usable =
            |level: &Level, endpoint: &Endpoint| !ejects || !endpoint.load.is_ejected(now) || self.panics(level, now);
        let mut of = |fits: &dyn Fn(&Endpoint) -> bool| {
            self.levels.iter().find_map(|level| {
                self.choose(level, wanted, &|endpoint| fits(endpoint) && usable(level, endpoint), draw)
            })
        };
        of(&|endpoint| fresh(endpoint) && !endpoint.load.is_avoided(now))
            .or_else(|| of(&fresh))
            .or_else(|| of(&|_| true))
    }

    /// Whether so few endpoints are left that leaving out some would harm more than help.
    fn panics(&self, level: &Level, now: Duration) -> bool {
        let Some(outliers) = &self.outliers else { return false };
        let healthy = level.endpoints.iter().filter(|endpoint| !endpoint.load.is_ejected(now)).count();
        healthy * 100 < outliers.least_healthy_percent as usize * level.endpoints.len()
    }

    fn choose<'a>(
        &self,
        level: &'a Level,
        wanted: &Wanted<'_>,
        fits: &dyn Fn(&Endpoint) -> bool,
        draw: &mut impl FnMut() -> u64,
    ) -> Option<&'a Arc<Endpoint>> {
        if let [only] = &level.endpoints[..] {
            return fits(only).then_some(only);
        }
        if let Some(table) = &level.table {
            let hash = wanted.hash.unwrap_or_else(&mut *draw);
            let mut places = table.places(hash).into_iter().map(|place| &level.endpoints[place]);
            return places.find(|endpoint| fits(endpoint));
        }
        let welcome = |endpoint: &Endpoint, draw: &mut dyn FnMut() -> u64| {
            fits(endpoint) && self.is_warm(endpoint, wanted.now, draw)
        };
        for _ in 0..DRAWS {
            let found = match self.choice {
                Choice::RoundRobin => Some(level.next()).filter(|one| welcome(one, draw)),
                Choice::Random => Some(level.draw(draw())).filter(|one| welcome(one, draw)),
                _ => {
                    let (one, other) = (level.draw(draw()), level.draw(draw()));
                    match (welcome(one, draw), welcome(other, draw)) {
                        (true, true) => Some(if is_lighter(other, one) { other } else { one }),
                        (true, false) => Some(one),
                        (false, true) => Some(other),
                        (false, false) => None,
                    }
                }
            };
            if found.is_some() {
                return found;
            }
        }
        let left = level.endpoints.iter().filter(|endpoint| fits(endpoint));
        left.reduce(|best, next| if is_lighter(next, best) { next } else { best })
    }

    /// Whether an endpoint that was drawn is taken: one that is new, only as often as its share has come to.
    fn is_warm(&self, endpoint: &Endpoint, now: Duration, draw: &mut dyn FnMut() -> u64) -> bool {
        let Some(warmup) = &self.warmup else { return true };
        let share = warmup.share(endpoint.load.age(now));
        share >= 1.0 || (draw() as f64 / u64::MAX as f64) < share
    }
}

// === impl Level ===

impl Level {
    fn new(endpoints: Vec<Arc<Endpoint>>, choice: Choice) -> Self {
        let divisor = endpoints.iter().fold(0, |divisor, e| common_divisor(divisor, u64::from(e.facts.weight))).max(1);
        let weights: Vec<u64> = endpoints.iter().map(|endpoint| u64::from(endpoint.facts.weight) / divisor).collect();
        let mut sum = 0;
        let mut add = |weight: &u64| {
            sum += weight;
            sum
        };
        let sums: Vec<u64> = weights.iter().map(&mut add).collect();
        let hashes = || endpoints.iter().map(|endpoint| hash(endpoint.facts.target.to_string().as_bytes())).collect();
        let table = match choice {
            Choice::Ring(places) => Some(Table::ring(&endpoints, &weights, places)),
            Choice::Maglev(places) => Some(Table::maglev(hashes(), &weights, places)),
            _ => None,
        };
        Self { endpoints, table, turn: AtomicU64::new(0), stride: stride(sum), sums }
    }

    fn draw(&self, number: u64) -> &Arc<Endpoint> {
        let total = self.sums.last().copied().unwrap_or(1);
        let at = self.sums.partition_point(|sum| *sum <= number % total);
        &self.endpoints[at]
    }

    /// The next one in turn: over as many turns as the sum of weights, each has exactly its share, well spread.
    fn next(&self) -> &Arc<Endpoint> {
        self.draw(self.turn.fetch_add(1, Ordering::Relaxed).wrapping_mul(self.stride))
    }
}

/// A step that comes by every place of `total` before it comes by one twice; near the golden section, so that places
/// that are visited after each other lie far apart. Small sums go one by one, as everybody expects.
fn stride(total: u64) -> u64 {
    if total < 16 {
        return 1;
    }
    let golden = u64::try_from(u128::from(total) * 618 / 1000).unwrap_or(1);
    (golden.max(1)..total).find(|step| common_divisor(*step, total) == 1).unwrap_or(1)
}

fn common_divisor(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { common_divisor(other, one % other) }
}

/// Whether `one` has less to do than `other`, for its weight.
fn is_lighter(one: &Endpoint, other: &Endpoint) -> bool {
    let load = |endpoint: &Endpoint| u64::from(endpoint.load.active()) + 1;
    load(one) * u64::from(other.facts.weight) < load(other) * u64::from(one.facts.weight)
}
