//! What is made of the last translation is what a whole translation makes; and it costs what has changed.

mod fixture;

use config::Intent;
use fixture::{HOST, OWN, catalog, endpoint, identity, import, node, port, service, text};
use isthmus_translate::{Change, retranslate, translate};
use model::{
    Address, Audience, Catalog, ClusterId, Endpoint, Location, Path, PeerHealth, Protocol, Resolution, Service,
    ServiceKey,
};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert_eq, proptest};
use std::sync::Arc;
use xds::{Interception, Node, NodeKind, Snapshot, type_url};

/// A step: which service, what happens to it, and how.
type Step = (usize, u8, u8);

const RULES: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: shop}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer: {localityLbSetting: {enabled: true, failoverPriority: [topology.kubernetes.io/region, version]}}
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
  - {name: here, labels: {topology.istio.io/cluster: east}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: all, namespace: istio-system}
spec:
  host: '*.svc.cluster.local'
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}, outlierDetection: {consecutive5xxErrors: 3}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews]
  http:
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 80}
    - {destination: {host: reviews, subset: v2}, weight: 20}
";

const SIDECAR: &str = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec:
  ingress:
  - {port: {number: 9080, name: http, protocol: HTTP}, defaultEndpoint: 127.0.0.1:80}
  egress:
  - {port: {number: 9000, name: tcp, protocol: TCP}, bind: 127.0.0.1, hosts: ['shop/*']}
  - {hosts: ['./ratings.shop.svc.cluster.local', 'other/*']}
";

const EAST_WEST: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: between, namespace: shop}
spec:
  selector: {app: reviews}
  servers:
  - {port: {number: 15443, name: tls, protocol: TLS}, tls: {mode: AUTO_PASSTHROUGH}, hosts: ['*.local']}
  - {port: {number: 9080, name: http, protocol: HTTP}, hosts: ['*']}
";

fn services() -> Vec<Service> {
    let ports = || vec![port(9080, Protocol::Http), port(9000, Protocol::Tcp)];
    let mut reviews = service(HOST, "240.240.0.1", ports());
    reviews.endpoints = vec![endpoint(OWN, "reviews"), endpoint("10.0.0.2", "reviews")];
    reviews.imports.insert(text("west"), import("west", &reviews, 2, 2));
    let mut elsewhere = service(HOST, "240.240.0.2", ports());
    elsewhere.key.namespace = text("other");
    let mut ratings = service("ratings.shop.svc.cluster.local", "", ports());
    ratings.endpoints = vec![endpoint("10.0.0.3", "ratings")];
    let kinds = vec![port(443, Protocol::Tls), port(7000, Protocol::Auto), port(53, Protocol::Udp)];
    let details = service("details.other.svc.cluster.local", "240.240.0.4", kinds);
    let mut outside = service("api.example.com", "240.240.0.5", vec![port(80, Protocol::Http)]);
    (outside.resolution, outside.location) = (Resolution::Dns, Location::External);
    outside.endpoints = vec![named("api.example.com")];
    let mut anywhere = service("*.example.org", "", vec![port(443, Protocol::Tls)]);
    (anywhere.resolution, anywhere.location) = (Resolution::None, Location::External);
    let mut one_of_many = service("db.example.com", "240.240.0.6", vec![port(5432, Protocol::Tcp)]);
    (one_of_many.resolution, one_of_many.location) = (Resolution::DnsRoundRobin, Location::External);
    vec![reviews, elsewhere, ratings, details, outside, anywhere, one_of_many]
}

fn named(name: &str) -> Endpoint {
    Endpoint { address: Address::Name(text(name)), identity: None, mtls: false, ..endpoint(OWN, "x") }
}

fn made(how: u8) -> Endpoint {
    let account = if how & 4 == 0 { "reviews" } else { "other" };
    let mut made = endpoint(&format!("10.0.0.{}", how % 4 + 1), account);
    made.mtls = how & 8 == 0;
    let version = if how & 16 == 0 { "v1" } else { "v2" };
    made.labels = Arc::new([("version".to_owned(), version.to_owned())].into());
    made.locality = text(if how & 32 == 0 { "eu/a" } else { "us/b" });
    if how & 64 != 0 {
        made.identity = None;
    }
    if how == 255 { named("backend.example.com") } else { made }
}

