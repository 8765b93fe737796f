//! Where connections go that are not taken apart into requests: by the VirtualService, or to the service itself.

use crate::listener::{TLS, chain};
use crate::matches::Audience;
use crate::scope::Scope;
use crate::{cluster, filter, http_route, names};
use api::envoy::envoy::config::core::v3::CidrRange;
use api::envoy::envoy::config::listener::v3 as envoy;
use api::envoy::google::protobuf::UInt32Value;
use config::{Choice, HashKey, HostPattern, PortPolicy, Split, StreamMatch, TcpRoute, TlsMatch, TlsRoute, Tunnel};
use envoy::FilterChainMatch;
use ipnet::IpNet;
use model::{Port, Service};
use std::time::Duration;

/// All server names.
const EVERY: &str = "*";

/// Where connections go, and how long they last.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Way {
    /// The upstreams with their weights.
    pub(crate) upstreams: Vec<(String, u32)>,
    /// How long one may carry nothing; for ever if 0, as the proxy does it if absent.
    pub(crate) idle: Option<Duration>,
    /// How long one may last.
    pub(crate) longest: Option<Duration>,
    /// Whether the same callers come to the same endpoints.
    pub(crate) by_source: bool,
    /// Through what they are carried.
    pub(crate) tunnel: Option<Tunnel>,
}

/// The chains of a service's port: those with conditions, and the one for all else.
pub(crate) struct Chains {
    pub(crate) conditional: Vec<envoy::FilterChain>,
    pub(crate) otherwise: envoy::Filter,
}

/// Connections of `port` that are not TLS, or of which it does not matter.
pub(crate) fn tcp(scope: &Scope<'_>, service: &Service, port: &Port) -> Chains {
    let routes = scope.virtual_service(&service.key.host, port.number).map_or(&[][..], |routed| &routed.tcp);
    let (conditional, otherwise) = tcp_routes(scope, routes, port.number, Audience::Mesh);
    let own = || {
        let own = vec![(cluster::outbound_name(service, port), 1)];
        filter::tcp_way(limited(&scope.policy_of(service, port.number, None), own))
    };
    Chains { conditional, otherwise: otherwise.unwrap_or_else(own) }
}

/// The chains of `routes` that have conditions, and the filter of the first without one.
pub(crate) fn tcp_routes(
    scope: &Scope<'_>,
    routes: &[TcpRoute],
    port: u16,
    audience: Audience<'_>,
) -> (Vec<envoy::FilterChain>, Option<envoy::Filter>) {
    let mut conditional: Vec<envoy::FilterChain> = Vec::new();
    for route in routes {
        let to = || filter::tcp_way(way(scope, &route.route, port));
        if route.matches.is_empty() {
            return (conditional, Some(to()));
        }
        for matches in route.matches.iter().filter(|matches| applies(scope, matches, port, audience)) {
            let condition = subnets(matches);
            if condition == FilterChainMatch::default() {
                return (conditional, Some(to()));
            }
            add(&mut conditional, chain(condition, to()));
        }
    }
    (conditional, None)
}

/// The chains of `routes`, by server name; `narrowed` says which of a condition's names are taken.
pub(crate) fn tls_routes(
    scope: &Scope<'_>,
    routes: &[TlsRoute],
    port: u16,
    audience: Audience<'_>,
    narrowed: impl Fn(&TlsMatch) -> Vec<HostPattern>,
) -> Vec<envoy::FilterChain> {
    let mut chains: Vec<envoy::FilterChain> = Vec::new();
    for route in routes {
        let applying = route.matches.iter().filter(|matches| applies(scope, &matches.stream, port, audience));
        for matches in applying {
            let names = narrowed(matches);
            if !names.is_empty() {
                let condition = named(&names, subnets(&matches.stream));
                add(&mut chains, chain(condition, filter::tcp_way(way(scope, &route.route, port))));
            }
        }
    }
    chains
}

