//! All sources into one set of services: a pure function.
//!
//! What this cluster's own files say comes first; peers add rows to it, each its own, and change nothing else. Where
//! two contradict each other the rule is fixed (the earlier file, the own cluster, the peer whose name is first), and
//! the loser is reported.

use crate::address::Slot;
use crate::status::{Conflict, Origin};
use federation::offers::Exports;
use model::{
    Address, Cluster, ClusterId, Endpoint, Host, Location, Namespace, Peer, Port, Protocol, Resolution, Service,
    ServiceExport, ServiceImport, ServiceKey, TrustDomain, WorkloadIdentity,
};
use resource::{Document, Resource, ServiceEntry, WorkloadEntry};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A peer as merge sees it.
#[derive(Debug, Clone)]
pub(crate) struct PeerInput {
    /// What the catalog says of it.
    pub(crate) peer: Peer,
    /// What it offers.
    pub(crate) exports: Arc<Exports>,
    /// Whether both of its signals have been lost for longer than `forgetAfter`.
    pub(crate) forgotten: bool,
}

/// The label that turns mTLS off for one workload.
const TLS_MODE: &str = "security.istio.io/tlsMode";

/// Services by their keys.
pub(crate) type Services = BTreeMap<ServiceKey, Service>;

/// The services of `documents` and `peers`, with the addresses that they declare, and what contradicts what.
/// `registered` are the workloads that registered themselves, each as the WorkloadEntry that somebody might have written.
pub(crate) fn services(
    cluster: &Cluster,
    documents: &[Document],
    registered: &[Document],
    peers: &BTreeMap<ClusterId, PeerInput>,
) -> (Services, Vec<Conflict>) {
    let mut conflicts = Vec::new();
    let mut services = declared(cluster, documents, registered, &mut conflicts);
    add_imports(&mut services, peers, &mut conflicts);
    (services, conflicts)
}

// === what this cluster's files declare ===

fn declared(
    cluster: &Cluster,
    documents: &[Document],
    registered: &[Document],
    conflicts: &mut Vec<Conflict>,
) -> Services {
    let workloads = Workloads::new(documents.iter().chain(registered));
    let mut services = Services::new();
    let mut places: HashMap<ServiceKey, &Document> = HashMap::new();
    for document in documents {
        let Resource::ServiceEntry(entry) = &document.resource else { continue };
        let mut endpoints = None;
        for host in &entry.hosts {
            let key = ServiceKey { host: host.clone(), namespace: document.metadata.namespace.clone() };
            if let Some(first) = places.get(&key) {
                let message = format!("not used: the host is declared in this namespace at {} already", first.position);
                conflicts.push(conflict(&key, document, message));
                continue;
            }
            places.insert(key.clone(), document);
            let endpoints = endpoints
                .get_or_insert_with(|| self::endpoints(cluster, document, entry, &workloads, &key, conflicts))
                .clone();
            services.insert(key.clone(), service(key, entry, endpoints));
        }
    }
    services
}

