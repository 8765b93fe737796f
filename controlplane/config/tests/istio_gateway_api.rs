//! Istio's own samples of the Gateway API, taken unchanged: what they come to. `ISTIO_DIR` names the folder that holds
//! `samples`; a clone does not have it, so this target is built with the feature `istio-tests` only.

use isthmus_config::{HttpAction, Intent, Split};
use std::path::PathBuf;

fn sample(path: &str) -> Intent {
    let folder = PathBuf::from(std::env::var("ISTIO_DIR").expect("ISTIO_DIR names Istio's data")).join("samples");
    let text = std::fs::read_to_string(folder.join(path)).expect(path);
    let documents = resource::parse(path, &text).unwrap_or_else(|error| panic!("{error}")).documents;
    let intent = Intent::from_documents(&documents).unwrap_or_else(|errors| panic!("{errors:?}"));
    assert_eq!(intent.warnings, [], "{path}");
    intent
}

fn shares(splits: &[Split]) -> Vec<(String, u32)> {
    splits.iter().map(|split| (split.destination.host.to_string(), split.weight)).collect()
}

/// Where requests to `host` go.
fn route(intent: &Intent, host: &str) -> Vec<(String, u32)> {
    let host = host.parse().expect("a host");
    let service = intent.virtual_service_for(&"default".parse().expect("a namespace"), &host, 9080).expect("routed");
    assert_eq!((service.http.len(), service.port), (1, Some(9080)));
    let HttpAction::Route(splits) = &service.http[0].action else { panic!("forwarded") };
    shares(splits)
}

fn full(name: &str) -> String {
    format!("{name}.default.svc.cluster.local")
}

#[test]
fn bookinfo_is_routed_by_version() {
    let reviews = |path: &str| route(&sample(path), &full("reviews"));
    let split = |shares: &[(&str, u32)]| -> Vec<(String, u32)> {
        shares.iter().map(|(name, weight)| (full(name), *weight)).collect()
    };
    let folder = "bookinfo/gateway-api";
    let all = sample(&format!("{folder}/route-all-v1.yaml"));
    for name in ["reviews", "productpage", "ratings", "details"] {
        assert_eq!(route(&all, &full(name)), split(&[(&format!("{name}-v1"), 1)]));
    }
    let wanted: [(&str, &[(&str, u32)]); 4] = [
        ("route-reviews-v1", &[("reviews-v1", 1)]),
        ("route-reviews-v3", &[("reviews-v3", 1)]),
        ("route-reviews-50-v3", &[("reviews-v1", 50), ("reviews-v3", 50)]),
        ("route-reviews-90-10", &[("reviews-v1", 90), ("reviews-v2", 10)]),
    ];
    for (name, shares) in wanted {
        assert_eq!(reviews(&format!("{folder}/{name}.yaml")), split(shares), "{name}");
    }
}

#[test]
fn bookinfo_has_a_gateway() {
    let intent = sample("bookinfo/gateway-api/bookinfo-gateway.yaml");
    let server = &intent.gateways[0].servers[0];
    assert_eq!((server.port, server.is_http()), (80, true));
    let [service] = &intent.virtual_services[..] else { panic!("one VirtualService") };
    assert!(intent.gateways[0].is_named(&service.gateways));
    assert_eq!(service.http.len(), 5);
    for route in &service.http {
        let HttpAction::Route(splits) = &route.action else { panic!("forwarded") };
        assert_eq!(shares(splits), [(full("productpage"), 1)]);
    }
}

#[test]
fn the_other_samples_are_taken() {
    let count = |path: &str| {
        let intent = sample(path);
        let tcp = intent.virtual_services.iter().map(|service| service.tcp.len()).sum();
        (intent.gateways.len(), intent.virtual_services.len(), tcp)
    };
    assert_eq!(count("httpbin/gateway-api/httpbin-gateway.yaml"), (1, 1, 0));
    assert_eq!(count("helloworld/gateway-api/helloworld-gateway.yaml"), (1, 1, 0));
    assert_eq!(count("tcp-echo/gateway-api/tcp-echo-all-v1.yaml"), (1, 1, 1));
}
