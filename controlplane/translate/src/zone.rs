//! Zone-aware balancing, as Envoy does it, decided here: our proxy and Envoy then follow the same weights.
//!
//! Each zone's callers stay in it as far as the zone's share of the endpoints goes. What a zone's callers have beyond
//! that goes to zones that have endpoints beyond their own callers' share, in proportion.

use crate::assignment::WeightedEndpoint;
use crate::locality::{Located, WHOLE};
use model::Locality;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Weights by zone.
pub(crate) type Sums = BTreeMap<Arc<str>, u64>;

/// The weights of all endpoints of each zone.
pub(crate) fn sums<'a>(all: impl Iterator<Item = &'a Located>) -> Sums {
    let mut sums = Sums::new();
    for located in all {
        *sums.entry(located.locality.zone.clone()).or_default() += weight_of(&located.endpoint);
    }
    sums
}

/// The share of [`WHOLE`] of each zone that is used by a caller at `here`; none if zones cannot count, because there are
/// no endpoints in its own. `endpoints` are the weights of the zones of the region.
pub(crate) fn shares(here: &Locality, callers: &[Locality], endpoints: &Sums) -> Option<Sums> {
    let whole: u64 = endpoints.values().sum();
    let own = *endpoints.get(&here.zone).filter(|sum| **sum > 0)?;
    let near = || callers.iter().filter(|caller| caller.region == here.region);
    let total = near().count().max(1) as u64;
    let of_callers = |zone: &str| WHOLE * near().filter(|caller| *caller.zone == *zone).count() as u64 / total;
    let of_endpoints = |sum: u64| WHOLE * sum / whole;
    let here_calls = of_callers(&here.zone).max(1);
    if of_endpoints(own) >= here_calls {
        return Some([(here.zone.clone(), WHOLE)].into());
    }
    let stays = WHOLE * of_endpoints(own) / here_calls;
    let others = || endpoints.iter().filter(|(zone, _)| **zone != here.zone);
    let spare = |(zone, sum): (&Arc<str>, &u64)| (zone.clone(), of_endpoints(*sum).saturating_sub(of_callers(zone)));
    let room: Sums = others().map(spare).filter(|(_, room)| *room > 0).collect();
    let all_room: u64 = room.values().sum::<u64>().max(1);
    let mut shares: Sums = room.into_iter().map(|(zone, room)| (zone, (WHOLE - stays) * room / all_room)).collect();
    shares.insert(here.zone.clone(), stays);
    Some(shares)
}

/// The weight of one of a zone's endpoints, whose weights come to `sum` together, for the zone to have `share`.
pub(crate) fn weight(share: u64, endpoint: &WeightedEndpoint, sum: u64) -> u32 {
    u32::try_from((share * weight_of(endpoint) / sum.max(1)).max(1)).unwrap_or(u32::MAX)
}

fn weight_of(endpoint: &WeightedEndpoint) -> u64 {
    endpoint.weight.as_ref().map_or(1, |weight| u64::from(weight.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(zone: &str) -> Locality {
        Locality { region: "r".into(), zone: zone.into(), subzone: "".into() }
    }

    fn weights(all: &[(&str, u64)]) -> Sums {
        all.iter().map(|(zone, weight)| ((*zone).into(), *weight)).collect()
    }

    #[test]
    fn a_zone_with_endpoints_enough_keeps_its_callers() {
        let shares = shares(&at("a"), &[at("a"), at("b")], &weights(&[("a", 3), ("b", 3)]));
        assert_eq!(shares, Some(weights(&[("a", WHOLE)])));
    }

    #[test]
    fn what_is_beyond_a_zones_share_goes_where_there_is_room() {
        let callers = [at("a"), at("a"), at("a"), at("b")];
        let shares = shares(&at("a"), &callers, &weights(&[("a", 2), ("b", 4), ("c", 2)])).expect("shares");
        // A quarter of the endpoints for three quarters of the callers: a third stays; of the rest b and c have room
        // for a quarter each.
        assert_eq!(shares, weights(&[("a", 333_333), ("b", 333_333), ("c", 333_333)]));
    }

    #[test]
    fn without_endpoints_in_its_own_zone_zones_do_not_count() {
        assert_eq!(shares(&at("a"), &[at("a")], &weights(&[("b", 1)])), None);
    }
}
