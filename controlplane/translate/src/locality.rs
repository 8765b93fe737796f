//! In which order, and in which shares, the endpoints of an upstream are used: by where they are.
//!
//! Without a setting the own cluster's go before the peers'. With one, endpoints near the caller go before those far
//! away, whether outliers are detected or not; shares and failover may stand together.

use crate::assignment::{LocalityEndpoints, WeightedEndpoint};
use crate::endpoint::NETWORK_LABEL;
use crate::value::number;
use crate::zone;
use api::envoy::envoy::config::core::v3 as core;
use config::{Distribution, LocalitySetting, ZoneAware};
use model::Locality;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use xds::Node;

/// An endpoint with what tells how near it is.
pub(crate) struct Located {
    pub(crate) locality: Locality,
    /// Whether it stands for a peer.
    pub(crate) is_remote: bool,
    pub(crate) cluster: String,
    pub(crate) labels: Arc<BTreeMap<String, String>>,
    pub(crate) endpoint: WeightedEndpoint,
}

/// The sum of the weights of all localities that are given shares: fine enough for parts of a percent.
pub(crate) const WHOLE: u64 = 1_000_000;

/// As [`arranged`], where `callers` are the places of all who call as `node` does, itself among them: the zones of its region
/// share requests.
pub(crate) fn shared(
    node: &Node,
    zones: &ZoneAware,
    callers: &[Locality],
    mut all: Vec<Located>,
) -> Vec<LocalityEndpoints> {
    let is_near = |located: &Located| !located.is_remote && located.locality.region == node.locality.region;
    let near = all.iter().filter(|located| is_near(located)).count();
    let sums = zone::sums(all.iter().filter(|located| is_near(located)));
    let shares = zone::shares(&node.locality, callers, &sums).filter(|_| near >= zones.least as usize);
    let mut ranked: BTreeMap<(u32, Locality), Vec<WeightedEndpoint>> = BTreeMap::new();
    for located in &mut all {
        let far = 2 + 2 * by_distance(node, &zones.failover, located) + u32::from(located.is_remote);
        let rank = match &shares {
            _ if !is_near(located) => far,
            None => 0,
            Some(shares) => match shares.get(&located.locality.zone) {
                Some(share) => {
                    let sum = sums.get(&located.locality.zone).copied().unwrap_or(1);
                    located.endpoint.weight = number(zone::weight(*share, &located.endpoint, sum));
                    0
                }
                None => 1,
            },
        };
        ranked.entry((rank, located.locality.clone())).or_default().push(located.endpoint.clone());
    }
    ordered(ranked)
}

/// `all` by priority and locality.
pub(crate) fn arranged(node: &Node, setting: Option<&LocalitySetting>, all: Vec<Located>) -> Vec<LocalityEndpoints> {
    let shares = setting.filter(|setting| setting.enabled).and_then(|setting| shares(node, setting));
    let rank = |located: &Located| match setting {
        None => Some(u32::from(located.is_remote)),
        Some(setting) if !setting.enabled => Some(0),
        Some(setting) => ranked(node, setting, shares, located),
    };
    let mut by_place: BTreeMap<(u32, Locality), Vec<WeightedEndpoint>> = BTreeMap::new();
    for located in all {
        if let Some(rank) = rank(&located) {
            by_place.entry((rank, located.locality)).or_default().push(located.endpoint);
        }
    }
    if let Some(shares) = shares {
        share_out(shares, &mut by_place);
    }
    ordered(by_place)
}

fn ordered(by_place: BTreeMap<(u32, Locality), Vec<WeightedEndpoint>>) -> Vec<LocalityEndpoints> {
    // Envoy wants priorities without gaps.
    let ranks: BTreeSet<u32> = by_place.keys().map(|(rank, _)| *rank).collect();
    let priority = |rank: u32| ranks.range(..rank).count() as u32;
    by_place
        .into_iter()
        .map(|((rank, locality), endpoints)| LocalityEndpoints {
            locality: Some(proto(&locality)),
            weight: number(sum(&endpoints)),
            endpoints,
            priority: priority(rank),
        })
        .collect()
}

fn shares<'a>(node: &Node, setting: &'a LocalitySetting) -> Option<&'a Distribution> {
    let own = node.locality.to_string();
    setting.distribute.iter().find(|distribution| distribution.is_from(&own))
}

