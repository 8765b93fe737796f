//! What becomes of connections and requests under what the control plane really tells: `translate` on one side.

#[path = "../../../controlplane/translate/tests/fixture/mod.rs"]
mod fixture;

use config::{DefaultEndpoint, Intent};
use fixture::{
    HOST, OWN, catalog, endpoint, identity, import, ingress, node, port, registry_only, service, sidecar, text,
};
use http::{HeaderMap, Method};
use isthmus_routing::{Action, Asked, Beginning, Handler, Resources, RoutingTable, Target, Wanted};
use model::{Protocol, Service};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::time::Duration;
use translate::translate;
use xds::{Interception, Resource, type_url};

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
const VIP: &str = "240.240.0.1";
const NOW: Duration = Duration::from_secs(100);

fn reviews() -> Service {
    let ports = vec![
        port(9080, Protocol::Http),
        port(9100, Protocol::Tcp),
        port(9443, Protocol::Tls),
        port(9200, Protocol::Auto),
    ];
    let mut reviews = service(HOST, VIP, ports);
    reviews.endpoints = vec![endpoint(OWN, "reviews"), endpoint("10.0.0.2", "reviews")];
    reviews
}

fn feed(resources: &mut Resources, services: Vec<Service>, intent: &Intent, interception: Interception) {
    let snapshot = translate(&catalog(services), intent, &node(interception), &identity());
    for of in type_url::ORDER {
        let all: Vec<Resource> = snapshot.get(of).values().cloned().collect();
        resources.apply(of, &all, &[]).unwrap_or_else(|error| panic!("{of}: {error}"));
    }
}

fn table(intent: &Intent) -> RoutingTable {
    let mut resources = Resources::default();
    feed(&mut resources, vec![reviews()], intent, Interception::Redirect);
    assert!(resources.is_complete());
    resources.table()
}

fn at(address: &str) -> SocketAddr {
    text(address)
}

/// Where a redirected connection of the workload goes: `http NAME`, an upstream, or nowhere.
fn outbound(table: &RoutingTable, destination: &str, beginning: Beginning<'_>) -> String {
    let entrance = &table.listeners["virtualOutbound"];
    let listener = table.captured(at(destination)).unwrap_or(entrance);
    handled(listener.chain(at(destination), SOURCE, beginning).map(|chain| &chain.handler))
}

fn asked<'a>(authority: &'a str, target: &'a str) -> Asked<'a> {
    static NONE: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
    Asked { method: &Method::GET, scheme: "http", authority, target, headers: &NONE, metadata: None }
}

fn wanted(tried: &[u64], now: Duration) -> Wanted<'_> {
    Wanted { destination: at("0.0.0.0:0"), hash: None, tried, now }
}

fn handled(handler: Option<&Handler>) -> String {
    match handler {
        None => "nowhere".to_owned(),
        Some(Handler::Tcp(handler)) => handler.target(0).to_string(),
        Some(Handler::Http(_)) => "http".to_owned(),
    }
}

fn hello<'a>(server_name: &'a str, alpn: &'a [String]) -> Beginning<'a> {
    Beginning::Tls { server_name, alpn }
}

#[test]
fn the_workloads_connections_go_by_address_port_and_first_bytes() {
    let table = table(&Intent::default());
    let all = [
        ("10.9.9.9:9080", Beginning::Bytes, "http"),
        ("240.240.0.1:9080", Beginning::Http1, "http"),
        ("240.240.0.1:9100", Beginning::Bytes, "outbound|9100||reviews.shop.svc.cluster.local"),
        ("10.9.9.9:9100", Beginning::Bytes, "PassthroughCluster"),
        ("240.240.0.1:9443", hello(HOST, &[]), "outbound|9443||reviews.shop.svc.cluster.local"),
        ("240.240.0.1:9443", hello("other.example", &[]), "nowhere"),
        ("240.240.0.1:9443", Beginning::Bytes, "nowhere"),
        ("240.240.0.1:9200", Beginning::Http2, "http"),
        ("240.240.0.1:9200", Beginning::Bytes, "outbound|9200||reviews.shop.svc.cluster.local"),
        ("240.240.0.1:9200", hello(HOST, &[]), "outbound|9200||reviews.shop.svc.cluster.local"),
        ("10.9.9.9:15001", Beginning::Bytes, "BlackHoleCluster"),
    ];
    for (destination, beginning, expected) in all {
        assert_eq!(outbound(&table, destination, beginning), expected, "{destination} {beginning:?}");
    }
    let closed = self::table(&registry_only());
    assert_eq!(outbound(&closed, "10.9.9.9:9100", Beginning::Bytes), "BlackHoleCluster");
}

