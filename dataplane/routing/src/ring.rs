//! From a hash to an endpoint, so that few hashes change theirs when endpoints come and go.

use crate::Endpoint;
use crate::hash::hash;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A table of places, each an endpoint's number.
#[derive(Debug)]
pub(crate) enum Table {
    /// Points on a ring, in order.
    Ring(Vec<(u64, usize)>),
    /// Maglev's table (Eisenbud et al., 2016).
    Maglev(Vec<usize>),
}

// === impl Table ===

impl Table {
    /// At least `places` points, shared out by weight; each endpoint has one at least.
    pub(crate) fn ring(endpoints: &[Arc<Endpoint>], weights: &[u64], places: u64) -> Self {
        let total = weights.iter().sum::<u64>().max(1);
        let mut points = Vec::new();
        for (number, (endpoint, weight)) in endpoints.iter().zip(weights).enumerate() {
            let share = (places.saturating_mul(*weight)).div_ceil(total).max(1);
            let target = endpoint.facts.target.to_string();
            points.extend((0..share).map(|place| (hash(format!("{target}_{place}").as_bytes()), number)));
        }
        points.sort_unstable();
        Self::Ring(points)
    }

    /// `places` (a prime number) shared out by weight; `hashes` are those of the endpoints.
    pub(crate) fn maglev(hashes: Vec<u64>, weights: &[u64], places: u64) -> Self {
        let size = usize::try_from(places).unwrap_or(usize::MAX).max(2);
        let mut table = vec![usize::MAX; size];
        if hashes.is_empty() {
            return Self::Maglev(Vec::new());
        }
        let greatest = weights.iter().copied().max().unwrap_or(1).max(1);
        let walk = |hash: u64| (hash % places, hash.rotate_left(32) % (places - 1) + 1);
        let walks: Vec<(u64, u64)> = hashes.into_iter().map(walk).collect();
        let (mut next, mut due, mut left) = (vec![0_u64; walks.len()], vec![0_u64; walks.len()], size);
        while left > 0 {
            for (number, (offset, skip)) in walks.iter().enumerate() {
                // The heaviest takes a place each round, the others as much more rarely as they are lighter.
                due[number] += weights[number];
                if due[number] < greatest || left == 0 {
                    continue;
                }
                due[number] -= greatest;
                loop {
                    let place = ((offset + next[number] * skip) % places) as usize;
                    next[number] += 1;
                    if table[place] == usize::MAX {
                        table[place] = number;
                        left -= 1;
                        break;
                    }
                }
            }
        }
        Self::Maglev(table)
    }

    /// The endpoint of `hash`, then those that stand in for it, each once.
    pub(crate) fn places(&self, hash: u64) -> Vec<usize> {
        match self {
            Self::Ring(points) => {
                let at = points.partition_point(|(point, _)| *point < hash);
                once(points[at..].iter().chain(&points[..at]).map(|(_, number)| *number))
            }
            Self::Maglev(table) if table.is_empty() => Vec::new(),
            Self::Maglev(table) => {
                let at = (hash % table.len() as u64) as usize;
                once(table[at..].iter().chain(&table[..at]).copied())
            }
        }
    }
}

/// Each number when it comes first; no more than stand-ins that a request could ever try.
fn once(numbers: impl Iterator<Item = usize>) -> Vec<usize> {
    const MOST: usize = 16;
    let mut seen = BTreeSet::new();
    numbers.take(MOST * 64).filter(|number| seen.insert(*number)).take(MOST).collect()
}
