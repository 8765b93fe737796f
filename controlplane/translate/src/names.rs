//! The name table: what a proxy's DNS server answers.

use api::istio::nds::{NameTable, name_table::NameInfo};
use model::{Address, Host, Service};
use std::net::IpAddr;
use xds::{Resource, type_url};

const CLUSTER_LOCAL: &str = ".svc.cluster.local";
const CLUSTERSET_LOCAL: &str = ".svc.clusterset.local";

/// `NAME.NAMESPACE.svc.DOMAIN` in its parts.
pub(crate) struct Kubernetes<'a> {
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
}

/// The names of `services`.
pub(crate) fn resource(services: &[&Service]) -> Resource {
    let mut table = NameTable::default();
    for service in services {
        let ips = addresses(service);
        if ips.is_empty() {
            continue;
        }
        let info = info(service, &ips);
        // A twin never replaces a host that was declared under that very name.
        if let Some(twin) = clusterset_twin(&service.key.host) {
            table.table.entry(twin).or_insert_with(|| info.clone());
        }
        table.table.insert(service.key.host.to_string(), info);
    }
    Resource::new(type_url::NAME_TABLE_NAME, &table)
}

/// The name of the Multi-Cluster Services API for a Kubernetes service (KEP-1645).
pub(crate) fn clusterset_twin(host: &Host) -> Option<String> {
    host.as_str().strip_suffix(CLUSTER_LOCAL).map(|service| format!("{service}{CLUSTERSET_LOCAL}"))
}

/// The parts of a Kubernetes service's name, if `host` is one.
pub(crate) fn kubernetes(host: &Host) -> Option<Kubernetes<'_>> {
    let mut labels = host.as_str().splitn(4, '.');
    let (name, namespace) = (labels.next()?, labels.next()?);
    (labels.next() == Some("svc") && labels.next().is_some() && name != "*").then_some(Kubernetes { name, namespace })
}

/// A service's own addresses; those of its endpoints if it has none (a headless service).
pub(crate) fn addresses(service: &Service) -> Vec<IpAddr> {
    if !service.addresses.is_empty() {
        return service.addresses.clone();
    }
    let ip = |address: &Address| match address {
        Address::Ip(ip) => Some(*ip),
        Address::Name(_) | Address::Unix(_) => None,
    };
    service.endpoints.iter().filter_map(|endpoint| ip(&endpoint.address)).collect()
}

fn info(service: &Service, ips: &[IpAddr]) -> NameInfo {
    let kubernetes = kubernetes(&service.key.host);
    NameInfo {
        ips: ips.iter().map(ToString::to_string).collect(),
        registry: if kubernetes.is_some() { "Kubernetes" } else { "External" }.to_owned(),
        shortname: kubernetes.as_ref().map_or("", |parts| parts.name).to_owned(),
        namespace: kubernetes.map_or(service.key.namespace.as_str(), |parts| parts.namespace).to_owned(),
    }
}
