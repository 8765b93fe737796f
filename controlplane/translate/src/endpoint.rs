//! EDS: the local endpoints of an upstream one by one, and the peers' behind the own gateways.
//!
//! A remote endpoint's address *is* an own gateway's; the mTLS inside still ends at the workload in the peer. Each
//! gateway appears once however many peers lie behind it, because a proxy keeps an address once only.

use crate::assignment::{Assignment, LocalityEndpoints, Metadata, WeightedEndpoint};
use crate::cluster::{self, Discovery};
use crate::scope::Scope;
use crate::value::{address, number, one_field, socket};
use api::envoy::envoy::config::core::v3::{self as core};
use api::envoy::envoy::config::endpoint::v3::Endpoint as ProtoEndpoint;
use model::{Address, ClusterId, Endpoint, Gateway, Locality, Path, Port, Service, ServiceImport};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use xds::Resource;

/// What a peer offers of one port.
struct Offer<'a> {
    cluster: &'a ClusterId,
    weight: u32,
    /// The locality of its greatest group.
    locality: &'a Locality,
}

/// What lies behind one address of an own gateway.
struct Behind<'a> {
    weight: u32,
    offers: Vec<&'a Offer<'a>>,
}

/// The filter under which endpoints say how they are to be spoken to; upstreams match on it.
const TRANSPORT_SOCKET: &str = "envoy.transport_socket_match";

/// The greatest weight of one endpoint: Envoy refuses an assignment whose weights exceed 32 bits in sum.
const MAX_WEIGHT: u32 = 100_000;

pub(crate) fn resources(scope: &Scope<'_>) -> Vec<Resource> {
    let by_eds = scope.ports().filter(|(service, _)| cluster::discovery(scope, service) == Discovery::Eds);
    by_eds
        .map(|(service, port)| {
            let assignment = assignment(scope, service, port);
            Resource::new(assignment.cluster_name.as_str(), &assignment)
        })
        .collect()
}

/// All endpoints of `port`: remote ones are of second priority while there are local ones.
pub(crate) fn assignment(scope: &Scope<'_>, service: &Service, port: &Port) -> Assignment {
    let local = local(scope, service, port);
    let remote_priority = u32::from(!local.is_empty());
    let mut endpoints = in_localities(local, 0);
    endpoints.extend(in_localities(remote(scope, service, port), remote_priority));
    Assignment { cluster_name: cluster::outbound_name(service, port), endpoints }
}

fn local(scope: &Scope<'_>, service: &Service, port: &Port) -> BTreeMap<Locality, Vec<WeightedEndpoint>> {
    let mut by_locality: BTreeMap<Locality, Vec<WeightedEndpoint>> = BTreeMap::new();
    let discovery = cluster::discovery(scope, service);
    for endpoint in service.endpoints.iter().filter(|endpoint| is_usable(endpoint, service)) {
        if discovery == Discovery::Eds && matches!(endpoint.address, Address::Name(_)) {
            continue;
        }
        let mut metadata =
            BTreeMap::from([("istio".to_owned(), one_field("workload", &workload(scope, service, endpoint)))]);
        if endpoint.mtls {
            metadata.insert(TRANSPORT_SOCKET.to_owned(), one_field("tlsMode", "istio"));
        }
        let at = address(endpoint.address.to_string(), port.on(endpoint));
        let endpoint_at = by_locality.entry(endpoint.locality.clone()).or_default();
        endpoint_at.push(weighted(at, endpoint.weight, metadata));
    }
    if service.endpoints.is_empty() && matches!(discovery, Discovery::StrictDns | Discovery::LogicalDns) {
        let at = address(service.key.host.to_string(), port.target.unwrap_or(port.number));
        by_locality.insert(Locality::default(), vec![weighted(at, 1, BTreeMap::new())]);
    }
    by_locality
}

/// An endpoint with mTLS is usable only if it is known who should answer there.
fn is_usable(endpoint: &Endpoint, service: &Service) -> bool {
    !endpoint.mtls || endpoint.identity.is_some() || !service.subject_alt_names.is_empty()
}