#[test]
fn connections_to_the_workload_go_by_port_and_security() {
    let table = table(&Intent::default());
    let inbound = &table.listeners["virtualInbound"];
    let mesh = ["istio-http/1.1".to_owned(), "http/1.1".to_owned()];
    let bytes = ["istio".to_owned()];
    let own = ["h2".to_owned()];
    let all = [
        ("10.0.0.1:9080", hello("", &mesh), true, "http"),
        ("10.0.0.1:9080", Beginning::Http1, false, "http"),
        ("10.0.0.1:9100", hello("", &bytes), true, "inbound|9100||"),
        ("10.0.0.1:9100", Beginning::Bytes, false, "inbound|9100||"),
        ("10.0.0.1:9443", hello("", &bytes), true, "inbound|9443||"),
        ("10.0.0.1:9443", hello(HOST, &own), false, "inbound|9443||"),
        ("10.0.0.1:9200", hello("", &mesh), true, "http"),
        ("10.0.0.1:9200", hello("", &bytes), true, "inbound|9200||"),
        ("10.0.0.1:9200", hello(HOST, &own), false, "inbound|9200||"),
        ("10.0.0.1:9200", Beginning::Http1, false, "http"),
        ("10.0.0.1:7", Beginning::Bytes, false, "InboundPassthroughCluster"),
        ("10.0.0.1:15006", Beginning::Bytes, false, "BlackHoleCluster"),
    ];
    for (destination, beginning, ends_tls, expected) in all {
        let chain = inbound.chain(at(destination), SOURCE, beginning).expect("a chain");
        assert_eq!(handled(Some(&chain.handler)), expected, "{destination} {beginning:?}");
        assert_eq!(chain.tls.is_some(), ends_tls, "{destination} {beginning:?}");
        assert!(chain.tls.as_ref().is_none_or(|tls| tls.requires_certificate), "{destination}");
    }
}

#[test]
fn requests_go_by_authority() {
    let table = table(&Intent::default());
    let routes = &table.routes["9080"];
    let to = |authority: &str| match routes.route(&asked(authority, "/any?x=1")).map(|route| &route.action) {
        Some(Action::Forward(forward)) => forward.target(0).upstream.to_string(),
        Some(Action::Answer(answer)) => answer.status.to_string(),
        other => format!("{other:?}"),
    };
    let upstream = format!("outbound|9080||{HOST}");
    for authority in [
        HOST,
        "reviews.shop.svc.cluster.local:9080",
        "REVIEWS.Shop.svc.cluster.local",
        "reviews",
        "reviews.shop:9080",
        VIP,
    ] {
        assert_eq!(to(authority), upstream, "{authority}");
    }
    assert_eq!(to("elsewhere.example"), "PassthroughCluster");
    assert_eq!(&*table.upstreams[&*upstream].settings.host, HOST);
    assert_eq!(&*table.upstreams["inbound|9080||"].settings.host, HOST, "the workload serves it");
    let forward = routes.route(&asked(HOST, "/")).and_then(|route| route.forward()).expect("a route");
    assert_eq!((forward.retries.attempts, forward.timeout), (2, None));
    let (refused, none) = (self::table(&registry_only()), "elsewhere.example");
    let refusal = refused.routes["9080"].route(&asked(none, "/")).map(|route| &route.action);
    assert!(matches!(refusal, Some(Action::Answer(answer)) if answer.status == 502));
}