/// Connections of `port` that are the applications' own TLS, by server name.
pub(crate) fn tls(scope: &Scope<'_>, service: &Service, port: &Port) -> Vec<envoy::FilterChain> {
    let routes = scope.virtual_service(&service.key.host, port.number).map_or(&[][..], |routed| &routed.tls);
    let all = |matches: &TlsMatch| matches.server_names.clone();
    let mut chains = tls_routes(scope, routes, port.number, Audience::Mesh, all);
    let host = &service.key.host;
    let known = |name: &String| {
        let conditions = chains.iter().filter_map(|chain| chain.filter_chain_match.as_ref());
        conditions.flat_map(server_names).any(|taken| taken == *name || taken == EVERY)
    };
    let own = [host.to_string()].into_iter().chain(names::clusterset_twin(host));
    let server_names: Vec<String> = own.filter(|name| !known(name)).collect();
    if !server_names.is_empty() {
        let condition = FilterChainMatch { server_names, ..Default::default() };
        chains.push(chain(condition, tcp(scope, service, port).otherwise));
    }
    chains
}

/// TLS with any of `names`, of which an empty list of Envoy's means all.
fn named(names: &[HostPattern], condition: FilterChainMatch) -> FilterChainMatch {
    if names.contains(&HostPattern::Any) {
        return FilterChainMatch { transport_protocol: TLS.to_owned(), ..condition };
    }
    FilterChainMatch { server_names: names.iter().map(ToString::to_string).collect(), ..condition }
}

/// The server names that a chain of TLS takes from wherever they go: [`EVERY`] if it takes all.
pub(crate) fn server_names(condition: &FilterChainMatch) -> Vec<String> {
    match &condition.server_names[..] {
        _ if !condition.prefix_ranges.is_empty() || !condition.source_prefix_ranges.is_empty() => Vec::new(),
        [] => vec![EVERY.to_owned()],
        names => names.to_vec(),
    }
}

/// Envoy refuses a listener of which two chains have the same conditions: the first counts.
pub(crate) fn add(chains: &mut Vec<envoy::FilterChain>, new: envoy::FilterChain) {
    if chains.iter().all(|chain| chain.filter_chain_match != new.filter_chain_match) {
        chains.push(new);
    }
}

fn applies(scope: &Scope<'_>, matches: &StreamMatch, port: u16, audience: Audience<'_>) -> bool {
    matches.port.is_none_or(|wanted| wanted == port)
        && audience.is_meant(scope, &matches.gateways, &matches.source_labels, matches.source_namespace.as_ref())
}

fn subnets(matches: &StreamMatch) -> FilterChainMatch {
    FilterChainMatch {
        prefix_ranges: matches.destinations.iter().map(range).collect(),
        source_prefix_ranges: matches.source.iter().map(range).collect(),
        ..Default::default()
    }
}

/// The range as Envoy writes it.
pub(crate) fn range(net: &IpNet) -> CidrRange {
    CidrRange {
        address_prefix: net.network().to_string(),
        prefix_len: Some(UInt32Value { value: net.prefix_len().into() }),
    }
}

fn way(scope: &Scope<'_>, splits: &[Split], port: u16) -> Way {
    let weighed = splits.iter().filter(|split| split.weight > 0);
    let upstreams =
        weighed.clone().map(|split| (http_route::upstream(scope, &split.destination, port), split.weight)).collect();
    let first = weighed.clone().next().map(|split| &split.destination);
    let policy = first.and_then(|destination| {
        let service = scope.service(&destination.host)?;
        Some(scope.policy_of(service, destination.port.unwrap_or(port), destination.subset.as_deref()))
    });
    limited(&policy.unwrap_or_default(), upstreams)
}

fn limited(policy: &PortPolicy, upstreams: Vec<(String, u32)>) -> Way {
    let choice = policy.load_balancer.as_ref().map(|balancer| &balancer.choice);
    Way {
        upstreams,
        idle: policy.pool.as_ref().and_then(|pool| pool.tcp_idle_timeout),
        longest: policy.pool.as_ref().and_then(|pool| pool.max_connection_duration),
        by_source: matches!(choice, Some(Choice::Hash { key: HashKey::SourceIp, .. })),
        tunnel: policy.tunnel.clone(),
    }
}
