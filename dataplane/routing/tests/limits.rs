//! Local rate limits as the table has them: tokens outlive a swap, and end with what they were for.

use ::http::{HeaderMap, Method};
use api::envoy::envoy::config::core::v3::{
    Address, RuntimeFractionalPercent, SocketAddress, address, socket_address::PortSpecifier,
};
use api::envoy::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use api::envoy::envoy::config::route::v3::{
    DirectResponseAction, Route, RouteMatch, route, route_match::PathSpecifier,
};
use api::envoy::envoy::config::route::v3::{RouteConfiguration, VirtualHost};
use api::envoy::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use api::envoy::envoy::extensions::filters::network::http_connection_manager::v3 as http;
use api::envoy::envoy::r#type::v3::{FractionalPercent, TokenBucket};
use api::envoy::google::protobuf::{Any, Duration as ProtoDuration, UInt32Value};
use isthmus_routing::{Asked, Handler, HttpHandler, Limited, Resources, RouteSource, Ruling};
use prost::{Message, Name};
use std::time::Duration;
use xds::{Resource, type_url};

fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn limit(tokens: u32) -> LocalRateLimit {
    let all = FractionalPercent { numerator: 100, denominator: 0 };
    let all = Some(RuntimeFractionalPercent { default_value: Some(all), ..Default::default() });
    LocalRateLimit {
        stat_prefix: "test".into(),
        token_bucket: Some(TokenBucket {
            max_tokens: tokens,
            tokens_per_fill: Some(UInt32Value { value: tokens }),
            fill_interval: Some(ProtoDuration { seconds: 600, nanos: 0 }),
        }),
        filter_enabled: all.clone(),
        filter_enforced: all,
        ..Default::default()
    }
}

/// A listener on `port` with a rate limit.
fn listener(port: u32, limit: &LocalRateLimit) -> Resource {
    let answer = route::Action::DirectResponse(DirectResponseAction { status: 200, ..Default::default() });
    let everything = RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".into())), ..Default::default() };
    let route = Route { r#match: Some(everything), action: Some(answer), ..Default::default() };
    let host = VirtualHost { name: "all".into(), domains: vec!["*".into()], routes: vec![route], ..Default::default() };
    let step = http::HttpFilter {
        name: "envoy.filters.http.local_ratelimit".into(),
        config_type: Some(http::http_filter::ConfigType::TypedConfig(any(limit))),
        ..Default::default()
    };
    let manager = http::HttpConnectionManager {
        stat_prefix: "in".into(),
        http_filters: vec![step],
        route_specifier: Some(http::http_connection_manager::RouteSpecifier::RouteConfig(RouteConfiguration {
            name: "in".into(),
            virtual_hosts: vec![host],
            ..Default::default()
        })),
        ..Default::default()
    };
    let filter = Filter { name: "http".into(), config_type: Some(filter::ConfigType::TypedConfig(any(&manager))) };
    let socket = SocketAddress {
        address: "127.0.0.1".into(),
        port_specifier: Some(PortSpecifier::PortValue(port)),
        ..Default::default()
    };
    let listener = Listener {
        name: "in".into(),
        address: Some(Address { address: Some(address::Address::SocketAddress(socket)) }),
        filter_chains: vec![FilterChain { filters: vec![filter], ..Default::default() }],
        ..Default::default()
    };
    Resource::new("in", &listener)
}

/// What becomes of one request.
fn ask(resources: &Resources) -> Ruling {
    let table = resources.table();
    let listener = table.listeners.get("in").expect("it is there");
    let Handler::Http(handler) = &listener.chains().next().expect("a chain").handler else { panic!("HTTP") };
    ruling(handler)
}

fn ruling(handler: &HttpHandler) -> Ruling {
    let headers = HeaderMap::new();
    let asked =
        Asked { method: &Method::GET, scheme: "http", authority: "a", target: "/", headers: &headers, metadata: None };
    let RouteSource::Inline(routes) = &handler.routes else { panic!("inline") };
    let route = routes.route(&asked).expect("a route");
    let request = Limited { asked, remote: [127, 0, 0, 1].into(), principal: None, route: "" };
    handler.rulings(route, &request, Duration::from_secs(1), || 0)[0].1
}

#[test]
fn tokens_outlive_a_swap_of_the_table() {
    let mut resources = Resources::default();
    resources.apply(type_url::LISTENER, &[listener(1, &limit(2))], &[]).expect("taken");
    assert!(matches!(ask(&resources), Ruling::Passed(_)));
    resources.apply(type_url::LISTENER, &[listener(2, &limit(2))], &[]).expect("taken");
    assert!(matches!(ask(&resources), Ruling::Passed(_)));
    assert!(matches!(ask(&resources), Ruling::Refused(_)), "the first token was taken before the swap");
}

#[test]
fn another_limit_begins_anew() {
    let mut resources = Resources::default();
    resources.apply(type_url::LISTENER, &[listener(1, &limit(1))], &[]).expect("taken");
    assert!(matches!(ask(&resources), Ruling::Passed(_)));
    assert!(matches!(ask(&resources), Ruling::Refused(_)));
    resources.apply(type_url::LISTENER, &[listener(1, &limit(3))], &[]).expect("taken");
    assert!(matches!(ask(&resources), Ruling::Passed(_)));
}

#[test]
fn a_limit_that_cannot_be_honoured_is_rejected() {
    let mut resources = Resources::default();
    let mut no_time = limit(1);
    no_time.token_bucket = Some(TokenBucket { max_tokens: 1, ..Default::default() });
    let rejection = resources.apply(type_url::LISTENER, &[listener(1, &no_time)], &[]).expect_err("rejected");
    assert!(rejection.reason.contains("fill_interval"), "{rejection}");
}