/// The gateways' addresses with the peers that each of them reaches; a peer's weight is shared out among them.
fn remote(scope: &Scope<'_>, service: &Service, port: &Port) -> BTreeMap<Locality, Vec<WeightedEndpoint>> {
    let offers: Vec<Offer<'_>> =
        service.imports.values().filter_map(|import| offer(scope, import, port.number)).collect();
    let mut by_address: BTreeMap<SocketAddr, Behind<'_>> = BTreeMap::new();
    for offer in &offers {
        let ways: Vec<SocketAddr> = ways(scope, offer.cluster).collect();
        let share = (offer.weight / u32::try_from(ways.len()).unwrap_or(u32::MAX).max(1)).max(1);
        for way in ways {
            let behind = by_address.entry(way).or_insert_with(|| Behind { weight: 0, offers: Vec::new() });
            behind.weight = behind.weight.saturating_add(share);
            behind.offers.push(offer);
        }
    }
    let mut by_locality: BTreeMap<Locality, Vec<WeightedEndpoint>> = BTreeMap::new();
    for (gateway, behind) in by_address {
        let clusters: Vec<&str> = behind.offers.iter().map(|offer| offer.cluster.as_str()).collect();
        let metadata = BTreeMap::from([
            (TRANSPORT_SOCKET.to_owned(), one_field("tlsMode", "istio")),
            ("isthmus".to_owned(), one_field("cluster", &clusters.join(","))),
        ]);
        let greatest = behind.offers.iter().max_by_key(|offer| offer.weight);
        let locality = greatest.map(|offer| offer.locality.clone()).unwrap_or_default();
        by_locality.entry(locality).or_default().push(weighted(socket(gateway), behind.weight, metadata));
    }
    by_locality
}

/// What the peer offers of the port; nothing if it is not to be routed to, or has nothing ready.
fn offer<'a>(scope: &Scope<'_>, import: &'a ServiceImport, port: u16) -> Option<Offer<'a>> {
    let peer = scope.catalog.peers.get(&import.cluster)?;
    if !peer.is_routable() || !import.export.ports.iter().any(|offered| offered.number == port) {
        return None;
    }
    let ready = || import.export.groups.iter().filter(|group| group.ready > 0);
    let weight_of = |weight: u32| weight.clamp(1, MAX_WEIGHT);
    let weight = ready().fold(0, |sum: u32, group| sum.saturating_add(weight_of(group.weight)));
    let greatest = ready().max_by_key(|group| group.weight)?;
    Some(Offer { cluster: &import.cluster, weight, locality: &greatest.locality })
}

/// The own gateways' addresses through which `peer` can be reached, in the families that the node has.
fn ways<'a>(scope: &'a Scope<'_>, peer: &'a ClusterId) -> impl Iterator<Item = SocketAddr> {
    let leads_there = move |gateway: &&Arc<Gateway>| gateway.paths.get(peer) != Some(&Path::Unreachable);
    let has_family = |at: &SocketAddr| scope.node.addresses.iter().any(|own| own.is_ipv4() == at.is_ipv4());
    let gateways = scope.catalog.gateways.values().filter(leads_there);
    gateways.flat_map(|gateway| gateway.addresses.iter().copied()).filter(has_family)
}

/// `NAME;NAMESPACE;APP;VERSION;CLUSTER`, for the telemetry of the caller.
fn workload(scope: &Scope<'_>, service: &Service, endpoint: &Endpoint) -> String {
    let namespace = endpoint.identity.as_ref().map_or(&service.key.namespace, |identity| &identity.namespace);
    let label = |name: &str| endpoint.labels.get(name).map_or("", String::as_str);
    let (app, version) = (label("app"), label("version"));
    format!("{};{namespace};{app};{version};{}", endpoint.workload, scope.catalog.cluster.id)
}

fn weighted(
    at: Option<core::Address>,
    weight: u32,
    by_filter: BTreeMap<String, api::envoy::google::protobuf::Struct>,
) -> WeightedEndpoint {
    WeightedEndpoint {
        endpoint: Some(ProtoEndpoint { address: at, ..ProtoEndpoint::default() }),
        metadata: Some(Metadata { by_filter }),
        weight: number(weight.clamp(1, MAX_WEIGHT)),
    }
}

fn in_localities(by_locality: BTreeMap<Locality, Vec<WeightedEndpoint>>, priority: u32) -> Vec<LocalityEndpoints> {
    let weight = |endpoints: &[WeightedEndpoint]| {
        let weights = endpoints.iter().filter_map(|endpoint| endpoint.weight.as_ref());
        weights.fold(0, |sum: u32, weight| sum.saturating_add(weight.value))
    };
    let locality = |locality: &Locality| core::Locality {
        region: locality.region.to_string(),
        zone: locality.zone.to_string(),
        sub_zone: locality.subzone.to_string(),
    };
    let group = |(at, endpoints): (Locality, Vec<WeightedEndpoint>)| LocalityEndpoints {
        locality: Some(locality(&at)),
        weight: number(weight(&endpoints)),
        endpoints,
        priority,
    };
    by_locality.into_iter().map(group).collect()
}
