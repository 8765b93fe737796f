//! RDS: from the authority that a request names to the routes.

use crate::captured::shares_routes;
use crate::cluster::{self, PASSTHROUGH};
use crate::matches::{self, Audience};
use crate::names::{clusterset_twin, kubernetes};
use crate::scope::Scope;
use crate::table::{Route, RouteTable, VirtualHost};
use crate::value::{authority, flag, number, time};
use crate::{edge_route, http_route, listener};
use api::envoy::envoy::config::route::v3 as envoy;
use api::envoy::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use config::{EgressListener, HostPattern, OutboundPolicy, VirtualService};
use envoy::{header_matcher::HeaderMatchSpecifier, route::Action, route_action::ClusterSpecifier};
use model::{Port, Protocol, Service};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use xds::{Resource, Software};

/// A service's port as one listener shows it.
struct Shown<'a> {
    service: &'a Service,
    port: &'a Port,
    /// The listener's port, if the host alone means this port of the service there.
    bare: Option<u16>,
}

/// The longest body of an answer of the proxy itself, in bytes: Istio's.
const LONGEST_BODY: u32 = 1 << 20;
/// Where routes for hosts that no service has are taken (Istio's rule).
const HTTP_PORT: u16 = 80;

pub(crate) fn resources(scope: &Scope<'_>) -> Vec<Resource> {
    let mut routes = Vec::new();
    if scope.is_redirected() {
        routes.extend(by_port(scope));
        routes.extend(detected(scope));
    }
    routes.extend(bound(scope));
    routes.extend(edge_route::tables(scope));
    if scope.intent.mesh.proxies.headers.no_attempt_count {
        let hosts = routes.iter_mut().flat_map(|table| &mut table.virtual_hosts);
        hosts.for_each(|host| host.include_request_attempt_count = false);
    }
    routes.iter().map(|table| Resource::new(table.name.as_str(), table)).collect()
}

/// Whose requests they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Callers {
    /// Those who showed a certificate of the mesh.
    Mesh,
    /// Those who come in the clear, or with a certificate of their own.
    Anybody,
}

/// What proxies tell each other and Envoy does not take away of itself: from whom is not known, nobody is told it.
const OF_PROXIES: [&str; 7] = [
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-original-host",
    "x-envoy-original-path",
    "x-envoy-peer-metadata",
    "x-envoy-peer-metadata-id",
];

/// The routes of requests to the workload's own `port`: all to the application, once.
pub(crate) fn inbound(scope: &Scope<'_>, port: u16, callers: Callers) -> envoy::RouteConfiguration {
    let name = cluster::inbound_name(port);
    let action = envoy::RouteAction {
        timeout: time(Duration::ZERO),
        cluster_specifier: Some(ClusterSpecifier::Cluster(name.clone())),
        ..Default::default()
    };
    let route = envoy::Route {
        name: "default".to_owned(),
        r#match: Some(matches::everything()),
        action: Some(Action::Route(action)),
        request_headers_to_remove: match callers {
            Callers::Mesh => Vec::new(),
            Callers::Anybody => OF_PROXIES.map(str::to_owned).into(),
        },
        ..Default::default()
    };
    let host = envoy::VirtualHost {
        name: format!("inbound|http|{port}"),
        domains: vec!["*".to_owned()],
        // Our own proxy refuses them of itself.
        routes: (scope.node.software == Software::Envoy).then(misspelled).into_iter().chain([route]).collect(),
        ..Default::default()
    };
    // An upstream that comes a moment later than its route is no reason to refuse all routes.
    envoy::RouteConfiguration { name, virtual_hosts: vec![host], validate_clusters: flag(false), ..Default::default() }
}

/// Refuses the known methods in other letters, which Envoy takes over HTTP/2: what a policy says of `POST` means nothing for
/// `post`, which an application may take for the same.
fn misspelled() -> envoy::Route {
    let method = |regex: &str| envoy::HeaderMatcher {
        name: ":method".to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(MatchPattern::SafeRegex(matches::regex_of(regex))),
            ..Default::default()
        })),
        ..Default::default()
    };
    let known = "(?i)(get|head|post|put|delete|connect|options|trace|patch)";
    let headers = vec![method(".*[a-z].*"), method(known)];
    envoy::Route {
        name: envoyfilter::GUARD.to_owned(),
        r#match: Some(envoy::RouteMatch { headers, ..matches::everything() }),
        action: Some(Action::DirectResponse(envoy::DirectResponseAction { status: 400, ..Default::default() })),
        ..Default::default()
    }
}

