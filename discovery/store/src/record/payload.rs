//! What records say, from and to protobuf. Everything is validated here, once; behind this wall nothing is optional.

use super::Payload;
use super::Workload;
use crate::key::{KeyKind, is_gateway};
use api::isthmus::record_body::Payload as Proto;
use api::isthmus::{
    AddressRecord, ControllerRecord, GatewayAlive, Group as ProtoGroup, Port as ProtoPort, ServiceRecord, Tombstone,
};
use model::{Group, Invalid, Port, ServiceExport, ServiceKey, WorkloadIdentity};
use std::collections::BTreeSet;

/// The most ports of a service, groups of a service, and identities and labels of a group.
const PORTS: usize = 128;
const GROUPS: usize = 256;
const IDENTITIES: usize = 256;
const LABELS: usize = 64;
/// The most addresses of a gateway.
const ADDRESSES: usize = 16;
/// The greatest weight of a group and number of its endpoints: a million, so that sums over all clusters fit.
const WEIGHT: u32 = 1_000_000;

// === impl Payload ===

impl Payload {
    pub(super) fn to_proto(&self) -> Proto {
        match self {
            Self::Service(export) => Proto::Service(service_to_proto(export)),
            Self::Tombstone => Proto::Tombstone(Tombstone {}),
            Self::Workload(workload) => Proto::Workload(workload.to_proto()),
            Self::Controller { name } => Proto::Controller(ControllerRecord { name: name.clone() }),
            Self::Alive { gateway, addresses } => {
                Proto::Alive(GatewayAlive { gateway: gateway.clone(), addresses: addresses.clone() })
            }
            Self::Address { host, ipv4, ipv6 } => {
                Proto::Address(AddressRecord { host: host.to_string(), ipv4: ipv4.to_string(), ipv6: ipv6.to_string() })
            }
        }
    }

    /// The payload of a record under a key of this kind; each kind of key holds its own kind of payload.
    pub(super) fn from_proto(proto: Proto, kind: &KeyKind) -> Result<Self, Invalid> {
        match (proto, kind) {
            (Proto::Service(service), KeyKind::Service { namespace, host, .. }) => {
                let export = service_from_proto(service)?;
                same("host", export.key.host.as_str(), host.as_str())?;
                same("namespace", export.key.namespace.as_str(), namespace.as_str())?;
                Ok(Self::Service(export))
            }
            (Proto::Tombstone(Tombstone {}), KeyKind::Service { .. } | KeyKind::Workload { .. }) => Ok(Self::Tombstone),
            (Proto::Workload(workload), KeyKind::Workload { namespace, name }) => {
                same("namespace", &workload.namespace, namespace.as_str())?;
                same("name", &workload.name, name)?;
                Workload::from_proto(workload).map(Self::Workload)
            }
            (Proto::Controller(controller), KeyKind::Controller { name }) => {
                same("name", &controller.name, name)?;
                Ok(Self::Controller { name: controller.name })
            }
            (Proto::Alive(alive), KeyKind::Alive { gateway }) => {
                same("gateway", &alive.gateway, gateway)?;
                alive_from_proto(alive)
            }
            (Proto::Address(address), KeyKind::Address { host }) => {
                same("host", &address.host, host.as_str())?;
                Ok(Self::Address {
                    host: host.clone(),
                    ipv4: parse("ipv4", &address.ipv4, "an IPv4 address")?,
                    ipv6: parse("ipv6", &address.ipv6, "an IPv6 address")?,
                })
            }
            (proto, _) => Err(Invalid::new("payload", name(&proto), "the kind of record that belongs under its key")),
        }
    }
}

fn name(proto: &Proto) -> &'static str {
    match proto {
        Proto::Service(_) => "service",
        Proto::Tombstone(_) => "tombstone",
        Proto::Alive(_) => "alive",
        Proto::Address(_) => "address",
        Proto::Workload(_) => "workload",
        Proto::Controller(_) => "controller",
    }
}

fn same(field: &'static str, written: &str, key: &str) -> Result<(), Invalid> {
    if written == key { Ok(()) } else { Err(Invalid::new(field, written, "the same as in the record's key")) }
}

fn parse<T: std::str::FromStr>(field: &'static str, text: &str, expected: &'static str) -> Result<T, Invalid> {
    text.parse().map_err(|_| Invalid::new(field, text, expected))
}