#[test]
fn local_endpoints_come_first_and_the_gateways_when_there_is_no_other() {
    let mut near = reviews();
    near.imports.insert(text("west"), import("west", &near, 3, 3));
    let mut far = service("far.shop.svc.cluster.local", "240.240.0.2", vec![port(80, Protocol::Http)]);
    far.imports.insert(text("west"), import("west", &far, 3, 3));
    far.imports.insert(text("north"), import("north", &far, 1, 1));
    let mut resources = Resources::default();
    feed(&mut resources, vec![near, far], &Intent::default(), Interception::Redirect);
    let table = resources.table();

    let near = &table.upstreams[&*format!("outbound|9080||{HOST}")];
    let picked = |tried: &[u64]| near.pick(&wanted(tried, NOW), || 1).expect("an endpoint");
    assert!(picked(&[]).facts.clusters.is_none());
    for local in near.endpoints.iter().filter(|endpoint| endpoint.facts.clusters.is_none()) {
        local.load.failed(NOW);
    }
    assert_eq!(picked(&[]).facts.clusters.as_deref(), Some("west"), "both local ones are avoided");
    assert!(near.pick(&wanted(&[], NOW * 2), || 1).expect("one").facts.clusters.is_none(), "and forgiven later");

    let far = &table.upstreams["outbound|80||far.shop.svc.cluster.local"];
    let one = far.pick(&wanted(&[], NOW), || 0).expect("a gateway");
    assert_eq!(one.facts.clusters.as_deref(), Some("north,west"));
    assert!(one.facts.tls && matches!(one.facts.target, Target::Socket(gateway) if gateway.port() == 15443));
    let tls = far.settings.tls.as_ref().expect("mTLS");
    assert_eq!(&*tls.sni, "outbound_.80_._.far.shop.svc.cluster.local");
    let expected: Vec<String> = tls.expected.iter().map(ToString::to_string).collect();
    assert_eq!(expected, ["spiffe://north.example/ns/shop/sa/far", "spiffe://west.example/ns/shop/sa/far"]);
}

#[test]
fn endpoints_that_stay_keep_their_load_and_change_it_with_their_security() {
    let mut resources = Resources::default();
    let name = format!("outbound|9080||{HOST}");
    let ids = |resources: &Resources| -> Vec<(String, u64)> {
        let table = resources.table();
        let endpoints = table.upstreams[&*name].endpoints.iter();
        endpoints.map(|endpoint| (endpoint.facts.target.to_string(), endpoint.id)).collect()
    };
    feed(&mut resources, vec![reviews()], &Intent::default(), Interception::Redirect);
    let before = ids(&resources);
    resources.table().upstreams[&*name].endpoints[0].load.begin();

    let mut more = reviews();
    more.endpoints.push(endpoint("10.0.0.3", "reviews"));
    feed(&mut resources, vec![more], &Intent::default(), Interception::Redirect);
    let after = ids(&resources);
    assert_eq!((after.len(), &after[..2]), (3, &before[..]));
    assert_eq!(resources.table().upstreams[&*name].endpoints[0].load.active(), 1);

    let mut others = reviews();
    others.endpoints = vec![endpoint(OWN, "another"), endpoint("10.0.0.2", "another")];
    feed(&mut resources, vec![others], &Intent::default(), Interception::Redirect);
    assert!(
        ids(&resources).iter().all(|(_, id)| before.iter().all(|(_, known)| known != id)),
        "who must answer changed"
    );
}

#[test]
fn a_response_is_taken_whole_or_not_at_all() {
    let mut resources = Resources::default();
    feed(&mut resources, vec![reviews()], &Intent::default(), Interception::Redirect);
    let before = format!("{:?}", resources.table().listeners.keys());
    let good = resources.table().listeners.len();
    let snapshot = translate(&catalog(vec![]), &Intent::default(), &node(Interception::Redirect), &identity());
    let mut listeners: Vec<Resource> = snapshot.get(type_url::LISTENER).values().cloned().collect();
    listeners.push(Resource::from_body("broken", vec![0xff, 0xff].into()));
    let error = resources.apply(type_url::LISTENER, &listeners, &["0.0.0.0_9080".into()]).expect_err("one is broken");
    assert_eq!(error.resource, "broken");
    assert_eq!(
        (format!("{:?}", resources.table().listeners.keys()), resources.table().listeners.len()),
        (before, good)
    );
    assert!(resources.apply("type.googleapis.com/unknown", &[], &[]).is_err());
}