/// What happens to one service, or to the rest of the catalog.
fn step(catalog: &mut Catalog, keys: &[ServiceKey], (which, what, how): Step) {
    let key = &keys[which % keys.len()];
    let (at, peer) = (usize::from(how), if how & 1 == 0 { "west" } else { "north" });
    if what == 20 {
        let service = services().swap_remove(which % keys.len());
        match catalog.services.remove(key) {
            Some(_) => {}
            None => drop(catalog.services.insert(key.clone(), Arc::new(service))),
        }
        return;
    }
    let Some(service) = catalog.services.get_mut(key) else { return };
    match what {
        21 => {
            let health = [PeerHealth::Live, PeerHealth::Suspect, PeerHealth::Unreachable][at % 3];
            let peer = catalog.peers.get_mut(&text::<ClusterId>(peer)).expect("there");
            Arc::make_mut(peer).health = health;
        }
        22 => {
            let gateway = catalog.gateways.values_mut().next().expect("there");
            let path = [Path::Unknown, Path::Connected, Path::Unreachable][at % 3];
            Arc::make_mut(gateway).paths.insert(text(peer), path);
        }
        23 => catalog.bundles.values_mut().for_each(|bundle| bundle.pem = format!("PEM {how}").into()),
        _ => edit(Arc::make_mut(service), what, how),
    }
}

fn edit(service: &mut Service, what: u8, how: u8) {
    let peer = if how & 1 == 0 { "west" } else { "north" };
    let count = service.endpoints.len();
    match what {
        0..=4 => service.endpoints.push(made(how)),
        5..=7 => drop((count > 0).then(|| service.endpoints.remove(usize::from(how) % count))),
        8..=9 => service.endpoints.iter_mut().for_each(|endpoint| endpoint.weight = u32::from(how % 3) + 1),
        10..=11 => service.endpoints.reverse(),
        12..=13 => {
            let mut offer = import(peer, service, u32::from(how % 3), u32::from(how / 8) + 1);
            let version = if how & 4 == 0 { "v1" } else { "v2" };
            offer.export.groups[0].labels = [("version".to_owned(), version.to_owned())].into();
            offer.export.groups[0].id = text(&format!("{version}-group"));
            service.imports.insert(text(peer), offer);
        }
        14 => drop(service.imports.remove(&text::<ClusterId>(peer))),
        15 => service.audience = Audience::All,
        16 => service.addresses = vec![text(&format!("240.240.1.{how}"))],
        17 => service.addresses.clear(),
        18 => service.ports.push(port(8000 + u16::from(how % 2), Protocol::Http2)),
        _ => drop(service.subject_alt_names.insert(format!("name-{how}.example.com"))),
    }
}

fn intent(number: usize) -> Intent {
    let text = ["", RULES, SIDECAR, EAST_WEST, &[RULES, SIDECAR, EAST_WEST].join("---")][number].to_owned();
    Intent::from_documents(&resource::parse("i.yaml", &text).expect("parses").documents).expect("valid")
}

fn proxy(number: usize) -> Node {
    match number {
        0 => node(Interception::Redirect),
        1 => node(Interception::None),
        2 => Node { kind: NodeKind::Router, ..node(Interception::None) },
        _ => Node { addresses: vec![text("10.9.9.9")], namespace: text("other"), ..node(Interception::Redirect) },
    }
}

/// What of `a` is not in `b`.
fn missing(a: &Snapshot, b: &Snapshot) -> Vec<String> {
    let is_missing = |(of, resource): &(&'static str, &xds::Resource)| b.get(of).get(&resource.name) != Some(resource);
    a.iter().filter(is_missing).map(|(of, resource)| format!("{of} {}", resource.name)).collect()
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    vec((0..7usize, 0..24u8, any::<u8>()), 0..most)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn what_is_made_of_the_last_is_what_is_made_anew(
        before in steps(6), after in steps(4), wanted in 0..5usize, who in 0..4usize,
    ) {
        let mut old = catalog(services());
        let keys: Vec<ServiceKey> = services().into_iter().map(|service| service.key).collect();
        for one in before {
            step(&mut old, &keys, one);
        }
        let mut new = old.clone();
        for one in after {
            step(&mut new, &keys, one);
        }
        let (intent, node, identity) = (intent(wanted), proxy(who), identity());
        let told = translate(&old, &intent, &node, &identity);
        let whole = translate(&new, &intent, &node, &identity);
        let change = Change::between(&old, &new);
        let made = retranslate(&told, &change, &new, &intent, &node, &identity);
        prop_assert_eq!((missing(&whole, &made), missing(&made, &whole)), (vec![], vec![]));
        prop_assert_eq!(made, whole);
    }
}

/// What `edit` does to the first service, as a proxy in another namespace is told it: what was told, and is told now.
fn after(edit: impl Fn(&mut Service)) -> (Snapshot, Snapshot) {
    after_of(HOST, edit)
}

/// As [`after`], of the service of this host.
fn after_of(host: &str, edit: impl Fn(&mut Service)) -> (Snapshot, Snapshot) {
    let (intent, node, identity) = (intent(1), proxy(3), identity());
    let old = catalog(services().into_iter().filter(|service| service.key.namespace == text("shop")).collect());
    let mut new = old.clone();
    edit(Arc::make_mut(new.services.iter_mut().find(|(key, _)| key.host == text(host)).expect("there").1));
    let told = translate(&old, &intent, &node, &identity);
    let made = retranslate(&told, &Change::between(&old, &new), &new, &intent, &node, &identity);
    (told, made)
}

fn shared(a: &Snapshot, b: &Snapshot) -> Vec<&'static str> {
    let is_shared = |of: &&'static str| a.get(of).ptr_eq(b.get(of));
    type_url::ORDER.into_iter().filter(is_shared).collect()
}

