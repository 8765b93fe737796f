//! LDS: where the proxy takes requests for its workload, with the mesh's mTLS or in the clear (permissive).
//!
//! ```text
//! connection -> original destination? -> TLS? which ALPN? -> mTLS ends here | the application's own TLS | clear
//!            -> HTTP: inline routes | bytes -> inbound|PORT||
//! ```

use crate::cluster::{self, INBOUND_PASSTHROUGH};
use crate::listener::{self, Listeners, PLAIN_HTTP, RAW, TLS};
use crate::scope::{Bind, INBOUND_PORT, Inbound, Scope};
use crate::value::{flag, milliseconds, number};
use crate::{filter, route, server_tls, stream, tls};
use api::envoy::envoy::config::core::v3::TrafficDirection;
use api::envoy::envoy::config::listener::v3 as envoy;
use envoy::FilterChainMatch;
use model::Protocol;
use std::net::IpAddr;
use xds::Interception;

/// How long a caller may be silent before its connection counts as clear bytes: long enough for a lost packet of a
/// TLS handshake to be sent again.
const DETECTION_TIMEOUT_MS: u32 = 5000;

/// The mesh's HTTP, among what it negotiates.
const MESH_HTTP: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];

pub(crate) fn add(scope: &Scope<'_>, listeners: &mut Listeners) {
    for inbound in scope.inbound.values() {
        let Some(bind) = inbound.bind else { continue };
        let listener = bound(scope, inbound, bind);
        listeners.insert(listener.name.clone(), listener);
    }
    if scope.is_redirected() {
        let listener = virtual_inbound(scope);
        listeners.insert(listener.name.clone(), listener);
    }
}

/// One listener at the port itself.
fn bound(scope: &Scope<'_>, inbound: &Inbound, bind: Bind) -> envoy::Listener {
    let addresses = match bind {
        Bind::Address(address) => vec![address],
        Bind::All => scope.wildcards(),
    };
    let name = addresses.first().map(|first| listener::bound_name(*first, inbound.port)).unwrap_or_default();
    envoy::Listener {
        listener_filters: inspectors(inbound.protocol == Protocol::Auto),
        filter_chains: chains(inbound, &FilterChainMatch::default()),
        ..with_timeout(listener::base(name, &addresses, inbound.port, TrafficDirection::Inbound))
    }
}

/// The one listener to which the kernel brings everything; what is for no known port goes on as it is.
fn virtual_inbound(scope: &Scope<'_>) -> envoy::Listener {
    let captured = || scope.inbound.values().filter(|inbound| inbound.bind.is_none());
    let of_port =
        |inbound: &Inbound| FilterChainMatch { destination_port: number(inbound.port.into()), ..Default::default() };
    let known = captured().flat_map(|inbound| chains(inbound, &of_port(inbound)));
    let passed = listener::chain(FilterChainMatch::default(), filter::tcp(INBOUND_PASSTHROUGH.to_owned()));
    let mut listener_filters = vec![filter::original_destination()];
    listener_filters.extend(inspectors(captured().any(|inbound| inbound.protocol == Protocol::Auto)));
    let wildcards: Vec<IpAddr> = scope.wildcards();
    envoy::Listener {
        listener_filters,
        filter_chains: [listener::trap(INBOUND_PORT)].into_iter().chain(known).collect(),
        default_filter_chain: Some(passed),
        transparent: (scope.node.interception == Interception::Tproxy).then(|| flag(true)).flatten(),
        ..with_timeout(listener::base("virtualInbound".to_owned(), &wildcards, INBOUND_PORT, TrafficDirection::Inbound))
    }
}

fn inspectors(detects_http: bool) -> Vec<envoy::ListenerFilter> {
    let http = detects_http.then(filter::http_inspector);
    [filter::tls_inspector()].into_iter().chain(http).collect()
}

fn with_timeout(listener: envoy::Listener) -> envoy::Listener {
    envoy::Listener {
        listener_filters_timeout: milliseconds(DETECTION_TIMEOUT_MS),
        continue_on_listener_filters_timeout: true,
        ..listener
    }
}

/// The chains of one port, each narrowing `at`.
fn chains(inbound: &Inbound, at: &FilterChainMatch) -> Vec<envoy::FilterChain> {
    let matching = |transport: &str, protocols: &[&str]| FilterChainMatch {
        transport_protocol: transport.to_owned(),
        application_protocols: protocols.iter().map(ToString::to_string).collect(),
        ..at.clone()
    };
    let mutual = |matches: FilterChainMatch, filter: envoy::Filter| envoy::FilterChain {
        transport_socket: Some(tls::downstream(inbound.protocol, &[])),
        ..listener::chain(matches, filter)
    };
    let (http, bytes) = (|| http(inbound), || bytes(inbound));
    if let Some(own) = &inbound.tls {
        // Callers outside of the mesh show no mesh's ALPN; without TLS nobody is let in.
        let is_http = inbound.protocol.is_http();
        let handler = || if is_http { http() } else { bytes() };
        let outside = envoy::FilterChain {
            transport_socket: Some(server_tls::downstream(own, is_http)),
            ..listener::chain(matching(TLS, &[]), handler())
        };
        return vec![mutual(matching(TLS, &tls::MESH_ALPN), handler()), outside];
    }
    match inbound.protocol {
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => {
            vec![mutual(matching(TLS, &[]), http()), listener::chain(matching(RAW, &[]), http())]
        }
        Protocol::Tcp | Protocol::Udp => {
            vec![mutual(matching(TLS, &[]), bytes()), listener::chain(matching(RAW, &[]), bytes())]
        }
        Protocol::Tls => vec![
            mutual(matching(TLS, &tls::MESH_ALPN), bytes()),
            listener::chain(matching(TLS, &[]), bytes()),
            listener::chain(matching(RAW, &[]), bytes()),
        ],
        Protocol::Auto => vec![
            mutual(matching(TLS, &MESH_HTTP), http()),
            mutual(matching(TLS, &["istio", "istio-peer-exchange"]), bytes()),
            listener::chain(matching(TLS, &[]), bytes()),
            listener::chain(matching(RAW, &PLAIN_HTTP), http()),
            listener::chain(matching(RAW, &[]), bytes()),
        ],
    }
}

fn bytes(inbound: &Inbound) -> envoy::Filter {
    let pool = inbound.pool.as_ref();
    filter::tcp_way(stream::Way {
        upstreams: vec![(cluster::inbound_name(inbound.port), 1)],
        idle: pool.and_then(|pool| pool.tcp_idle_timeout),
        longest: pool.and_then(|pool| pool.max_connection_duration),
        ..stream::Way::default()
    })
}

fn http(inbound: &Inbound) -> envoy::Filter {
    let at = inbound.bind.map_or_else(String::new, |bind| match bind {
        Bind::All => "0.0.0.0_".to_owned(),
        Bind::Address(address) => format!("{address}_"),
    });
    filter::http_inbound(format!("inbound_{at}{}", inbound.port), route::inbound(inbound.port))
}