fn at_most(field: &'static str, count: usize, most: usize) -> Result<(), Invalid> {
    if count <= most {
        return Ok(());
    }
    Err(Invalid::new(
        field,
        &count.to_string(),
        "128 ports, 256 groups, 256 identities, 64 labels, 16 addresses at most",
    ))
}

fn alive_from_proto(alive: GatewayAlive) -> Result<Payload, Invalid> {
    if !is_gateway(&alive.gateway) {
        return Err(Invalid::new("gateway", &alive.gateway, "1 to 253 of a-z, A-Z, 0-9, '-', '_' and '.'"));
    }
    at_most("addresses", alive.addresses.len(), ADDRESSES)?;
    for address in &alive.addresses {
        check_address(address)?;
    }
    Ok(Payload::Alive { gateway: alive.gateway, addresses: alive.addresses })
}

/// `host:port`, the host a DNS name, an IPv4 address, or an IPv6 address in brackets.
fn check_address(text: &str) -> Result<(), Invalid> {
    let refuse = || Invalid::new("address", text, "HOST:PORT, the host a DNS name or an IP address, the port not 0");
    let (host, port) = text.rsplit_once(':').ok_or_else(refuse)?;
    if port.parse::<u16>().ok().is_none_or(|port| port == 0) {
        return Err(refuse());
    }
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.parse::<model::Host>().is_ok_and(|host| !host.is_wildcard()),
    };
    if is_host { Ok(()) } else { Err(refuse()) }
}

fn service_to_proto(export: &ServiceExport) -> ServiceRecord {
    ServiceRecord {
        host: export.key.host.to_string(),
        namespace: export.key.namespace.to_string(),
        ports: export
            .ports
            .iter()
            .map(|port| ProtoPort {
                number: u32::from(port.number),
                name: port.name.clone(),
                protocol: port.protocol.as_str().to_owned(),
            })
            .collect(),
        groups: export.groups.iter().map(group_to_proto).collect(),
    }
}

fn group_to_proto(group: &Group) -> ProtoGroup {
    ProtoGroup {
        id: group.id.to_string(),
        labels: group.labels.clone(),
        locality: group.locality.to_string(),
        ready: group.ready,
        weight: group.weight,
        identities: group.identities.iter().map(WorkloadIdentity::to_string).collect(),
    }
}

fn service_from_proto(service: ServiceRecord) -> Result<ServiceExport, Invalid> {
    at_most("ports", service.ports.len(), PORTS)?;
    at_most("groups", service.groups.len(), GROUPS)?;
    let key = ServiceKey { host: service.host.parse()?, namespace: service.namespace.parse()? };
    let mut numbers = BTreeSet::new();
    let mut ports = Vec::with_capacity(service.ports.len());
    for port in service.ports {
        let port = port_from_proto(port)?;
        if !numbers.insert(port.number) {
            return Err(Invalid::new("port", &port.number.to_string(), "each number once"));
        }
        ports.push(port);
    }
    let mut ids = BTreeSet::new();
    let mut groups = Vec::with_capacity(service.groups.len());
    for group in service.groups {
        let group = group_from_proto(group)?;
        if !ids.insert((group.id.clone(), group.locality.clone())) {
            return Err(Invalid::new("group", group.id.as_str(), "each group once in a locality"));
        }
        groups.push(group);
    }
    Ok(ServiceExport { key, ports, groups })
}

fn port_from_proto(port: ProtoPort) -> Result<Port, Invalid> {
    let number = u16::try_from(port.number)
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| Invalid::new("port", &port.number.to_string(), "1 to 65535"))?;
    if port.name.len() > 253 {
        return Err(Invalid::new("port name", &port.name, "at most 253 characters"));
    }
    Ok(Port { number, name: port.name, protocol: port.protocol.parse()?, target: None })
}

fn group_from_proto(group: ProtoGroup) -> Result<Group, Invalid> {
    at_most("identities", group.identities.len(), IDENTITIES)?;
    at_most("labels", group.labels.len(), LABELS)?;
    for (field, value) in [("ready", group.ready), ("weight", group.weight)] {
        if value > WEIGHT {
            return Err(Invalid::new(field, &value.to_string(), "0 to 1000000"));
        }
    }
    Ok(Group {
        id: group.id.parse()?,
        labels: group.labels,
        locality: group.locality.parse()?,
        ready: group.ready,
        weight: group.weight,
        identities: group.identities.iter().map(|identity| identity.parse()).collect::<Result<_, _>>()?,
    })
}
