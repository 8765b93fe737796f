//! Listeners of a proxy at the edge of the mesh: a port for each server of its Gateways.
//!
//! ```text
//! port -> HTTP in the clear: routes `http.PORT`
//!      -> by server name: TLS ends here -> HTTP: routes `https.PORT.…` | bytes: tcp routes
//!                         TLS goes on   -> tls routes | the mesh's own server names
//!      -> bytes: tcp routes
//! ```

use crate::authorization::Guard;
use crate::listener::{self, Listeners, TLS};
use crate::matches::Audience;
use crate::scope::Scope;
use crate::{cluster, edge_route, filter, server_tls, stream, tls};
use api::envoy::envoy::config::core::v3::TrafficDirection;
use api::envoy::envoy::config::listener::v3 as envoy;
use config::{EgressHost, Gateway, HostPattern, Server, ServerTls, TlsMatch};
use envoy::FilterChainMatch;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A server that the proxy serves.
#[derive(Clone, Copy)]
pub(crate) struct Edge<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) server: &'a Server,
    /// At which address; at all if absent.
    pub(crate) bind: Option<IpAddr>,
    /// Where it listens: the port that a service of the proxy's leads to, or the server's.
    pub(crate) port: u16,
}

/// Servers by where they listen.
pub(crate) type Ports<'a> = BTreeMap<(Option<IpAddr>, u16), Vec<Edge<'a>>>;

/// The chains of one listener, and the server names that they have taken: Envoy refuses a name in two of them.
#[derive(Default)]
struct Chains {
    by_name: Vec<envoy::FilterChain>,
    otherwise: Option<envoy::FilterChain>,
    taken: BTreeSet<String>,
    /// What guards them.
    guard: Guard,
}

pub(crate) fn add(scope: &Scope<'_>, listeners: &mut Listeners) {
    for ((bind, port), servers) in scope.edges() {
        let addresses = bind.map_or_else(|| scope.wildcards(), |bind| vec![bind]);
        let Some(first) = addresses.first() else { continue };
        let base = listener::base(listener::bound_name(*first, port), &addresses, port, TrafficDirection::Outbound);
        if let Some(listener) = listener(scope, base, &servers) {
            listeners.insert(listener.name.clone(), listener);
        }
    }
}

/// The servers of one port: what the first speaks, clear HTTP or not, all speak; others are left out.
pub(crate) fn of_a_kind<'a>(servers: &[Edge<'a>]) -> Vec<Edge<'a>> {
    let is_clear = |edge: &Edge<'_>| edge.server.is_clear_http();
    let first = servers.first().map(is_clear);
    servers.iter().filter(|edge| Some(is_clear(edge)) == first).copied().collect()
}

/// None if nothing would be served: a listener without chains is refused.
fn listener(scope: &Scope<'_>, base: envoy::Listener, servers: &[Edge<'_>]) -> Option<envoy::Listener> {
    let servers = of_a_kind(servers);
    let first = servers.first()?;
    let guard = Guard::of(scope, None);
    if first.server.is_clear_http() {
        let filter = filter::http_edge(scope, format!("outbound_{}", base.name), edge_route::clear_name(first), &guard);
        return Some(envoy::Listener {
            filter_chains: vec![listener::chain(FilterChainMatch::default(), filter)],
            ..base
        });
    }
    let mut chains = Chains { guard, ..Chains::default() };
    for edge in &servers {
        match &edge.server.tls {
            Some(tls) if tls.ends_here() => chains.ending(scope, edge, tls),
            Some(_) if edge.server.is_east_west() => chains.passing_mesh(scope, edge),
            Some(_) => chains.passing(scope, edge),
            None => chains.bytes(scope, edge),
        }
    }
    if chains.by_name.is_empty() && chains.otherwise.is_none() {
        return None;
    }
    let inspects = servers.iter().any(|edge| edge.server.tls.is_some());
    Some(envoy::Listener {
        listener_filters: inspects.then(filter::tls_inspector).into_iter().collect(),
        filter_chains: chains.by_name,
        default_filter_chain: chains.otherwise,
        ..base
    })
}

