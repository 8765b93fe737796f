//! EDS: the local endpoints of an upstream one by one, and the peers' behind the own gateways.
//!
//! A remote endpoint's address *is* an own gateway's; the mTLS inside still ends at the workload in the peer. Each
//! gateway appears once however many peers lie behind it, because a proxy keeps an address once only.

use crate::assignment::{Assignment, Metadata, WeightedEndpoint};
use crate::cluster::{self, Discovery};
use crate::locality::{self, Located};
use crate::scope::Scope;
use crate::value::{address, number, one_field, pipe, socket};
use api::envoy::envoy::config::core::v3 as core;
use api::envoy::envoy::config::endpoint::v3::Endpoint as ProtoEndpoint;
use config::Subset;
use model::{Address, ClusterId, Endpoint, Gateway, Group, GroupId, Locality, Path, Port, Service, ServiceImport, Sni};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
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
    let whole = scope.services.iter().flat_map(|service| of_service(scope, service));
    let servers = scope.east_west().flat_map(|server| cluster::passed(scope, server));
    let passed = servers.map(|(name, service, port, subset)| passed(scope, name, service, port, subset));
    whole.chain(passed).collect()
}

/// The endpoints of all upstreams of `service` that are told by EDS.
pub(crate) fn of_service(scope: &Scope<'_>, service: &Service) -> Vec<Resource> {
    if cluster::discovery(scope, service) != Discovery::Eds {
        return Vec::new();
    }
    let each = cluster::upstreams(scope, service);
    each.map(|(port, subset)| resource(&assignment(scope, service, port, subset))).collect()
}

/// The endpoints for connections that are passed on as they are: the cluster's own, which speak the mesh's TLS.
pub(crate) fn passed(
    scope: &Scope<'_>,
    name: String,
    service: &Service,
    port: &Port,
    subset: Option<&Subset>,
) -> Resource {
    let mut own = local(scope, service, port, subset);
    own.retain(speaks_mesh_tls);
    resource(&Assignment { cluster_name: name, endpoints: locality::arranged(scope.node, None, own) })
}

fn resource(assignment: &Assignment) -> Resource {
    Resource::new(assignment.cluster_name.as_str(), assignment)
}

fn speaks_mesh_tls(located: &Located) -> bool {
    located.endpoint.metadata.as_ref().is_some_and(|metadata| metadata.by_filter.contains_key(TRANSPORT_SOCKET))
}

/// All endpoints of `port`, or those of `subset`, in the order in which they are to be used.
pub(crate) fn assignment(scope: &Scope<'_>, service: &Service, port: &Port, subset: Option<&Subset>) -> Assignment {
    let name = subset.map(|subset| subset.name.as_str());
    let policy = scope.policy_of(service, port.number, name);
    let balancer = policy.load_balancer.as_ref();
    let mut all = local(scope, service, port, subset);
    all.extend(remote(scope, service, port, subset));
    Assignment {
        cluster_name: cluster::upstream_name(service, port, subset),
        endpoints: match balancer.and_then(|balancer| balancer.zones.as_ref()) {
            Some(zones) => locality::shared(scope.node, zones, scope.callers(), all),
            None => locality::arranged(scope.node, balancer.and_then(|balancer| balancer.locality.as_ref()), all),
        },
    }
}

/// The groups that stand for `subset` at the gateways, which share out connections among them by weight; none if every
/// group does. As many as a server name has room for: then those of the greatest weight.
pub(crate) fn groups(service: &Service, subset: &Subset) -> Vec<GroupId> {
    let groups = || service.imports.values().flat_map(|import| &import.export.groups);
    if groups().all(|group| bears(&group.labels, subset)) {
        return Vec::new();
    }
    let mut weights: BTreeMap<&GroupId, u64> = BTreeMap::new();
    for group in groups().filter(|group| bears(&group.labels, subset)) {
        *weights.entry(&group.id).or_default() += u64::from(group.weight);
    }
    let mut heaviest: Vec<_> = weights.into_iter().collect();
    heaviest.sort_by_key(|(id, weight)| (Reverse(*weight), *id));
    let mut room = Sni::room(&service.key.host);
    let mut fitting: Vec<GroupId> = Vec::new();
    for (id, _) in heaviest {
        let length = id.as_str().len() + 1;
        if !fitting.is_empty() && length > room {
            break;
        }
        room = room.saturating_sub(length);
        fitting.push(id.clone());
    }
    fitting.sort();
    fitting
}

/// The label by which failover tells networks apart (Istio's).
pub(crate) const NETWORK_LABEL: &str = "topology.istio.io/network";
/// The label by which a subset chooses clusters (Istio's).
const CLUSTER_LABEL: &str = "topology.istio.io/cluster";

/// Whether `labels` are those of `subset`; which cluster it is, is another matter.
fn bears(labels: &BTreeMap<String, String>, subset: &Subset) -> bool {
    subset.labels.iter().filter(|(key, _)| *key != CLUSTER_LABEL).all(|(key, value)| labels.get(key) == Some(value))
}

fn is_in(cluster: &ClusterId, subset: Option<&Subset>) -> bool {
    let wanted = subset.and_then(|subset| subset.labels.get(CLUSTER_LABEL));
    wanted.is_none_or(|wanted| wanted == cluster.as_str())
}