/// `PORT`: all HTTP services of that port, by authority.
fn by_port<'a>(scope: &'a Scope<'_>) -> impl Iterator<Item = RouteTable> + 'a {
    let mut by_port: BTreeMap<u16, Vec<Shown<'_>>> = BTreeMap::new();
    for (service, port) in
        scope.ports().filter(|(service, port)| port.protocol.is_http() || shares_routes(service, port))
    {
        by_port.entry(port.number).or_default().push(Shown { service, port, bare: Some(port.number) });
    }
    by_port.into_iter().map(|(number, shown)| {
        let others: Vec<_> = if number == HTTP_PORT { unserved(scope, None) } else { Vec::new() };
        let mut hosts = virtual_hosts(scope, &shown, &others, number);
        hosts.push(undeclared(scope));
        configuration(number.to_string(), hosts)
    })
}

/// `HOST:PORT`: what is HTTP of a port that did not say so. It came for that service, whatever authority it names.
fn detected(scope: &Scope<'_>) -> impl Iterator<Item = RouteTable> {
    let has_table = |service: &Service| !service.addresses.is_empty() || !service.networks.is_empty();
    let detected = scope.ports().filter(move |(service, port)| port.protocol == Protocol::Auto && has_table(service));
    detected.map(|(service, port)| {
        let name = listener::detected_name(service, port);
        let routes = routes(scope, service, port);
        configuration(name.clone(), vec![virtual_host(name, vec!["*".to_owned()], routes)])
    })
}

/// `BIND_PORT`: the services behind a listener that the application addresses itself.
fn bound<'a>(scope: &'a Scope<'_>) -> impl Iterator<Item = RouteTable> + 'a {
    let is_routed = |protocol: Protocol| protocol.is_http() || protocol == Protocol::Auto;
    scope.egress().filter(move |(listener, _)| is_routed(listener.protocol)).map(move |(listener, number)| {
        let mut shown = Vec::new();
        for service in scope.behind(listener) {
            let ports = || service.ports.iter().filter(|port| is_routed(port.protocol));
            let main = ports().find(|port| port.number == number).or_else(|| ports().next());
            let is_main = |port: &Port| main.is_some_and(|main| main.number == port.number);
            shown.extend(ports().map(|port| Shown { service, port, bare: is_main(port).then_some(number) }));
        }
        let mut hosts = virtual_hosts(scope, &shown, &unserved(scope, Some(listener)), number);
        // Where such a listener was asked for, nobody knows; a proxy may.
        hosts.push(if scope.egress_proxy().is_some() { undeclared(scope) } else { refused() });
        configuration(listener::bound_name(listener::egress_bind(scope, listener), number), hosts)
    })
}

/// One virtual host for each port shown, and one for each host that is routed though no service has it (`others`). A
/// domain that several claim is the first's, and a declared host goes before all names that are only derived. Envoy
/// refuses routes that name a domain twice.
fn virtual_hosts(
    scope: &Scope<'_>,
    shown: &[Shown<'_>],
    others: &[(String, &VirtualService)],
    listener: u16,
) -> Vec<VirtualHost> {
    let mut taken = BTreeSet::new();
    let mut claim = |names: Vec<String>| -> Vec<String> {
        names.into_iter().filter(|domain| taken.insert(domain.clone())).collect()
    };
    let of = |shown: &Shown<'_>, names: Vec<String>| names.into_iter().flat_map(|name| shown.domains(name)).collect();
    let mut domains: Vec<Vec<String>> =
        shown.iter().map(|shown| claim(of(shown, vec![shown.service.key.host.to_string()]))).collect();
    let mut hosts = Vec::new();
    for (host, service) in others {
        let domains = claim(vec![host.clone(), format!("{host}:{listener}")]);
        if !domains.is_empty() {
            let routes = http_route::routes(scope, service, listener, Audience::Mesh);
            hosts.push(virtual_host(format!("{host}:{listener}"), domains, routes));
        }
    }
    for (shown, domains) in shown.iter().zip(&mut domains) {
        domains.extend(claim(of(shown, derived(scope, shown.service))));
    }
    for (shown, domains) in shown.iter().zip(domains).filter(|(_, domains)| !domains.is_empty()) {
        let name = format!("{}:{}", shown.service.key.host, shown.port.number);
        hosts.push(virtual_host(name, domains, routes(scope, shown.service, shown.port)));
    }
    hosts
}

/// The routes of `port`: those of the VirtualService that names its host most closely, or else to the service itself.
fn routes(scope: &Scope<'_>, service: &Service, port: &Port) -> Vec<Route> {
    match scope.virtual_service(&service.key.host, port.number).filter(|routed| !routed.http.is_empty()) {
        Some(routed) => http_route::routes(scope, routed, port.number, Audience::Mesh),
        None => vec![http_route::default(scope, service, port)],
    }
}

/// The hosts that VirtualServices route though no service has them; those that `listener` takes, if one is given.
fn unserved<'a>(scope: &Scope<'a>, listener: Option<&EgressListener>) -> Vec<(String, &'a VirtualService)> {
    let mut unserved = Vec::new();
    for service in scope.routed().filter(|service| !service.http.is_empty() && service.port.is_none()) {
        for pattern in &service.hosts {
            let HostPattern::Host(host) = pattern else { continue };
            let key = model::ServiceKey { host: host.clone(), namespace: service.namespace.clone() };
            let takes = |listener: &EgressListener| {
                listener.hosts.iter().any(|pattern| pattern.matches(&key, &scope.node.namespace))
            };
            if listener.is_none_or(takes) && scope.service(host).is_none() {
                unserved.push((host.to_string(), service));
            }
        }
    }
    unserved
}

