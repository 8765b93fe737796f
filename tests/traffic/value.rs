//! The small values that cases are written with.

use serde::{Deserialize, Deserializer, de};
use std::collections::BTreeMap;
use std::time::Duration;

/// A length of time, written as `250ms` or `2s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub struct Time(pub Duration);

/// One text, or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Texts {
    One(String),
    Many(Vec<String>),
}

/// One value for all of the requests, or each one's share of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Statuses {
    All(u16),
    Shares(BTreeMap<u16, f64>),
}

/// How far a count may be from its share of a number of throws, in standard deviations: once in 150 000 runs by chance.
const DEVIATIONS: f64 = 4.5;

/// Whether `count` out of `total` may well be `share` of them.
pub fn is_share(count: usize, total: usize, share: f64) -> bool {
    let (count, total) = (count as f64, total as f64);
    let tolerance = DEVIATIONS * (total * share * (1.0 - share)).sqrt();
    // What is always or never leaves nothing to chance.
    let least = if share > 0.0 && share < 1.0 { 1.0 } else { 0.0 };
    (count - share * total).abs() <= tolerance.max(least)
}

/// Why `counts` are not the `shares` of `total`, if they are not.
pub fn differ<K: Ord + Clone + std::fmt::Display>(
    shares: &BTreeMap<K, f64>,
    counts: &BTreeMap<K, usize>,
    total: usize,
) -> Option<String> {
    let of = |key: &K| (counts.get(key).copied().unwrap_or(0), shares.get(key).copied().unwrap_or(0.0));
    let keys: std::collections::BTreeSet<&K> = shares.keys().chain(counts.keys()).collect();
    let is_wrong = |key: &&K| {
        let (count, share) = of(key);
        !is_share(count, total, share)
    };
    keys.into_iter().any(|key| is_wrong(&key)).then(|| {
        let list = |each: Vec<String>| format!("{{{}}}", each.join(", "));
        let wanted = shares.iter().map(|(key, share)| format!("{key}: {share}")).collect();
        let came = counts.iter().map(|(key, count)| format!("{key}: {count}")).collect();
        format!("expected the shares {} of {total}, saw {}", list(wanted), list(came))
    })
}

// === impl Time ===

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let refuse = || de::Error::custom(format!("{text:?} is not a time such as 250ms or 1.5s"));
        let seconds = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
            (Some(number), _) => number.parse::<f64>().map_err(|_| refuse())? / 1000.0,
            (None, Some(number)) => number.parse::<f64>().map_err(|_| refuse())?,
            _ => return Err(refuse()),
        };
        Duration::try_from_secs_f64(seconds).map(Self).map_err(|_| refuse())
    }
}

// === impl Texts ===

impl Texts {
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
        .iter()
        .map(String::as_str)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut String> {
        match self {
            Self::One(text) => std::slice::from_mut(text),
            Self::Many(texts) => texts,
        }
        .iter_mut()
    }
}

// === impl Statuses ===

impl Statuses {
    /// The share of each status.
    pub fn shares(&self) -> BTreeMap<u16, f64> {
        match self {
            Self::All(status) => [(*status, 1.0)].into(),
            Self::Shares(shares) => shares.clone(),
        }
    }
}
