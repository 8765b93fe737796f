//! LDS: where the proxy listens for its workload's requests, and with what it answers them.

use crate::cluster::{BLACK_HOLE, PASSTHROUGH};
use crate::scope::{OUTBOUND_PORT, Scope};
use crate::value::{flag, milliseconds, number, socket, time};
use crate::{captured, dynamic, edge, filter, http_route, inbound, stream};
use api::envoy::envoy::config::core::v3::TrafficDirection;
use api::envoy::envoy::config::listener::v3 as envoy;
use config::{EgressListener, OutboundPolicy};
use model::{Port, Protocol, Service};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use xds::Resource;

/// Listeners by name; the first of a name stays.
pub(crate) type Listeners = BTreeMap<String, envoy::Listener>;

/// What HTTP in the clear is called by Envoy's inspector.
pub(crate) const PLAIN_HTTP: [&str; 3] = ["http/1.0", "http/1.1", "h2c"];

/// How long a connection of the workload may be silent before it counts as bytes: a protocol in which the server
/// speaks first waits so long, and HTTP that comes later still arrives, unseen.
pub(crate) const DETECTION_TIMEOUT_MS: u32 = 100;

/// Envoy's names for what a connection was found to carry.
pub(crate) const RAW: &str = "raw_buffer";
/// See [`RAW`].
pub(crate) const TLS: &str = "tls";

pub(crate) fn resources(scope: &Scope<'_>) -> Vec<Resource> {
    let mut listeners = Listeners::new();
    edge::add(scope, &mut listeners);
    inbound::add(scope, &mut listeners);
    for (listener, port) in scope.egress() {
        let bound = bound(scope, listener, port);
        listeners.entry(bound.name.clone()).or_insert(bound);
    }
    if scope.is_redirected() {
        let entrance = virtual_outbound(scope);
        listeners.insert(entrance.name.clone(), entrance);
        captured::add_all(scope, &mut listeners);
    }
    dynamic::equip(scope, &mut listeners);
    listeners.values().map(|listener| Resource::new(listener.name.as_str(), listener)).collect()
}

/// The name of a listener at one address.
pub(crate) fn bound_name(bind: IpAddr, port: u16) -> String {
    format!("{bind}_{port}")
}

/// The name of the routes for what is HTTP of a port that did not say so.
pub(crate) fn detected_name(service: &Service, port: &Port) -> String {
    format!("{}:{}", service.key.host, port.number)
}

/// Where an egress listener listens: unless told otherwise, only for its own workload.
pub(crate) fn egress_bind(scope: &Scope<'_>, listener: &EgressListener) -> IpAddr {
    listener.bind.unwrap_or_else(|| scope.loopback())
}

/// A listener at all of `addresses` (at least one), without filter chains yet.
pub(crate) fn base(name: String, addresses: &[IpAddr], port: u16, direction: TrafficDirection) -> envoy::Listener {
    let at = |ip: &IpAddr| socket(SocketAddr::new(*ip, port));
    let others = addresses.iter().skip(1);
    envoy::Listener {
        name,
        address: addresses.first().and_then(at),
        additional_addresses: others
            .map(|ip| envoy::AdditionalAddress { address: at(ip), ..Default::default() })
            .collect(),
        traffic_direction: direction.into(),
        ..Default::default()
    }
}

/// A chain for connections that match, with one filter.
pub(crate) fn chain(matches: envoy::FilterChainMatch, filter: envoy::Filter) -> envoy::FilterChain {
    let filter_chain_match = (matches != envoy::FilterChainMatch::default()).then_some(matches);
    envoy::FilterChain { filter_chain_match, filters: vec![filter], ..Default::default() }
}

/// A connection that was made to the proxy's own port would go round in circles.
pub(crate) fn trap(port: u16) -> envoy::FilterChain {
    let matches = envoy::FilterChainMatch { destination_port: number(port.into()), ..Default::default() };
    chain(matches, filter::tcp(BLACK_HOLE.to_owned()))
}

/// Where bytes go that nobody declared.
pub(crate) fn undeclared(scope: &Scope<'_>) -> envoy::Filter {
    let upstream = match (scope.policy, scope.egress_proxy()) {
        (OutboundPolicy::RegistryOnly, _) => BLACK_HOLE.to_owned(),
        (OutboundPolicy::AllowAny, None) => PASSTHROUGH.to_owned(),
        (OutboundPolicy::AllowAny, Some(proxy)) => http_route::upstream(scope, proxy, OUTBOUND_PORT),
    };
    filter::tcp(upstream)
}

