//! Routes whose parent is a service: what the mesh's own requests to it follow (the mesh profile, GAMMA).
//!
//! A route of the service's own namespace is for everybody; one of another namespace is for the workloads there alone,
//! and goes before.

use super::lower_route::{Entry, Lowered, sorted};
use super::parent::{Parent, ParentKind};
use super::route::RouteKind;
use super::{Known, Place};
use crate::{GatewayName, HostPattern, StreamMatch, TcpRoute, TlsMatch, TlsRoute, VirtualService};
use model::{Host, Namespace, Visibility};
use resource::Warning;
use std::collections::BTreeMap;

/// What a VirtualService is made for. Those of one port stand before those of all: the first counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Scope {
    host: Host,
    /// The namespace whose workloads follow it; all if absent.
    consumer: Option<Namespace>,
    of_all_ports: bool,
    port: Option<u16>,
}

/// A route at a service.
struct Attached<'a> {
    scope: Scope,
    /// The namespace of the service.
    namespace: Namespace,
    lowered: &'a Lowered<'a>,
}

/// The VirtualServices of all routes at services.
pub(super) fn virtual_services(
    lowered: &[Lowered<'_>],
    known: &Known,
    warnings: &mut Vec<Warning>,
) -> Vec<VirtualService> {
    let attached: Vec<Attached<'_>> = lowered.iter().flat_map(|one| attached(one, known, warnings)).collect();
    let mut scopes: BTreeMap<&Scope, &Attached<'_>> = BTreeMap::new();
    for one in &attached {
        scopes.entry(&one.scope).or_insert(one);
    }
    scopes.into_iter().map(|(scope, first)| virtual_service(scope, first, &attached)).collect()
}

fn attached<'a>(lowered: &'a Lowered<'a>, known: &Known, warnings: &mut Vec<Warning>) -> Vec<Attached<'a>> {
    let route = lowered.route;
    let mut attached = Vec::new();
    for parent in route.parents.iter().filter(|parent| parent.kind != ParentKind::Gateway) {
        let hosts = hosts(parent, known);
        if hosts.is_empty() {
            let why = format!("there is no ServiceEntry {}/{}", parent.namespace, parent.name);
            warnings.push(parent.place.unmet("Accepted", "NoMatchingParent", why));
        }
        for host in hosts {
            let port = match port(parent, &host, known) {
                Ok(port) => port,
                Err(warning) => {
                    warnings.push(warning);
                    continue;
                }
            };
            let consumer = (parent.namespace != route.namespace).then(|| route.namespace.clone());
            let scope = Scope { host, consumer, of_all_ports: port.is_none(), port };
            attached.push(Attached { scope, namespace: parent.namespace.clone(), lowered });
        }
    }
    attached
}

fn hosts(parent: &Parent, known: &Known) -> Vec<Host> {
    match parent.kind {
        ParentKind::ServiceEntry => known.hosts(parent).to_vec(),
        _ => format!("{}.{}.svc.cluster.local", parent.name, parent.namespace).parse().into_iter().collect(),
    }
}

/// The port that `parent` means, by number or by name.
fn port(parent: &Parent, host: &Host, known: &Known) -> Result<Option<u16>, Warning> {
    let Some(name) = &parent.section else { return Ok(parent.port) };
    let unmet = |why: String| parent.place.unmet("Accepted", "NoMatchingParent", why);
    let named = known.port(host, name).ok_or_else(|| unmet(format!("{host} has no port named {name}")))?;
    match parent.port {
        Some(port) if port != named => Err(unmet(format!("the port {name} of {host} is {named}, not {port}"))),
        _ => Ok(Some(named)),
    }
}

fn virtual_service(scope: &Scope, first: &Attached<'_>, attached: &[Attached<'_>]) -> VirtualService {
    let is_meant = |other: &&Attached<'_>| {
        let other = &other.scope;
        (&other.host, &other.consumer) == (&scope.host, &scope.consumer)
            && (other.of_all_ports || other.port == scope.port)
    };
    let (mut http, mut tls, mut tcp): (Vec<Entry>, Vec<TlsRoute>, Vec<TcpRoute>) = Default::default();
    for Attached { lowered, .. } in attached.iter().filter(is_meant) {
        let route = lowered.stream.clone();
        match lowered.route.kind {
            RouteKind::Http | RouteKind::Grpc => http.extend(lowered.http.iter().cloned()),
            RouteKind::Tcp => tcp.push(TcpRoute { matches: Vec::new(), route }),
            RouteKind::Tls => {
                let named = &lowered.route.hostnames;
                let server_names = if named.is_empty() { vec![scope.host.clone()] } else { named.clone() };
                let server_names = server_names.into_iter().map(HostPattern::Host).collect();
                let matches = vec![TlsMatch { server_names, stream: StreamMatch::default() }];
                tls.push(TlsRoute { matches, route });
            }
        }
    }
    let Place { position, .. } = first.lowered.route.place.clone();
    let export_to = match &scope.consumer {
        Some(namespace) => Visibility::Namespaces([namespace.clone()].into()),
        None => Visibility::All,
    };
    VirtualService {
        namespace: scope.consumer.clone().unwrap_or_else(|| first.namespace.clone()),
        name: first.lowered.route.name.clone(),
        position,
        hosts: vec![HostPattern::Host(scope.host.clone())],
        gateways: vec![GatewayName::Mesh],
        export_to,
        port: scope.port,
        http: sorted(http),
        tls,
        tcp,
    }
}