#[test]
fn one_endpoint_makes_one_service_s_endpoints_anew() {
    let (old, new) = after(|service| service.endpoints.push(endpoint("10.0.0.4", "reviews")));
    let all_but_endpoints: Vec<_> = type_url::ORDER.into_iter().filter(|of| *of != type_url::ENDPOINT).collect();
    assert_eq!(shared(&old, &new), all_but_endpoints);
    let names = |subset: &str| format!("{} outbound|9080|{subset}|{HOST}", type_url::ENDPOINT);
    let different = missing(&new, &old);
    assert!(different.contains(&names("")) && different.contains(&names("v1")), "{different:?}");
    assert!(!different.contains(&names("v2")), "no endpoint of v2 came: {different:?}");
    assert!(different.iter().all(|name| name.ends_with(HOST)), "{different:?}");
}

#[test]
fn who_may_answer_shows_in_the_upstreams_of_that_service_alone() {
    let (old, new) = after(|service| service.endpoints.push(endpoint("10.0.0.4", "somebody")));
    let expected: Vec<_> = type_url::ORDER.into_iter().skip(2).collect();
    assert_eq!(shared(&old, &new), expected);
    assert!(missing(&new, &old).iter().all(|name| name.ends_with(HOST)));
}

#[test]
fn what_is_not_told_changes_nothing() {
    let (old, new) = after(|service| service.audience = Audience::All);
    assert_eq!(shared(&old, &new), type_url::ORDER);
}

#[test]
fn an_endpoint_of_a_headless_service_shows_in_its_endpoints_and_names_alone() {
    let host = "ratings.shop.svc.cluster.local";
    let (old, new) = after_of(host, |service| service.endpoints.push(endpoint("10.0.0.4", "ratings")));
    let others = [type_url::CLUSTER, type_url::LISTENER, type_url::ROUTE, type_url::SECRET, type_url::PROXY_CONFIG];
    assert_eq!(shared(&old, &new), others);
    let of_another = |name: &String| !name.ends_with(host) && !name.ends_with("nametable");
    assert_eq!(missing(&new, &old).into_iter().filter(of_another).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn an_endpoint_that_is_a_name_shows_in_the_upstreams_of_that_service_alone() {
    let host = "api.example.com";
    let (old, new) = after_of(host, |service| service.endpoints.push(named("b.example.com")));
    assert_eq!(shared(&old, &new), &type_url::ORDER[1..]);
    assert_eq!(missing(&new, &old), [format!("{} outbound|80||{host}", type_url::CLUSTER)]);
}

/// Whoever looked at another service, or at anything but this one's endpoints, would tell what is there: nothing of it is
/// as it was.
#[test]
fn of_a_thousand_services_the_one_that_changed_is_looked_at_alone() {
    let one = |n: usize| {
        let vip = format!("240.240.{}.{}", n / 250, n % 250 + 1);
        let ports = vec![port(80, Protocol::Http), port(9000, Protocol::Tcp)];
        let mut service = service(&format!("service-{n}.shop.svc.cluster.local"), &vip, ports);
        service.endpoints = vec![endpoint("10.0.0.2", "reviews")];
        service
    };
    let old = catalog((0..1000).map(one).collect());
    let mut new = old.clone();
    let changed = new.services.values_mut().nth(500).expect("there");
    Arc::make_mut(changed).endpoints.push(endpoint("10.0.0.4", "reviews"));
    let changed = changed.key.clone();
    let change = Change::between(&old, &new);
    for (key, other) in new.services.iter_mut().filter(|(key, _)| **key != changed) {
        let other = Arc::make_mut(other);
        other.endpoints.push(endpoint("10.0.0.5", "somebody"));
        other.addresses.clear();
        other.ports.push(port(7, Protocol::Auto));
        assert_eq!(*key, other.key);
    }
    let (intent, identity) = (intent(1), identity());
    for node in [proxy(0), proxy(1), proxy(3)] {
        let told = translate(&old, &intent, &node, &identity);
        let made = retranslate(&told, &change, &new, &intent, &node, &identity);
        let names = |port: u16| format!("{} outbound|{port}||{}", type_url::ENDPOINT, changed.host);
        assert_eq!(missing(&made, &told), [names(80), names(9000)]);
        assert_eq!(missing(&told, &made), missing(&made, &told), "nothing is gone");
    }
}