/// Takes everything, and hands it to the listener of where it was going; the rest nobody declared.
fn virtual_outbound(scope: &Scope<'_>) -> envoy::Listener {
    envoy::Listener {
        use_original_dst: flag(true),
        filter_chains: vec![trap(OUTBOUND_PORT)],
        default_filter_chain: Some(chain(envoy::FilterChainMatch::default(), undeclared(scope))),
        ..base("virtualOutbound".to_owned(), &scope.wildcards(), OUTBOUND_PORT, TrafficDirection::Outbound)
    }
}

/// `listener`, all of whose connections are for one service that does not speak HTTP, or does not say so.
pub(crate) fn one_service(
    scope: &Scope<'_>,
    listener: envoy::Listener,
    service: &Service,
    port: &Port,
) -> envoy::Listener {
    match port.protocol {
        Protocol::Tls => by_server_name(scope, listener, &[(service, port)]),
        Protocol::Auto => {
            detect(scope, listener, detected_name(service, port), stream::tcp(scope, service, port).otherwise)
        }
        _ => bytes(listener, stream::tcp(scope, service, port)),
    }
}

/// Takes every connection as bytes.
fn bytes(listener: envoy::Listener, chains: stream::Chains) -> envoy::Listener {
    let otherwise = chain(envoy::FilterChainMatch::default(), chains.otherwise);
    if chains.conditional.is_empty() {
        return envoy::Listener { filter_chains: vec![otherwise], ..listener };
    }
    envoy::Listener { filter_chains: chains.conditional, default_filter_chain: Some(otherwise), ..listener }
}

/// Chooses by the server name of the applications' own TLS.
fn by_server_name(scope: &Scope<'_>, listener: envoy::Listener, services: &[(&Service, &Port)]) -> envoy::Listener {
    let mut chains: Vec<envoy::FilterChain> = Vec::new();
    for chain in services.iter().flat_map(|(service, port)| stream::tls(scope, service, port)) {
        // Envoy refuses two chains of the same conditions: the first counts.
        if chains.iter().all(|other| other.filter_chain_match != chain.filter_chain_match) {
            chains.push(chain);
        }
    }
    envoy::Listener { filter_chains: chains, listener_filters: vec![filter::tls_inspector()], ..listener }
}

/// How long a listener looks at how a connection begins.
pub(crate) fn detection_timeout(scope: &Scope<'_>) -> Option<api::envoy::google::protobuf::Duration> {
    scope.intent.mesh.detection_timeout.and_then(time).or(milliseconds(DETECTION_TIMEOUT_MS))
}

/// HTTP in the clear goes by the routes of that name, all else as bytes.
fn detect(scope: &Scope<'_>, listener: envoy::Listener, routes: String, otherwise: envoy::Filter) -> envoy::Listener {
    let http = envoy::FilterChainMatch {
        transport_protocol: RAW.to_owned(),
        application_protocols: PLAIN_HTTP.map(str::to_owned).into(),
        ..Default::default()
    };
    envoy::Listener {
        listener_filters: vec![filter::tls_inspector(), filter::http_inspector()],
        listener_filters_timeout: detection_timeout(scope),
        continue_on_listener_filters_timeout: true,
        filter_chains: vec![chain(http, filter::http_outbound(scope, format!("outbound_{}", listener.name), routes))],
        default_filter_chain: Some(chain(envoy::FilterChainMatch::default(), otherwise)),
        ..listener
    }
}

/// A listener that the application addresses itself.
fn bound(scope: &Scope<'_>, egress: &EgressListener, number: u16) -> envoy::Listener {
    let bind = egress_bind(scope, egress);
    let name = bound_name(bind, number);
    let listener = base(name.clone(), &[bind], number, TrafficDirection::Outbound);
    let behind = scope.behind(egress);
    let of_number = |accept: fn(Protocol) -> bool| {
        behind.iter().filter_map(move |service| Some((*service, service.port(number).filter(|p| accept(p.protocol))?)))
    };
    let streams = || {
        let first = of_number(|protocol| !protocol.is_http() && protocol != Protocol::Udp).next();
        let nowhere = || stream::Chains { conditional: Vec::new(), otherwise: filter::tcp(BLACK_HOLE.to_owned()) };
        first.map_or_else(nowhere, |(service, port)| stream::tcp(scope, service, port))
    };
    let all = envoy::FilterChainMatch::default();
    match egress.protocol {
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => {
            let http = filter::http_outbound(scope, format!("outbound_{name}"), name);
            envoy::Listener { filter_chains: vec![chain(all, http)], ..listener }
        }
        Protocol::Auto => detect(scope, listener, name, streams().otherwise),
        Protocol::Tls => {
            let named: Vec<_> = of_number(|protocol| protocol == Protocol::Tls).collect();
            let refused = chain(all, filter::tcp(BLACK_HOLE.to_owned()));
            envoy::Listener { default_filter_chain: Some(refused), ..by_server_name(scope, listener, &named) }
        }
        Protocol::Tcp | Protocol::Udp => bytes(listener, streams()),
    }
}