fn service(key: ServiceKey, entry: &ServiceEntry, mut endpoints: Vec<Endpoint>) -> Service {
    let is_dns = matches!(entry.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
    if is_dns && entry.endpoints.is_empty() && entry.workload_selector.is_none() {
        endpoints = vec![itself(&key)];
    }
    Service {
        ports: entry.ports.clone(),
        addresses: entry.addresses.clone(),
        networks: entry.networks.clone(),
        allocates: entry.allocates,
        visibility: entry.export_to.clone(),
        resolution: entry.resolution,
        location: entry.location,
        audience: entry.audience.clone(),
        subject_alt_names: entry.subject_alt_names.clone(),
        endpoints,
        ..Service::new(key)
    }
}

/// Where DNS is to resolve the host and nothing is listed: the host is its own endpoint.
fn itself(key: &ServiceKey) -> Endpoint {
    Endpoint {
        address: Address::Name(key.host.clone()),
        ports: BTreeMap::new(),
        labels: Arc::default(),
        locality: model::Locality::default(),
        network: model::NetworkId::default(),
        weight: 1,
        identity: None,
        workload: key.host.as_str().into(),
        mtls: false,
    }
}

fn endpoints(
    cluster: &Cluster,
    document: &Document,
    entry: &ServiceEntry,
    workloads: &Workloads<'_>,
    key: &ServiceKey,
    conflicts: &mut Vec<Conflict>,
) -> Vec<Endpoint> {
    let namespace = &document.metadata.namespace;
    let mut endpoints = Vec::new();
    for (i, listed) in entry.endpoints.iter().enumerate() {
        let name = format!("{}-{i}", document.metadata.name);
        endpoints.extend(endpoint(cluster, entry.location, namespace, &name, listed, &listed.labels));
    }
    let Some(selector) = &entry.workload_selector else { return endpoints };
    for workload in workloads.bearing(namespace, selector) {
        if let Some(reason) = unusable(workload.entry, entry.resolution) {
            conflicts.push(conflict(key, workload.document, format!("not an endpoint: {reason}")));
            continue;
        }
        let name = &workload.document.metadata.name;
        endpoints.extend(endpoint(cluster, entry.location, namespace, name, workload.entry, &workload.labels));
    }
    endpoints
}

/// Why a workload is no endpoint of a service of this resolution, if it is none.
fn unusable(entry: &WorkloadEntry, resolution: Resolution) -> Option<String> {
    if let Some(reason) = &entry.unhealthy {
        return Some(format!("not healthy: {reason}"));
    }
    match (&entry.address, resolution) {
        (Some(Address::Name(_)), Resolution::Static) => {
            Some("its address is a name, and the service's resolution is STATIC".to_owned())
        }
        (Some(Address::Unix(_)), resolution) if resolution != Resolution::Static => {
            Some("its address is a Unix socket, and the service's resolution is not STATIC".to_owned())
        }
        _ => None,
    }
}

/// The endpoint; none if it has no address.
fn endpoint(
    cluster: &Cluster,
    location: Location,
    namespace: &Namespace,
    name: &str,
    entry: &WorkloadEntry,
    labels: &BTreeMap<String, String>,
) -> Option<Endpoint> {
    let is_internal = location == Location::Internal;
    let account = entry.service_account.as_deref().filter(|_| is_internal);
    // What is behind a Unix socket is the caller's own neighbour: nobody stands before it.
    let is_neighbour = matches!(entry.address, Some(Address::Unix(_)));
    let account = account.filter(|_| !is_neighbour);
    let identity = account.and_then(|account| identity(&cluster.trust_domain, namespace, account));
    let is_disabled = labels.get(TLS_MODE).is_some_and(|mode| mode == "disabled");
    Some(Endpoint {
        address: entry.address.clone()?,
        ports: entry.ports.clone(),
        labels: Arc::new(labels.clone()),
        locality: entry.locality.clone().unwrap_or_default(),
        network: entry.network.clone(),
        weight: entry.weight,
        mtls: identity.is_some() && !is_disabled,
        identity,
        workload: name.into(),
    })
}

fn identity(domain: &TrustDomain, namespace: &Namespace, account: &str) -> Option<WorkloadIdentity> {
    WorkloadIdentity::new(domain.clone(), namespace.clone(), account).ok()
}

fn conflict(key: &ServiceKey, document: &Document, message: String) -> Conflict {
    Conflict { service: key.clone(), origin: Origin::File(document.position.clone()), message }
}

/// The WorkloadEntries, to be found by their labels.
struct Workloads<'a> {
    all: Vec<Workload<'a>>,
    by_label: HashMap<(&'a str, String, String), Vec<usize>>,
}

struct Workload<'a> {
    document: &'a Document,
    entry: &'a WorkloadEntry,
    /// Those of `spec.labels` and of the metadata, which win, as in Istio.
    labels: BTreeMap<String, String>,
}

impl<'a> Workloads<'a> {
    /// Of two of one name the first counts.
    fn new(documents: impl Iterator<Item = &'a Document>) -> Self {
        let mut workloads = Self { all: Vec::new(), by_label: HashMap::new() };
        let mut taken = BTreeSet::new();
        for document in documents {
            let Resource::WorkloadEntry(entry) = &document.resource else { continue };
            let mut labels = entry.labels.clone();
            labels.extend(document.metadata.labels.clone());
            let namespace = document.metadata.namespace.as_str();
            if !taken.insert((namespace, document.metadata.name.as_str())) {
                continue;
            }
            for (name, value) in &labels {
                let key = (namespace, name.clone(), value.clone());
                workloads.by_label.entry(key).or_default().push(workloads.all.len());
            }
            workloads.all.push(Workload { document, entry, labels });
        }
        workloads
    }

