//! RDS: from the authority that a request names to the upstream.

use crate::any::any;
use crate::cluster::{self, PASSTHROUGH};
use crate::listener;
use crate::names::{clusterset_twin, kubernetes};
use crate::scope::Scope;
use crate::value::{authority, flag, milliseconds, number};
use api::envoy::envoy::config::route::v3 as envoy;
use api::envoy::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use config::OutboundPolicy;
use envoy::retry_policy::{RetryHostPredicate, retry_host_predicate::ConfigType};
use envoy::{route::Action, route_action::ClusterSpecifier, route_match::PathSpecifier};
use model::{Port, Protocol, Service};
use std::collections::{BTreeMap, BTreeSet};
use xds::Resource;

/// A service's port as one listener shows it.
struct Shown<'a> {
    service: &'a Service,
    port: &'a Port,
    /// The listener's port, if the host alone means this port of the service there.
    bare: Option<u16>,
}

/// Istio's default retries: of what the server has certainly not begun.
const RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled";

pub(crate) fn resources(scope: &Scope<'_>) -> Vec<Resource> {
    let mut routes = Vec::new();
    if scope.is_redirected() {
        routes.extend(by_port(scope));
        routes.extend(detected(scope));
    }
    routes.extend(bound(scope));
    routes.iter().map(|routes| Resource::new(routes.name.as_str(), routes)).collect()
}

/// The routes of requests to the workload's own `port`: all to the application, once.
pub(crate) fn inbound(port: u16) -> envoy::RouteConfiguration {
    let name = cluster::inbound_name(port);
    let host = envoy::VirtualHost {
        name: format!("inbound|http|{port}"),
        domains: vec!["*".to_owned()],
        routes: vec![route(envoy::RouteAction { retry_policy: None, ..action(name.clone()) })],
        ..Default::default()
    };
    configuration(name, vec![host])
}

/// `PORT`: all HTTP services of that port, by authority.
fn by_port<'a>(scope: &'a Scope<'_>) -> impl Iterator<Item = envoy::RouteConfiguration> + 'a {
    let mut by_port: BTreeMap<u16, Vec<Shown<'_>>> = BTreeMap::new();
    for (service, port) in scope.ports().filter(|(_, port)| port.protocol.is_http()) {
        by_port.entry(port.number).or_default().push(Shown { service, port, bare: Some(port.number) });
    }
    by_port.into_iter().map(|(number, shown)| {
        let mut hosts = virtual_hosts(scope, &shown);
        hosts.push(undeclared(scope));
        configuration(number.to_string(), hosts)
    })
}

/// `HOST:PORT`: what is HTTP of a port that did not say so. It came for that service, whatever authority it names.
fn detected(scope: &Scope<'_>) -> impl Iterator<Item = envoy::RouteConfiguration> {
    scope.ports().filter(|(service, port)| port.protocol == Protocol::Auto && !service.addresses.is_empty()).map(
        |(service, port)| {
            let name = listener::detected_name(service, port);
            let upstream = cluster::outbound_name(service, port);
            configuration(name.clone(), vec![virtual_host(name, vec!["*".to_owned()], upstream)])
        },
    )
}

/// `BIND_PORT`: the services behind a listener that the application addresses itself.
fn bound<'a>(scope: &'a Scope<'_>) -> impl Iterator<Item = envoy::RouteConfiguration> + 'a {
    let is_routed = |protocol: Protocol| protocol.is_http() || protocol == Protocol::Auto;
    scope.egress().filter(move |(listener, _)| is_routed(listener.protocol)).map(move |(listener, number)| {
        let mut shown = Vec::new();
        for service in scope.behind(listener) {
            let ports = || service.ports.iter().filter(|port| is_routed(port.protocol));
            let main = ports().find(|port| port.number == number).or_else(|| ports().next());
            let is_main = |port: &Port| main.is_some_and(|main| main.number == port.number);
            shown.extend(ports().map(|port| Shown { service, port, bare: is_main(port).then_some(number) }));
        }
        let mut hosts = virtual_hosts(scope, &shown);
        hosts.push(refused());
        configuration(listener::bound_name(listener::egress_bind(scope, listener), number), hosts)
    })
}

/// One virtual host for each; a domain that several claim is the first's, and a declared host goes before all names
/// that are only derived. Envoy refuses routes that name a domain twice.
fn virtual_hosts(scope: &Scope<'_>, shown: &[Shown<'_>]) -> Vec<envoy::VirtualHost> {
    let mut taken = BTreeSet::new();
    let mut claim = |names: Vec<String>, shown: &Shown<'_>| -> Vec<String> {
        let domains = names.into_iter().flat_map(|name| shown.domains(name));
        domains.filter(|domain| taken.insert(domain.clone())).collect()
    };
    let mut domains: Vec<Vec<String>> =
        shown.iter().map(|shown| claim(vec![shown.service.key.host.to_string()], shown)).collect();
    for (shown, domains) in shown.iter().zip(&mut domains) {
        domains.extend(claim(derived(scope, shown.service), shown));
    }
    let hosts = shown.iter().zip(domains).filter(|(_, domains)| !domains.is_empty()).map(|(shown, domains)| {
        let name = format!("{}:{}", shown.service.key.host, shown.port.number);
        virtual_host(name, domains, cluster::outbound_name(shown.service, shown.port))
    });
    hosts.collect()
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

fn undeclared(scope: &Scope<'_>) -> envoy::VirtualHost {
    match scope.policy {
        OutboundPolicy::RegistryOnly => refused(),
        OutboundPolicy::AllowAny => envoy::VirtualHost {
            name: "allow_any".to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![route(envoy::RouteAction { retry_policy: None, ..action(PASSTHROUGH.to_owned()) })],
            ..Default::default()
        },
    }
}

fn refused() -> envoy::VirtualHost {
    let answer = envoy::DirectResponseAction { status: 502, ..Default::default() };
    let route = envoy::Route {
        r#match: Some(everything()),
        action: Some(Action::DirectResponse(answer)),
        ..Default::default()
    };
    envoy::VirtualHost {
        name: "block_all".to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        ..Default::default()
    }
}

fn virtual_host(name: String, domains: Vec<String>, upstream: String) -> envoy::VirtualHost {
    envoy::VirtualHost { name, domains, routes: vec![route(action(upstream))], ..Default::default() }
}

fn route(action: envoy::RouteAction) -> envoy::Route {
    envoy::Route {
        name: "default".to_owned(),
        r#match: Some(everything()),
        action: Some(Action::Route(action)),
        ..Default::default()
    }
}

fn everything() -> envoy::RouteMatch {
    envoy::RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() }
}

fn action(upstream: String) -> envoy::RouteAction {
    envoy::RouteAction {
        timeout: milliseconds(0),
        retry_policy: Some(retries()),
        cluster_specifier: Some(ClusterSpecifier::Cluster(upstream)),
        ..Default::default()
    }
}

fn retries() -> envoy::RetryPolicy {
    envoy::RetryPolicy {
        retry_on: RETRY_ON.to_owned(),
        num_retries: number(2),
        retry_host_predicate: vec![RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
            config_type: Some(ConfigType::TypedConfig(any(&PreviousHostsPredicate::default()))),
        }],
        host_selection_retry_max_attempts: 5,
        ..Default::default()
    }
}

fn configuration(name: String, virtual_hosts: Vec<envoy::VirtualHost>) -> envoy::RouteConfiguration {
    // An upstream that comes a moment later than its route is no reason to refuse all routes.
    envoy::RouteConfiguration { name, virtual_hosts, validate_clusters: flag(false), ..Default::default() }
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
