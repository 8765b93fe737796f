//! What localities have to do with the choice of an endpoint.

use resource::{Field, ResourceError};
use std::collections::BTreeMap;

/// Istio's `localityLbSetting`. Unlike there, `distribute` and a failover may stand together: shares among the
/// localities that are healthy, in the order of the failover.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalitySetting {
    /// Whether localities count at all.
    pub enabled: bool,
    /// The shares of localities, by the caller's.
    pub distribute: Vec<Distribution>,
    /// Where to go when all in a region fail: from one region to another.
    pub failover: Vec<(String, String)>,
    /// Labels, perhaps with values, in the order of their weight: the more of the first ones an endpoint has in common
    /// with the caller, the better.
    pub failover_priority: Vec<(String, Option<String>)>,
}

/// Istio's `zoneAwareLbSetting`: requests stay in the caller's zone as far as its endpoints' share of all in the region
/// goes, and the rest goes to the region's other zones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneAware {
    /// How many endpoints there must be in the caller's region; with fewer, zones do not count.
    pub least: u32,
    /// Where to go when all in the region fail, as [`LocalitySetting`] has it.
    pub failover: LocalitySetting,
}

/// How requests from a locality are shared out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// The callers' locality, perhaps ending in `*`.
    pub from: String,
    /// The percentage of each locality; in sum 100.
    pub to: BTreeMap<String, u32>,
}

/// Envoy's, and Istio's.
const LEAST_ENDPOINTS: u32 = 6;

// === impl LocalitySetting ===

impl LocalitySetting {
    pub(crate) fn read(at: &Field<'_>) -> Result<Option<Self>, ResourceError> {
        if !at.is_present() {
            return Ok(None);
        }
        let fields = at.fields(&["distribute", "failover", "failoverPriority", "enabled"])?;
        Ok(Some(Self {
            enabled: fields.get("enabled").boolean()?.unwrap_or(true),
            distribute: distribute(&fields.get("distribute"))?,
            failover: failover(&fields.get("failover"))?,
            failover_priority: failover_priority(&fields.get("failoverPriority"))?,
        }))
    }
}

// === impl ZoneAware ===

impl ZoneAware {
    /// None if it is not written, or says that it is off.
    pub(crate) fn read(at: &Field<'_>) -> Result<Option<Self>, ResourceError> {
        let fields = at.fields(&["enabled", "failover", "failoverPriority", "minClusterSize"])?;
        let least = fields.get("minClusterSize").integer(1..=u32::MAX, "a number of endpoints, 1 or more")?;
        let enabled = fields.get("enabled").boolean()?.unwrap_or(true);
        let failover = LocalitySetting {
            enabled,
            distribute: Vec::new(),
            failover: failover(&fields.get("failover"))?,
            failover_priority: failover_priority(&fields.get("failoverPriority"))?,
        };
        Ok((at.is_present() && enabled).then(|| Self { least: least.unwrap_or(LEAST_ENDPOINTS), failover }))
    }
}

fn failover(at: &Field<'_>) -> Result<Vec<(String, String)>, ResourceError> {
    let mut failover = Vec::new();
    for item in at.items()? {
        let inside = item.fields(&["from", "to"])?;
        let (from, to) = (region(&inside.get("from"))?, region(&inside.get("to"))?);
        if from == to {
            return Err(inside.get("to").refuse("another region than the one that fails"));
        }
        failover.push((from, to));
    }
    Ok(failover)
}

fn failover_priority(at: &Field<'_>) -> Result<Vec<(String, Option<String>)>, ResourceError> {
    let mut priority = Vec::new();
    for item in at.items()? {
        let text = item.required_text()?;
        let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value.to_owned())));
        if key.is_empty() {
            return Err(item.refuse("KEY or KEY=VALUE of a label"));
        }
        priority.push((key.to_owned(), value));
    }
    Ok(priority)
}

fn distribute(at: &Field<'_>) -> Result<Vec<Distribution>, ResourceError> {
    let mut distributions = Vec::new();
    for item in at.items()? {
        let fields = item.fields(&["from", "to"])?;
        let mut to = BTreeMap::new();
        for (key, share) in fields.get("to").members()? {
            let percent = share.integer(1..=100, "a percentage, 1 to 100")?;
            locality(&share, key)?;
            to.insert(key.to_owned(), percent.ok_or_else(|| share.refuse("a percentage, 1 to 100"))?);
        }
        if to.values().sum::<u32>() != 100 {
            return Err(fields.get("to").refuse("percentages whose sum is 100"));
        }
        let from = fields.get("from");
        distributions.push(Distribution { from: locality(&from, from.required_text()?)?, to });
    }
    Ok(distributions)
}

fn region(at: &Field<'_>) -> Result<String, ResourceError> {
    let text = at.required_text()?;
    if text.is_empty() || text.contains(['/', '*']) {
        return Err(at.refuse("the name of a region, without '/' and '*'"));
    }
    Ok(text.to_owned())
}

fn locality(at: &Field<'_>, text: &str) -> Result<String, ResourceError> {
    let parts: Vec<&str> = text.split('/').collect();
    let star_inside =
        parts.iter().enumerate().any(|(i, part)| part.contains('*') && (*part != "*" || i + 1 != parts.len()));
    if parts.len() > 3 || parts.contains(&"") || star_inside {
        return Err(at.refuse("REGION, REGION/ZONE or REGION/ZONE/SUBZONE; the last may be '*'"));
    }
    Ok(text.to_owned())
}

// === impl Distribution ===

impl Distribution {
    /// Whether this is for callers in `locality` (`REGION/ZONE/SUBZONE`).
    pub fn is_from(&self, locality: &str) -> bool {
        covers(&self.from, locality)
    }

    /// The share of the pattern that covers `locality` most closely.
    pub fn pattern_of(&self, locality: &str) -> Option<(&str, u32)> {
        let covering = self.to.iter().filter(|(pattern, _)| covers(pattern, locality));
        covering.max_by_key(|(pattern, _)| pattern.len()).map(|(pattern, share)| (pattern.as_str(), *share))
    }
}

/// Whether `pattern` means `locality`: part for part, where `*` and what is not said mean anything.
fn covers(pattern: &str, locality: &str) -> bool {
    let mut parts = locality.split('/');
    pattern.split('/').all(|wanted| {
        let part = parts.next().unwrap_or_default();
        wanted == "*" || wanted == part
    })
}
