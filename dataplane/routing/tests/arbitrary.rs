//! Whatever arrives and whatever is drawn: no panic, and never an endpoint that should have been left alone.

use api::envoy::envoy::config::cluster::v3::{
    Cluster, cluster::ClusterDiscoveryType, cluster::DiscoveryType, cluster::LbPolicy,
};
use api::envoy::envoy::config::core::v3::{Address, SocketAddress, address, socket_address::PortSpecifier};
use api::envoy::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use api::envoy::google::protobuf::UInt32Value;
use isthmus_routing::{Resources, Upstream, Wanted};
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use std::sync::Arc;
use std::time::Duration;
use xds::{Resource, type_url};

const NAME: &str = "outbound|80||a";

/// An upstream whose endpoints have these weights and priorities.
fn upstream(endpoints: &[(u32, u32)]) -> Arc<Upstream> {
    let endpoint = |(index, (weight, priority)): (usize, &(u32, u32))| {
        let socket = SocketAddress {
            address: format!("10.0.0.{}", index + 1),
            port_specifier: Some(PortSpecifier::PortValue(80)),
            ..SocketAddress::default()
        };
        let at = Address { address: Some(address::Address::SocketAddress(socket)) };
        let one = LbEndpoint {
            load_balancing_weight: Some(UInt32Value { value: *weight }),
            host_identifier: Some(HostIdentifier::Endpoint(Endpoint { address: Some(at), ..Endpoint::default() })),
            ..LbEndpoint::default()
        };
        LocalityLbEndpoints { lb_endpoints: vec![one], priority: *priority, ..LocalityLbEndpoints::default() }
    };
    let assignment = ClusterLoadAssignment {
        cluster_name: NAME.into(),
        endpoints: endpoints.iter().enumerate().map(endpoint).collect(),
        ..ClusterLoadAssignment::default()
    };
    let cluster = Cluster {
        name: NAME.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        lb_policy: LbPolicy::LeastRequest.into(),
        ..Cluster::default()
    };
    let mut resources = Resources::default();
    resources.apply(type_url::CLUSTER, &[Resource::new(NAME, &cluster)], &[]).expect("an upstream");
    resources.apply(type_url::ENDPOINT, &[Resource::new(NAME, &assignment)], &[]).expect("endpoints");
    resources.table().upstreams[NAME].clone()
}

/// Random enough to draw from, and the same every time.
fn draws(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 11
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body in vec(any::<u8>(), 0..200), which in 0..6_usize) {
        let resource = Resource::from_body("any", body.into());
        let _ = Resources::default().apply(type_url::ORDER[which], &[resource], &[]);
    }

    #[test]
    fn the_first_usable_priority_is_chosen_from(
        endpoints in vec((any::<u32>(), 0..3_u32), 0..8),
        avoided in vec(any::<bool>(), 8),
        tried in vec(any::<bool>(), 8),
        seed in any::<u64>(),
    ) {
        let upstream = upstream(&endpoints);
        let now = Duration::from_secs(59);
        let flagged = |flags: &[bool]| -> Vec<u64> {
            upstream.endpoints.iter().zip(flags).filter(|(_, flag)| **flag).map(|(endpoint, _)| endpoint.id).collect()
        };
        let (bad, seen) = (flagged(&avoided), flagged(&tried));
        for endpoint in upstream.endpoints.iter().filter(|endpoint| bad.contains(&endpoint.id)) {
            endpoint.load.failed(now);
        }
        let usable = upstream.endpoints.iter().filter(|e| !bad.contains(&e.id) && !seen.contains(&e.id));
        let best = usable.map(|endpoint| endpoint.facts.priority).min();
        let wanted = Wanted { destination: ([0, 0, 0, 0], 0).into(), hash: None, tried: &seen, now };
        let picked = upstream.pick(&wanted, draws(seed));
        prop_assert_eq!(picked.is_some(), !endpoints.is_empty());
        if let (Some(picked), Some(best)) = (picked, best) {
            prop_assert_eq!(picked.facts.priority, best);
            prop_assert!(!bad.contains(&picked.id) && !seen.contains(&picked.id));
        }
    }
}

#[test]
fn shares_follow_weights_and_load() {
    let upstream = upstream(&[(1, 0), (3, 0)]);
    let mut draw = draws(7);
    let mut share = || {
        let count = 10_000;
        let heavy = (0..count).filter(|_| {
            let wanted = Wanted { destination: ([0, 0, 0, 0], 0).into(), hash: None, tried: &[], now: Duration::ZERO };
            let picked = upstream.pick(&wanted, &mut draw).expect("one");
            picked.facts.weight == 3
        });
        f64::from(u32::try_from(heavy.count()).expect("few")) / f64::from(count)
    };
    let idle = share();
    assert!(idle > 0.7, "three quarters or more go to the endpoint of three times the weight: {idle}");
    for _ in 0..1000 {
        upstream.endpoints[1].load.begin();
    }
    let busy = share();
    assert!(busy < 0.7 && busy < idle, "a busy endpoint gets less: {busy}");
}
