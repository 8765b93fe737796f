//! LDS: where the proxy takes requests for its workload, with the mesh's mTLS or in the clear, as its PeerAuthentications
//! say for each port.
//!
//! ```text
//! connection -> original destination? -> TLS? which ALPN? -> mTLS ends here | the application's own TLS | clear
//!               no chain for it: the connection is closed
//!            -> HTTP: inline routes | bytes -> inbound|PORT||
//! ```

use crate::authorization::Guard;
use crate::cluster::{self, INBOUND_PASSTHROUGH};
use crate::listener::{self, Listeners, PLAIN_HTTP, RAW, TLS};
use crate::route::Callers;
use crate::scope::{Bind, INBOUND_PORT, Inbound, Scope};
use crate::value::{flag, milliseconds, number};
use crate::{filter, route, server_tls, stream, tls};
use api::envoy::envoy::config::core::v3::TrafficDirection;
use api::envoy::envoy::config::listener::v3 as envoy;
use config::{MtlsMode, ServerTls};
use envoy::FilterChainMatch;
use model::Protocol;
use std::net::IpAddr;
use xds::Interception;

/// How long a caller may be silent before its connection counts as clear bytes: long enough for a lost packet of a
/// TLS handshake to be sent again.
const DETECTION_TIMEOUT_MS: u32 = 5000;

/// The mesh's HTTP, among what it negotiates.
const MESH_HTTP: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// Bytes of the mesh.
const MESH_BYTES: [&str; 2] = ["istio", "istio-peer-exchange"];

/// A port and what guards it.
#[derive(Clone, Copy)]
struct Served<'a> {
    scope: &'a Scope<'a>,
    inbound: &'a Inbound,
    guard: &'a Guard,
}

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
        filter_chains: chains(scope, inbound, &FilterChainMatch::default()),
        ..with_timeout(listener::base(name, &addresses, inbound.port, TrafficDirection::Inbound))
    }
}

/// The one listener to which the kernel brings everything; what is for no known port goes on as it is, unless callers
/// must come with mTLS.
fn virtual_inbound(scope: &Scope<'_>) -> envoy::Listener {
    let captured = || scope.inbound.values().filter(|inbound| inbound.bind.is_none());
    let known = captured().flat_map(|inbound| chains(scope, inbound, &at_port(inbound.port)));
    let mut filter_chains: Vec<_> = [listener::trap(INBOUND_PORT)].into_iter().chain(known).collect();
    let unknown = scope.callers_come.ports.iter().filter(|(port, _)| {
        **port != INBOUND_PORT && scope.inbound.get(port).is_none_or(|inbound| inbound.bind.is_some())
    });
    let guard = Guard::of(scope, None);
    filter_chains.extend(unknown.map(|(port, mode)| guard.before(passed(*mode, at_port(*port)))));
    let otherwise = guard.before(passed(scope.callers_come.otherwise, FilterChainMatch::default()));
    let mut default_filter_chain = None;
    match otherwise.filter_chain_match {
        None => default_filter_chain = Some(otherwise),
        Some(_) => filter_chains.push(otherwise),
    }
    let mut listener_filters = vec![filter::original_destination()];
    listener_filters.extend(inspectors(captured().any(|inbound| inbound.protocol == Protocol::Auto)));
    let wildcards: Vec<IpAddr> = scope.wildcards();
    envoy::Listener {
        listener_filters,
        filter_chains,
        default_filter_chain,
        transparent: (scope.node.interception == Interception::Tproxy).then(|| flag(true)).flatten(),
        ..with_timeout(listener::base("virtualInbound".to_owned(), &wildcards, INBOUND_PORT, TrafficDirection::Inbound))
    }
}

fn at_port(port: u16) -> FilterChainMatch {
    FilterChainMatch { destination_port: number(port.into()), ..FilterChainMatch::default() }
}