// === impl Chains ===

impl Chains {
    /// TLS ends here: then requests, or bytes.
    fn ending(&mut self, scope: &Scope<'_>, edge: &Edge<'_>, tls: &ServerTls) {
        let Some(server_names) = self.claim(&edge.server.hosts) else { return };
        let filter = if edge.server.is_http() {
            let name = edge_route::secure_name(edge);
            Some(filter::http_edge(
                scope,
                format!("outbound_{}_{}", edge.port, edge.server.port_name),
                name,
                &self.guard,
            ))
        } else {
            let mut routes = scope.routed_by(edge.gateway, edge.server).map(|(service, _)| &service.tcp[..]);
            let audience = Audience::Gateway(edge.gateway);
            routes.find_map(|routes| stream::tcp_routes(scope, routes, edge.server.port, audience).1)
        };
        let Some(filter) = filter else { return };
        let matches =
            FilterChainMatch { server_names, transport_protocol: TLS.to_owned(), ..FilterChainMatch::default() };
        self.by_name.push(self.guard.before(envoy::FilterChain {
            transport_socket: Some(server_tls::downstream(tls, edge.server.is_http())),
            ..listener::chain(matches, filter)
        }));
    }

    /// TLS goes on to where the server name leads.
    fn passing(&mut self, scope: &Scope<'_>, edge: &Edge<'_>) {
        for (service, hosts) in scope.routed_by(edge.gateway, edge.server) {
            let narrowed = |matches: &TlsMatch| {
                let named = matches.server_names.iter();
                let names = named.flat_map(|name| hosts.iter().filter_map(|host| name.narrower(host)));
                names.filter(|name| !self.taken.contains(&name.to_string())).cloned().collect()
            };
            let audience = Audience::Gateway(edge.gateway);
            for chain in stream::tls_routes(scope, &service.tls, edge.server.port, audience, narrowed) {
                stream::add(&mut self.by_name, self.guard.before(chain));
            }
            let conditions = self.by_name.iter().filter_map(|chain| chain.filter_chain_match.as_ref());
            self.taken.extend(conditions.flat_map(stream::server_names));
        }
    }

    /// The mesh's own TLS goes on to the service that it names, whose proxy judges it: who asks is not seen here.
    fn passing_mesh(&mut self, scope: &Scope<'_>, edge: &Edge<'_>) {
        for (name, ..) in cluster::passed(scope, edge.server) {
            if self.taken.insert(name.clone()) {
                let matches = FilterChainMatch {
                    server_names: vec![name.clone()],
                    application_protocols: tls::MESH_ALPN.map(str::to_owned).into(),
                    transport_protocol: TLS.to_owned(),
                    ..FilterChainMatch::default()
                };
                self.by_name.push(listener::chain(matches, filter::tcp(name)));
            }
        }
    }

    fn bytes(&mut self, scope: &Scope<'_>, edge: &Edge<'_>) {
        for (service, _) in scope.routed_by(edge.gateway, edge.server) {
            let audience = Audience::Gateway(edge.gateway);
            let (conditional, otherwise) = stream::tcp_routes(scope, &service.tcp, edge.server.port, audience);
            for chain in conditional {
                stream::add(&mut self.by_name, self.guard.before(chain));
            }
            if self.otherwise.is_none() {
                let chain = otherwise.map(|filter| listener::chain(FilterChainMatch::default(), filter));
                self.otherwise = chain.map(|chain| self.guard.before(chain));
            }
        }
    }

    /// The server names of `hosts` that nobody has yet: an empty list is all; none if all are taken.
    fn claim(&mut self, hosts: &[EgressHost]) -> Option<Vec<String>> {
        let is_any = |host: &EgressHost| host.host == HostPattern::Any;
        if hosts.iter().any(is_any) {
            return self.taken.insert(HostPattern::Any.to_string()).then(Vec::new);
        }
        let names = hosts.iter().map(|host| host.host.to_string());
        let free: Vec<String> = names.filter(|name| self.taken.insert(name.clone())).collect();
        (!free.is_empty()).then_some(free)
    }
}