fn local(scope: &Scope<'_>, service: &Service, port: &Port, subset: Option<&Subset>) -> Vec<Located> {
    if !is_in(&scope.catalog.cluster.id, subset) {
        return Vec::new();
    }
    let discovery = cluster::discovery(scope, service);
    let is_chosen = |endpoint: &&Endpoint| {
        let is_resolved = discovery == Discovery::Eds && matches!(endpoint.address, Address::Name(_));
        is_usable(scope, service, port, endpoint)
            && !is_resolved
            && subset.is_none_or(|subset| bears(&endpoint.labels, subset))
    };
    let mut all: Vec<Located> = Vec::new();
    for endpoint in service.endpoints.iter().filter(is_chosen) {
        let mut metadata =
            BTreeMap::from([("istio".to_owned(), one_field("workload", &workload(scope, service, endpoint)))]);
        if takes_mtls(scope, service, port, endpoint) {
            metadata.insert(TRANSPORT_SOCKET.to_owned(), one_field("tlsMode", "istio"));
        }
        let at = match &endpoint.address {
            Address::Unix(path) => pipe(path),
            host => address(host.to_string(), port.on(endpoint)),
        };
        all.push(Located {
            locality: endpoint.locality.clone(),
            is_remote: false,
            cluster: scope.catalog.cluster.id.to_string(),
            labels: located_labels(endpoint),
            endpoint: weighted(at, endpoint.weight, metadata),
        });
    }
    if service.endpoints.is_empty() && matches!(discovery, Discovery::StrictDns | Discovery::LogicalDns) {
        let at = address(service.key.host.to_string(), port.target.unwrap_or(port.number));
        all.push(Located {
            locality: Locality::default(),
            is_remote: false,
            cluster: scope.catalog.cluster.id.to_string(),
            labels: Arc::default(),
            endpoint: weighted(at, 1, BTreeMap::new()),
        });
    }
    all
}

/// The endpoint's labels, with its network among them as Istio has it.
fn located_labels(endpoint: &Endpoint) -> Arc<BTreeMap<String, String>> {
    if endpoint.network.0.is_empty() {
        return endpoint.labels.clone();
    }
    let mut labels = BTreeMap::clone(&endpoint.labels);
    labels.insert(NETWORK_LABEL.to_owned(), endpoint.network.0.to_string());
    Arc::new(labels)
}

/// An endpoint with mTLS is usable only if it is known who should answer there.
fn is_usable(scope: &Scope<'_>, service: &Service, port: &Port, endpoint: &Endpoint) -> bool {
    endpoint.identity.is_some() || !service.subject_alt_names.is_empty() || !takes_mtls(scope, service, port, endpoint)
}

/// Whether the endpoint takes the mesh's mTLS at `port`: a proxy stands before it, and no PeerAuthentication has
/// callers come in the clear.
fn takes_mtls(scope: &Scope<'_>, service: &Service, port: &Port, endpoint: &Endpoint) -> bool {
    endpoint.mtls && !scope.intent.peer_policies.is_clear_at(service, endpoint, port)
}

/// The gateways' addresses with the peers that each of them reaches; a peer's weight is shared out among them.
fn remote(scope: &Scope<'_>, service: &Service, port: &Port, subset: Option<&Subset>) -> Vec<Located> {
    let imports = service.imports.values().filter(|import| is_in(&import.cluster, subset));
    let asked = subset.map(|subset| asked(service, subset));
    let offers: Vec<Offer<'_>> =
        imports.filter_map(|import| offer(scope, import, port.number, asked.as_ref())).collect();
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
    let located = |(gateway, behind): (SocketAddr, Behind<'_>)| {
        let clusters: Vec<&str> = behind.offers.iter().map(|offer| offer.cluster.as_str()).collect();
        let metadata = BTreeMap::from([
            (TRANSPORT_SOCKET.to_owned(), one_field("tlsMode", "istio")),
            ("isthmus".to_owned(), one_field("cluster", &clusters.join(","))),
        ]);
        let greatest = behind.offers.iter().max_by_key(|offer| offer.weight);
        Located {
            locality: greatest.map(|offer| offer.locality.clone()).unwrap_or_default(),
            is_remote: true,
            cluster: greatest.map(|offer| offer.cluster.to_string()).unwrap_or_default(),
            labels: Arc::default(),
            endpoint: weighted(socket(gateway), behind.weight, metadata),
        }
    };
    by_address.into_iter().map(located).collect()
}

/// The groups that the gateways are asked for.
fn asked(service: &Service, subset: &Subset) -> BTreeSet<GroupId> {
    let named = groups(service, subset);
    if !named.is_empty() {
        return named.into_iter().collect();
    }
    let groups = service.imports.values().flat_map(|import| &import.export.groups);
    groups.filter(|group| bears(&group.labels, subset)).map(|group| group.id.clone()).collect()
}

/// What the peer offers of the port, or of these groups of it; nothing if it is not to be routed to, or has nothing
/// ready.
fn offer<'a>(
    scope: &Scope<'_>,
    import: &'a ServiceImport,
    port: u16,
    asked: Option<&BTreeSet<GroupId>>,
) -> Option<Offer<'a>> {
    let peer = scope.catalog.peers.get(&import.cluster)?;
    if !peer.is_routable() || !import.export.ports.iter().any(|offered| offered.number == port) {
        return None;
    }
    let is_asked = |group: &&Group| group.ready > 0 && asked.is_none_or(|asked| asked.contains(&group.id));
    let ready = || import.export.groups.iter().filter(is_asked);
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