/// What becomes of connections to ports that nobody declared, narrowing `at`.
fn passed(mode: MtlsMode, at: FilterChainMatch) -> envoy::FilterChain {
    let on = filter::tcp(INBOUND_PASSTHROUGH.to_owned());
    match mode {
        MtlsMode::Disable | MtlsMode::Permissive => listener::chain(at, on),
        MtlsMode::Strict => mutual(Protocol::Tcp, FilterChainMatch { transport_protocol: TLS.to_owned(), ..at }, on),
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

/// The chain for callers who come with the mesh's mTLS, which ends here.
fn mutual(protocol: Protocol, matches: FilterChainMatch, filter: envoy::Filter) -> envoy::FilterChain {
    envoy::FilterChain { transport_socket: Some(tls::downstream(protocol, &[])), ..listener::chain(matches, filter) }
}

/// The chains of one port, each narrowing `at`, guarded.
fn chains(scope: &Scope<'_>, inbound: &Inbound, at: &FilterChainMatch) -> Vec<envoy::FilterChain> {
    let guard = Guard::of(scope, inbound.service.as_ref());
    of_port(Served { scope, inbound, guard: &guard }, at).into_iter().map(|chain| guard.before(chain)).collect()
}

/// The chains of one port; of those that carry bytes nothing is guarded yet.
fn of_port(served: Served<'_>, at: &FilterChainMatch) -> Vec<envoy::FilterChain> {
    let inbound = served.inbound;
    let matching = |transport: &str, protocols: &[&str]| FilterChainMatch {
        transport_protocol: transport.to_owned(),
        application_protocols: protocols.iter().map(ToString::to_string).collect(),
        ..at.clone()
    };
    let is_http = inbound.protocol.is_http();
    let handler = |callers| if is_http { http(served, callers) } else { bytes(inbound) };
    // Callers outside of the mesh show no mesh's ALPN; without TLS nobody is let in.
    let outside = |own: &ServerTls| envoy::FilterChain {
        transport_socket: Some(server_tls::downstream(own, is_http)),
        ..listener::chain(matching(TLS, &[]), handler(Callers::Anybody))
    };
    match (inbound.mode, &inbound.tls) {
        (MtlsMode::Strict, _) => by_mesh(served, &matching),
        (MtlsMode::Permissive, None) => [by_mesh(served, &matching), clear(served, &matching)].concat(),
        (MtlsMode::Permissive, Some(own)) => {
            vec![mutual(inbound.protocol, matching(TLS, &tls::MESH_ALPN), handler(Callers::Mesh)), outside(own)]
        }
        (MtlsMode::Disable, None) => clear(served, &matching),
        (MtlsMode::Disable, Some(own)) => vec![outside(own)],
    }
}

/// The chains for callers who come with the mesh's mTLS. Only where others are let in as well does it matter whether
/// TLS may be an application's own.
fn by_mesh(served: Served<'_>, matching: &dyn Fn(&str, &[&str]) -> FilterChainMatch) -> Vec<envoy::FilterChain> {
    let inbound = served.inbound;
    let protocol = inbound.protocol;
    let unless_all = |alpn: &'static [&'static str]| if inbound.mode == MtlsMode::Strict { &[] } else { alpn };
    match protocol {
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => {
            vec![mutual(protocol, matching(TLS, &[]), http(served, Callers::Mesh))]
        }
        Protocol::Tcp | Protocol::Udp => vec![mutual(protocol, matching(TLS, &[]), bytes(inbound))],
        Protocol::Tls => vec![mutual(protocol, matching(TLS, unless_all(&tls::MESH_ALPN)), bytes(inbound))],
        Protocol::Auto => vec![
            mutual(protocol, matching(TLS, &MESH_HTTP), http(served, Callers::Mesh)),
            mutual(protocol, matching(TLS, unless_all(&MESH_BYTES)), bytes(inbound)),
        ],
    }
}

/// The chains for callers who come in the clear, which an application's own TLS is to the mesh. Where none come with
/// mTLS, all TLS is the application's.
fn clear(served: Served<'_>, matching: &dyn Fn(&str, &[&str]) -> FilterChainMatch) -> Vec<envoy::FilterChain> {
    let inbound = served.inbound;
    let own_tls = || listener::chain(matching(TLS, &[]), bytes(inbound));
    let as_bytes = || listener::chain(matching(RAW, &[]), bytes(inbound));
    match inbound.protocol {
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => {
            vec![listener::chain(matching(RAW, &[]), http(served, Callers::Anybody))]
        }
        Protocol::Tcp | Protocol::Udp if inbound.mode == MtlsMode::Permissive => vec![as_bytes()],
        Protocol::Tcp | Protocol::Udp | Protocol::Tls => vec![own_tls(), as_bytes()],
        Protocol::Auto => {
            vec![own_tls(), listener::chain(matching(RAW, &PLAIN_HTTP), http(served, Callers::Anybody)), as_bytes()]
        }
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

fn http(Served { scope, inbound, guard }: Served<'_>, callers: Callers) -> envoy::Filter {
    let at = inbound.bind.map_or_else(String::new, |bind| match bind {
        Bind::All => "0.0.0.0_".to_owned(),
        Bind::Address(address) => format!("{address}_"),
    });
    let routes = route::inbound(scope, inbound.port, callers);
    filter::http_inbound(scope, format!("inbound_{at}{}", inbound.port), routes, guard)
}
