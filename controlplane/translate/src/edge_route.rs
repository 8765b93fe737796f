//! Routes of a proxy at the edge of the mesh, from the VirtualServices that name its Gateways.

use crate::edge::{Edge, of_a_kind};
use crate::http_route;
use crate::matches::{Audience, everything};
use crate::route::{configuration, virtual_host};
use crate::scope::Scope;
use crate::table::{Route, RouteTable, VirtualHost};
use api::envoy::envoy::config::route::v3::virtual_host::TlsRequirementType;
use std::collections::BTreeMap;

/// What is known of one authority.
#[derive(Default)]
struct Served {
    routes: Vec<Route>,
    /// Whether requests in the clear are sent to `https`.
    redirects: bool,
}

pub(crate) fn tables<'a>(scope: &'a Scope<'_>) -> impl Iterator<Item = RouteTable> + 'a {
    scope.edges().into_values().flat_map(|servers| {
        let servers = of_a_kind(&servers);
        match servers.first() {
            Some(first) if first.server.is_clear_http() => vec![table(scope, clear_name(first), &servers)],
            _ => {
                let secure = servers.iter().filter(|edge| edge.server.is_http());
                secure.map(|edge| table(scope, secure_name(edge), &[*edge])).collect()
            }
        }
    })
}

/// The routes of all HTTP in the clear of one port (Istio's name).
pub(crate) fn clear_name(edge: &Edge<'_>) -> String {
    match edge.bind {
        None => format!("http.{}", edge.server.port),
        Some(bind) => format!("http.{}.{bind}", edge.server.port),
    }
}

/// The routes of one server of HTTP over TLS (Istio's name).
pub(crate) fn secure_name(edge: &Edge<'_>) -> String {
    let (server, gateway) = (edge.server, edge.gateway);
    let name = format!("https.{}.{}.{}.{}", server.port, server.port_name, gateway.name, gateway.namespace);
    edge.bind.map_or(name.clone(), |bind| format!("{name}.{bind}"))
}

fn table(scope: &Scope<'_>, name: String, servers: &[Edge<'_>]) -> RouteTable {
    let mut by_domain: BTreeMap<String, Served> = BTreeMap::new();
    for edge in servers {
        let redirects = edge.server.tls.as_ref().is_some_and(|tls| tls.redirects);
        if redirects {
            for host in &edge.server.hosts {
                by_domain.entry(host.host.to_string()).or_default().redirects = true;
            }
        }
        for (service, hosts) in scope.routed_by(edge.gateway, edge.server) {
            let routes = http_route::routes(scope, service, edge.server.port, Audience::Gateway(edge.gateway));
            for host in hosts.iter().filter(|_| !routes.is_empty()) {
                let served = by_domain.entry(host.to_string()).or_default();
                served.routes.extend(routes.iter().cloned());
                served.redirects |= redirects;
            }
        }
    }
    let port = servers.first().map_or(0, |edge| edge.server.port);
    let mut hosts: Vec<VirtualHost> =
        by_domain.into_iter().map(|(domain, served)| served.virtual_host(domain, port)).collect();
    if hosts.is_empty() {
        hosts.push(virtual_host(format!("blackhole:{port}"), vec!["*".to_owned()], Vec::new()));
    }
    RouteTable { ignore_port_in_host_matching: true, ..configuration(name, hosts) }
}

// === impl Served ===

impl Served {
    /// A route that takes everything goes last, whichever VirtualService it is of; the first of them counts.
    fn virtual_host(self, domain: String, port: u16) -> VirtualHost {
        let takes_all = |route: &Route| route.matches.as_ref() == Some(&everything());
        let (all, mut routes): (Vec<Route>, Vec<Route>) = self.routes.into_iter().partition(takes_all);
        routes.extend(all.into_iter().next());
        let requirement = if self.redirects { TlsRequirementType::All } else { TlsRequirementType::None };
        VirtualHost {
            require_tls: requirement.into(),
            ..virtual_host(format!("{domain}:{port}"), vec![domain], routes)
        }
    }
}
