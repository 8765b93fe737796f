//! Patches of a listener and its routes.

use api::envoy::envoy::config::core::v3::TrafficDirection;
use api::envoy::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use api::envoy::envoy::config::route::v3::{Route, RouteAction, RouteConfiguration, VirtualHost, route};
use api::envoy::envoy::extensions::filters::http::{lua::v3::Lua, router::v3::Router};
use api::envoy::envoy::extensions::filters::network::http_connection_manager::v3 as http;
use api::envoy::google::protobuf::Any;
use http::http_connection_manager::RouteSpecifier;
use isthmus_envoyfilter::{EnvoyFilter, apply, selected};
use prost::{Message, Name};
use resource::{Resource as Said, Source};
use xds::{Interception, Node, NodeKind, Resource, Snapshot, Software, type_url};

const ROUTER: &str = "envoy.filters.http.router";

fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn node() -> Node {
    Node {
        id: "sidecar~10.0.0.1~a.shop~shop.svc.cluster.local".into(),
        kind: NodeKind::Sidecar,
        addresses: vec![[10, 0, 0, 1].into()],
        name: "a".into(),
        namespace: "shop".parse().expect("valid"),
        cluster: "east".into(),
        network: String::new(),
        locality: model::Locality::default(),
        labels: [("app".to_owned(), "productpage".to_owned())].into(),
        service_account: "a".into(),
        interception: Interception::None,
        own_ports: Vec::new(),
        auto_register_group: String::new(),
        probes: false,
        version: "1".into(),
        software: Software::Envoy,
    }
}

/// What a workload is told that serves HTTP on port 8000.
fn snapshot() -> Snapshot {
    let route = Route {
        name: "default".into(),
        action: Some(route::Action::Route(RouteAction::default())),
        typed_per_filter_config: [("z".to_owned(), any(&Router::default())), ("a".to_owned(), any(&Lua::default()))]
            .into(),
        ..Default::default()
    };
    let host = VirtualHost {
        name: "inbound|http|8000".into(),
        domains: vec!["*".into()],
        routes: vec![route],
        ..Default::default()
    };
    let routes = RouteConfiguration { name: "inbound|8000||".into(), virtual_hosts: vec![host], ..Default::default() };
    let router = http::HttpFilter {
        name: ROUTER.into(),
        config_type: Some(http::http_filter::ConfigType::TypedConfig(any(&Router::default()))),
        ..Default::default()
    };
    let manager = http::HttpConnectionManager {
        stat_prefix: "in".into(),
        http_filters: vec![router],
        route_specifier: Some(RouteSpecifier::RouteConfig(routes)),
        ..Default::default()
    };
    let name = "envoy.filters.network.http_connection_manager".to_owned();
    let filter = Filter { name, config_type: Some(filter::ConfigType::TypedConfig(any(&manager))) };
    let listener = Listener {
        name: "10.0.0.1_8000".into(),
        traffic_direction: TrafficDirection::Inbound.into(),
        filter_chains: vec![FilterChain { filters: vec![filter], ..Default::default() }],
        ..Default::default()
    };
    let mut snapshot = Snapshot::default();
    snapshot.insert(type_url::LISTENER, Resource::new("10.0.0.1_8000", &listener));
    snapshot
}

fn read(text: &str) -> Vec<EnvoyFilter> {
    let parsed = resource::parse("a.yaml", text).expect("well formed");
    let read = |document: &resource::Document| {
        let Said::Other(spec) = &document.resource else { panic!("raw") };
        EnvoyFilter::read(document, spec, &mut Source::new(&"a.yaml".into())).expect("valid")
    };
    parsed.documents.iter().map(read).collect()
}

fn patched(text: &str) -> Snapshot {
    patched_of(text, snapshot())
}

fn patched_of(text: &str, mut snapshot: Snapshot) -> Snapshot {
    apply(&selected(&read(text), &node(), "istio-system"), &node(), &mut snapshot);
    snapshot
}

fn manager(snapshot: &Snapshot) -> http::HttpConnectionManager {
    let body = snapshot.get(type_url::LISTENER)["10.0.0.1_8000"].body.clone();
    let listener = Listener::decode(body).expect("a listener");
    let Some(filter::ConfigType::TypedConfig(any)) = &listener.filter_chains[0].filters[0].config_type else {
        panic!("a config")
    };
    http::HttpConnectionManager::decode(&any.value[..]).expect("a manager")
}

fn patch(target: &str, patch: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: a, namespace: shop}}\n\
         spec: {{configPatches: [{{applyTo: {target}, patch: {patch}}}]}}\n"
    )
}

#[test]
fn equal_inputs_give_equal_bytes() {
    let text = patch("ROUTE_CONFIGURATION", "{operation: MERGE, value: {response_headers_to_remove: [x-a]}}");
    let first = patched(&text);
    for _ in 0..20 {
        assert!(patched(&text) == first, "maps have no order of their own");
    }
    assert!(first != snapshot());
}

#[test]
fn what_is_added_goes_before_the_router() {
    let lua = r#"{operation: ADD, value: {name: lua, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}}}"#;
    let manager = manager(&patched(&patch("HTTP_FILTER", lua)));
    let names: Vec<_> = manager.http_filters.iter().map(|filter| filter.name.as_str()).collect();
    assert_eq!(names, ["lua", ROUTER]);
}

#[test]
fn messages_of_one_type_are_merged_within() {
    let merge = r#"{operation: MERGE, value: {typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, suppress_envoy_headers: true}}}"#;
    let manager = manager(&patched(&patch("HTTP_FILTER", merge)));
    let Some(http::http_filter::ConfigType::TypedConfig(any)) = &manager.http_filters[0].config_type else {
        panic!("a config")
    };
    assert!(Router::decode(&any.value[..]).expect("a router").suppress_envoy_headers);
    assert_eq!(manager.stat_prefix, "in");
}

#[test]
fn what_is_not_known_stays_as_it_is() {
    let unknown = patch("VIRTUAL_HOST", "{operation: REMOVE}")
        .replace("patch:", "match: {routeConfiguration: {name: other}}, patch:");
    // Its maps have no order: another one may have other bytes.
    let told = snapshot();
    assert!(patched_of(&unknown, told.clone()) == told);
}

/// The sample of Istio's documentation, as it is.
#[test]
#[cfg(feature = "istio-tests")]
fn istios_sample_of_a_local_rate_limit_is_applied() {
    let folder = std::env::var("ISTIO_DIR").expect("ISTIO_DIR names the folder of Istio's manifests");
    let path = format!("{folder}/samples/ratelimit/local-rate-limit-service.yaml");
    let text = std::fs::read_to_string(path).expect("it can be read");
    assert!(read(&text)[0].patches.iter().all(|patch| patch.is_for_own), "our own proxies honour all of it");
    let manager = manager(&patched(&text));
    assert_eq!(manager.http_filters[0].name, "envoy.filters.http.local_ratelimit");
    let Some(RouteSpecifier::RouteConfig(routes)) = &manager.route_specifier else { panic!("inline") };
    let route = &routes.virtual_hosts[0].routes[0];
    let Some(route::Action::Route(action)) = &route.action else { panic!("it forwards") };
    assert_eq!(action.rate_limits.len(), 2);
    assert!(route.typed_per_filter_config.contains_key("envoy.filters.http.local_ratelimit"));
}