#[test]
fn a_listener_serves_once_its_routes_are_there() {
    let snapshot = translate(&catalog(vec![reviews()]), &Intent::default(), &node(Interception::Redirect), &identity());
    let all = |of: &str| snapshot.get(of).values().cloned().collect::<Vec<_>>();
    let mut resources = Resources::default();
    resources.apply(type_url::CLUSTER, &all(type_url::CLUSTER), &[]).expect("upstreams");
    resources.apply(type_url::LISTENER, &all(type_url::LISTENER), &[]).expect("listeners");
    assert!(resources.wanted(type_url::ROUTE).contains("9080"));
    assert!(resources.wanted(type_url::ENDPOINT).contains(&*format!("outbound|9100||{HOST}")));
    assert!(!resources.is_complete() && !resources.table().listeners.contains_key("0.0.0.0_9080"));
    resources.apply(type_url::ROUTE, &all(type_url::ROUTE), &[]).expect("routes");
    assert!(!resources.is_complete() && resources.table().listeners.contains_key("0.0.0.0_9080"));
    resources.apply(type_url::ENDPOINT, &all(type_url::ENDPOINT), &[]).expect("endpoints");
    assert!(resources.is_complete());
}

#[test]
fn a_listener_whose_new_routes_are_not_there_yet_stays_as_it_was() {
    let mut resources = Resources::default();
    feed(&mut resources, vec![reviews()], &Intent::default(), Interception::Redirect);
    let mut other = reviews();
    other.ports[3].number = 9300;
    let snapshot = translate(&catalog(vec![other]), &Intent::default(), &node(Interception::Redirect), &identity());
    // The same listener, now with routes of another name.
    let changed = snapshot.get(type_url::LISTENER)["240.240.0.1_9300"].body.clone();
    let renamed = Resource::from_body("240.240.0.1_9200", changed);
    resources.apply(type_url::LISTENER, &[renamed], &[]).expect("a good listener");
    let http = |table: &RoutingTable| {
        let listener = table.captured(at("240.240.0.1:9200")).cloned();
        listener.is_some_and(|listener| listener.chain(at("240.240.0.1:9200"), SOURCE, Beginning::Http1).is_some())
    };
    assert!(http(&resources.table()), "it went away before its successor was ready");
    let routes: Vec<Resource> = snapshot.get(type_url::ROUTE).values().cloned().collect();
    resources.apply(type_url::ROUTE, &routes, &[]).expect("good routes");
    assert!(!http(&resources.table()) && resources.table().captured(at("240.240.0.1:9300")).is_some());
}

#[test]
fn without_interception_listeners_are_bound_where_the_sidecar_resource_says() {
    let target = DefaultEndpoint::Unix("/run/app.sock".into());
    let intent = sidecar(vec![ingress(9080, Protocol::Http, Some("127.0.0.9"), target)], vec![]);
    let mut resources = Resources::default();
    feed(&mut resources, vec![reviews()], &intent, Interception::None);
    let table = resources.table();
    let bound: Vec<_> = table.listeners.values().flat_map(|listener| listener.bind.clone()).collect();
    assert_eq!(bound, [at("127.0.0.9:9080")]);
    let application = &table.upstreams["inbound|9080||"].endpoints[0];
    assert_eq!(application.facts.target.to_string(), "/run/app.sock");
}

#[test]
fn roots_and_names_are_read() {
    let table = table(&Intent::default());
    let mut domains: Vec<_> = table.bundles.iter().map(|bundle| bundle.trust_domain.to_string()).collect();
    domains.sort();
    assert_eq!(domains, ["north.example", "west.example"]);
    let name = table.names.iter().find(|name| name.host.as_str() == HOST).expect("a name");
    assert_eq!(name.addresses, [text::<std::net::IpAddr>(VIP)]);
    assert_eq!(
        name.service.as_ref().map(|(name, namespace)| (name.as_str(), namespace.as_str())),
        Some(("reviews", "shop"))
    );
}