/// The lower, the sooner used; none if never. Of equals the own cluster's go first.
fn ranked(node: &Node, setting: &LocalitySetting, shares: Option<&Distribution>, located: &Located) -> Option<u32> {
    if let Some(shares) = shares {
        if shares.pattern_of(&located.locality.to_string()).is_some() {
            return Some(0);
        }
        if setting.failover.is_empty() && setting.failover_priority.is_empty() {
            return None;
        }
    }
    Some(1 + 2 * by_distance(node, setting, located) + u32::from(located.is_remote))
}

fn by_distance(node: &Node, setting: &LocalitySetting, located: &Located) -> u32 {
    if setting.failover_priority.is_empty() {
        distance(node, setting, &located.locality)
    } else {
        strangeness(node, setting, located)
    }
}

/// 0 in the same subzone, 1 in the same zone, 2 in the same region, 3 in the region to fail over to, 4 elsewhere.
fn distance(node: &Node, setting: &LocalitySetting, there: &Locality) -> u32 {
    let here = &node.locality;
    let is_next = || setting.failover.iter().any(|(from, to)| *from == *here.region && *to == *there.region);
    match (here.region == there.region, here.zone == there.zone, here.subzone == there.subzone) {
        (true, true, true) => 0,
        (true, true, false) => 1,
        (true, false, _) => 2,
        (false, ..) if is_next() => 3,
        (false, ..) => 4,
    }
}

/// How many of the labels to compare are not in common, counted from the first that is not.
fn strangeness(node: &Node, setting: &LocalitySetting, located: &Located) -> u32 {
    let is_common = |(key, value): &&(String, Option<String>)| {
        let there = label(key, &located.locality, &located.cluster, &located.labels);
        let own_network = Some(node.network.as_str()).filter(|network| key == NETWORK_LABEL && !network.is_empty());
        let here = own_network.or_else(|| label(key, &node.locality, &node.cluster, &node.labels));
        there.is_some() && there == value.as_deref().or(here)
    };
    let common = setting.failover_priority.iter().take_while(is_common).count();
    (setting.failover_priority.len() - common) as u32
}

/// A label, or what Kubernetes and Istio call by a label's name.
fn label<'a>(
    key: &str,
    locality: &'a Locality,
    cluster: &'a str,
    labels: &'a BTreeMap<String, String>,
) -> Option<&'a str> {
    let known = match key {
        "topology.kubernetes.io/region" => &*locality.region,
        "topology.kubernetes.io/zone" => &*locality.zone,
        "topology.istio.io/subzone" => &*locality.subzone,
        "topology.istio.io/cluster" => cluster,
        _ => labels.get(key).map_or("", String::as_str),
    };
    Some(known).filter(|value| !value.is_empty())
}

/// Gives the endpoints of each locality that has a share weights that come to it.
fn share_out(shares: &Distribution, by_place: &mut BTreeMap<(u32, Locality), Vec<WeightedEndpoint>>) {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    let pattern = |locality: &Locality| shares.pattern_of(&locality.to_string());
    for ((rank, locality), endpoints) in by_place.iter() {
        if let Some((pattern, _)) = pattern(locality).filter(|_| *rank == 0) {
            *sums.entry(pattern.to_owned()).or_default() += u64::from(sum(endpoints));
        }
    }
    for ((rank, locality), endpoints) in by_place.iter_mut() {
        let Some((pattern, share)) = pattern(locality).filter(|_| *rank == 0) else { continue };
        let whole = sums.get(pattern).copied().unwrap_or(1).max(1);
        for endpoint in endpoints {
            let weight = endpoint.weight.as_ref().map_or(1, |weight| u64::from(weight.value));
            let part = WHOLE * u64::from(share) * weight / (100 * whole);
            endpoint.weight = number(u32::try_from(part.max(1)).unwrap_or(u32::MAX));
        }
    }
}

fn sum(endpoints: &[WeightedEndpoint]) -> u32 {
    let weights = endpoints.iter().filter_map(|endpoint| endpoint.weight.as_ref());
    weights.fold(0, |sum: u32, weight| sum.saturating_add(weight.value))
}

fn proto(locality: &Locality) -> core::Locality {
    core::Locality {
        region: locality.region.to_string(),
        zone: locality.zone.to_string(),
        sub_zone: locality.subzone.to_string(),
    }
}