    fn bearing<'b>(
        &'b self,
        namespace: &'b Namespace,
        wanted: &'b BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'b Workload<'a>> {
        let first = wanted.iter().next().map(|(name, value)| (namespace.as_str(), name.clone(), value.clone()));
        let found = first.and_then(|key| self.by_label.get(&key)).map(Vec::as_slice).unwrap_or_default();
        let bears = |workload: &&Workload<'_>| wanted.iter().all(|(k, v)| workload.labels.get(k) == Some(v));
        found.iter().map(|i| &self.all[*i]).filter(bears)
    }
}

// === what the peers offer ===

/// Adds to `services` what the peers offer. A peer adds rows under its own name and touches no other's.
fn add_imports(services: &mut Services, peers: &BTreeMap<ClusterId, PeerInput>, conflicts: &mut Vec<Conflict>) {
    let mut only_imported = Services::new();
    for (id, input) in peers.iter().filter(|(_, input)| !input.forgotten) {
        for (key, export) in input.exports.iter() {
            let service = match services.get_mut(key) {
                Some(service) => service,
                None => adopted(&mut only_imported, key, export),
            };
            if let Err(message) = import(service, id, export) {
                conflicts.push(Conflict { service: key.clone(), origin: Origin::Cluster(id.clone()), message });
            }
        }
    }
    services.append(&mut only_imported);
}

/// The service that only peers have, with those of the export's ports that are free in it.
fn adopted<'a>(services: &'a mut Services, key: &ServiceKey, export: &ServiceExport) -> &'a mut Service {
    let service = services.entry(key.clone()).or_insert_with(|| Service {
        resolution: Resolution::Static,
        location: Location::Internal,
        ..Service::new(key.clone())
    });
    for port in &export.ports {
        let is_taken = service.ports.iter().any(|other| other.number == port.number || other.name == port.name);
        if !is_taken {
            service.ports.push(Port { target: None, ..port.clone() });
        }
    }
    service.ports.sort_by_key(|port| port.number);
    service
}

/// Adds the peer's row, with the ports on which both agree; what is not used is the error.
fn import(service: &mut Service, cluster: &ClusterId, export: &ServiceExport) -> Result<(), String> {
    if service.location == Location::External || service.resolution == Resolution::None {
        return Err("not used: here the service is declared MESH_EXTERNAL, or with resolution NONE".to_owned());
    }
    let (agreed, others): (Vec<Port>, Vec<Port>) =
        export.ports.iter().cloned().partition(|port| agrees(&service.ports, port));
    if !agreed.is_empty() {
        let export = ServiceExport { ports: agreed, ..export.clone() };
        service.imports.insert(cluster.clone(), ServiceImport { cluster: cluster.clone(), export });
    }
    if others.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = others.iter().map(|port| format!("{} {}", port.number, port.protocol.as_str())).collect();
    Err(format!("these ports are not used, because they are not declared so here: {}", list.join(", ")))
}

/// Whether `ports` has this one, and what is spoken on it is the same, or left to be detected.
fn agrees(ports: &[Port], offered: &Port) -> bool {
    let same = |ours: Protocol| {
        ours == offered.protocol
            || (ours == Protocol::Auto && offered.protocol != Protocol::Udp)
            || (offered.protocol == Protocol::Auto && ours != Protocol::Udp)
    };
    ports.iter().any(|port| port.number == offered.number && same(port.protocol))
}

// === addresses ===

/// The hosts that need an address from us: those without one that can be looked up by name and are sent somewhere else.
pub(crate) fn hosts_without_addresses(services: &Services) -> BTreeSet<Host> {
    services.values().filter(|service| needs_address(service)).map(|service| service.key.host.clone()).collect()
}

/// Gives each service that needs them the addresses allocated to its host.
pub(crate) fn assign(services: &mut Services, slot: impl Fn(&Host) -> Option<Slot>) {
    for service in services.values_mut() {
        if needs_address(service) {
            service.addresses =
                slot(&service.key.host).map_or_else(Vec::new, |slot| vec![slot.ipv4().into(), slot.ipv6().into()]);
        }
    }
}

fn needs_address(service: &Service) -> bool {
    let declares = !service.addresses.is_empty() || !service.networks.is_empty();
    service.allocates && !declares && service.resolution != Resolution::None && !service.key.host.is_wildcard()
}

#[cfg(test)]
mod tests;