/// The other names of a service: those that a Kubernetes resolver completes, its twin, its addresses.
fn derived(scope: &Scope<'_>, service: &Service) -> Vec<String> {
    let mut names: Vec<String> = clusterset_twin(&service.key.host).into_iter().collect();
    if let Some(parts) = kubernetes(&service.key.host) {
        if parts.namespace == scope.node.namespace.as_str() {
            names.push(parts.name.to_owned());
        }
        names.push(format!("{}.{}", parts.name, parts.namespace));
        names.push(format!("{}.{}.svc", parts.name, parts.namespace));
    }
    names.extend(service.addresses.iter().map(|ip| authority(*ip)));
    names
}

fn undeclared(scope: &Scope<'_>) -> VirtualHost {
    match scope.policy {
        OutboundPolicy::RegistryOnly => refused(),
        OutboundPolicy::AllowAny => {
            let proxy = scope.egress_proxy().map(|proxy| http_route::upstream(scope, proxy, HTTP_PORT));
            let action = envoy::RouteAction {
                timeout: time(Duration::ZERO),
                cluster_specifier: Some(ClusterSpecifier::Cluster(proxy.unwrap_or_else(|| PASSTHROUGH.to_owned()))),
                ..Default::default()
            };
            virtual_host("allow_any".to_owned(), vec!["*".to_owned()], vec![plain("allow_any", Action::Route(action))])
        }
    }
}

fn refused() -> VirtualHost {
    let answer = envoy::DirectResponseAction { status: 502, ..Default::default() };
    let route = plain("block_all", Action::DirectResponse(answer));
    virtual_host("block_all".to_owned(), vec!["*".to_owned()], vec![route])
}

fn plain(name: &str, action: Action) -> Route {
    Route { name: name.to_owned(), matches: Some(matches::everything()), action: Some(action), ..Default::default() }
}

/// The routes of some authorities.
pub(crate) fn virtual_host(name: String, domains: Vec<String>, routes: Vec<Route>) -> VirtualHost {
    VirtualHost { name, domains, routes, require_tls: 0, include_request_attempt_count: true }
}

/// The routes of one listener or port.
pub(crate) fn configuration(name: String, virtual_hosts: Vec<VirtualHost>) -> RouteTable {
    RouteTable {
        name,
        virtual_hosts,
        ignore_port_in_host_matching: false,
        // An upstream that comes a moment later than its route is no reason to refuse all routes.
        validate_clusters: flag(false),
        max_direct_response_body_size_bytes: number(LONGEST_BODY),
    }
}

// === impl Shown ===

impl Shown<'_> {
    /// The authorities that mean this port by `name`.
    fn domains(&self, name: String) -> Vec<String> {
        let with = |port: u16| format!("{name}:{port}");
        let mut domains = vec![with(self.port.number)];
        if let Some(listener) = self.bare {
            if listener != self.port.number {
                domains.push(with(listener));
            }
            domains.push(name);
        }
        domains
    }
}
