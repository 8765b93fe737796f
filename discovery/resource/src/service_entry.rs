//! ServiceEntry: a service, its ports, and what stands behind it.

use crate::{Field, Fields, Metadata, ResourceError, Source, WorkloadEntry, export, workload_entry};
use ipnet::IpNet;
use model::{Address, Audience, Host, Location, Port, Protocol, Resolution, Visibility};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A service that somebody declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Its hosts; at least one.
    pub hosts: Vec<Host>,
    /// Its virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// Its virtual addresses given as ranges.
    pub networks: Vec<IpNet>,
    /// Its ports; names and numbers are unique.
    pub ports: Vec<Port>,
    /// Whether it belongs to the mesh.
    pub location: Location,
    /// How its endpoints are found.
    pub resolution: Resolution,
    /// Its endpoints, where they are listed.
    pub endpoints: Vec<WorkloadEntry>,
    /// The labels of the WorkloadEntries that are its endpoints, where they are chosen.
    pub workload_selector: Option<BTreeMap<String, String>>,
    /// Names that its endpoints' certificates may show, beside their own identities.
    pub subject_alt_names: BTreeSet<String>,
    /// The namespaces of this cluster that see it, if it says so.
    pub export_to: Option<Visibility>,
    /// Whether it is given addresses if it declares none (label `networking.istio.io/enable-autoallocate-ip`).
    pub allocates: bool,
    /// The clusters that may use it (annotation `isthmus.io/export`).
    pub audience: Audience,
    /// The labels that tell its groups apart (annotation `isthmus.io/export-labels`).
    pub export_labels: Option<Vec<String>>,
}

const FIELDS: &[&str] = &[
    "hosts",
    "addresses",
    "ports",
    "location",
    "resolution",
    "endpoints",
    "workloadSelector",
    "exportTo",
    "subjectAltNames",
];
/// The label that keeps a service from being given addresses.
const ALLOCATES: &str = "networking.istio.io/enable-autoallocate-ip";
const MANY: usize = 256;
const MANY_ENDPOINTS: usize = 4_096;

pub(crate) fn read(
    object: &Fields<'_>,
    metadata: &Metadata,
    source: &mut Source,
) -> Result<ServiceEntry, ResourceError> {
    let spec = object.get("spec").require("a ServiceEntry's fields")?.fields(FIELDS)?;
    let export = export::read(&object.get("metadata"), source)?;
    let resolution = resolution(&spec.get("resolution"))?;
    let ports = ports(&spec.get("ports"), resolution, source)?;
    let (addresses, networks) = addresses(&spec.get("addresses"), resolution)?;
    let entry = ServiceEntry {
        hosts: hosts(&spec.get("hosts"))?,
        addresses,
        networks,
        endpoints: endpoints(&spec.get("endpoints"), metadata, resolution, &ports, source)?,
        ports,
        location: location(&spec.get("location"))?,
        resolution,
        workload_selector: selector(&spec.get("workloadSelector"))?,
        subject_alt_names: names(&spec.get("subjectAltNames"))?,
        export_to: spec.get("exportTo").visibility(&metadata.namespace)?,
        allocates: metadata.labels.get(ALLOCATES).is_none_or(|label| label != "false"),
        audience: export.audience,
        export_labels: export.labels,
    };
    check_backing(&entry, &spec)?;
    check_dynamic(&entry, &spec)?;
    check_export(&entry, object, source)?;
    Ok(entry)
}

fn hosts(at: &Field<'_>) -> Result<Vec<Host>, ResourceError> {
    let items = at.items()?;
    if items.is_empty() || items.len() > MANY {
        return Err(at.refuse("1 to 256 hosts"));
    }
    let mut hosts: Vec<Host> = Vec::new();
    for item in items {
        let host: Host = item.required()?;
        if host.as_str().parse::<IpAddr>().is_ok() {
            return Err(item.refuse("a DNS name; IP addresses belong in spec.addresses"));
        }
        if hosts.contains(&host) {
            return Err(item.refuse("each host once"));
        }
        hosts.push(host);
    }
    Ok(hosts)
}

fn resolution(at: &Field<'_>) -> Result<Resolution, ResourceError> {
    match at.text()? {
        None | Some("NONE") => Ok(Resolution::None),
        Some("STATIC") => Ok(Resolution::Static),
        Some("DNS") => Ok(Resolution::Dns),
        Some("DNS_ROUND_ROBIN") => Ok(Resolution::DnsRoundRobin),
        Some("DYNAMIC_DNS") => Ok(Resolution::DynamicDns),
        Some(_) => Err(at.refuse("NONE, STATIC, DNS, DNS_ROUND_ROBIN or DYNAMIC_DNS")),
    }
}

fn location(at: &Field<'_>) -> Result<Location, ResourceError> {
    match at.text()? {
        None | Some("MESH_EXTERNAL") => Ok(Location::External),
        Some("MESH_INTERNAL") => Ok(Location::Internal),
        Some(_) => Err(at.refuse("MESH_EXTERNAL or MESH_INTERNAL")),
    }
}

fn ports(at: &Field<'_>, resolution: Resolution, source: &mut Source) -> Result<Vec<Port>, ResourceError> {
    let items = at.items()?;
    if items.len() > MANY {
        return Err(at.refuse("at most 256 ports"));
    }
    if items.is_empty() {
        source.warn(at, "there are no ports: nothing can be sent to this service");
    }
    let mut ports: Vec<Port> = Vec::new();
    for item in items {
        let fields = item.fields(&["number", "name", "protocol", "targetPort"])?;
        let port = port(&fields, resolution)?;
        if ports.iter().any(|other| other.number == port.number) {
            return Err(fields.get("number").refuse("each port number once"));
        }
        if ports.iter().any(|other| other.name == port.name) {
            return Err(fields.get("name").refuse("each port name once"));
        }
        ports.push(port);
    }
    Ok(ports)
}

fn port(fields: &Fields<'_>, resolution: Resolution) -> Result<Port, ResourceError> {
    let (number, target) = (fields.get("number"), fields.get("targetPort"));
    let port = Port {
        number: number.port()?.ok_or_else(|| number.refuse("a port number, 1 to 65535"))?,
        name: port_name(&fields.get("name"))?,
        protocol: fields.get("protocol").parse()?.unwrap_or(Protocol::Auto),
        target: target.port()?,
    };
    if resolution == Resolution::None && port.target.is_some_and(|target| target != port.number) {
        return Err(target.refuse("the port's own number, or nothing, where resolution is NONE"));
    }
    Ok(port)
}

fn port_name(at: &Field<'_>) -> Result<String, ResourceError> {
    let name = at.required_text()?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let edges = !name.starts_with('-') && !name.ends_with('-');
    if (1..=63).contains(&name.len()) && name.bytes().all(legal) && edges {
        return Ok(name.to_owned());
    }
    Err(at.refuse("1 to 63 letters, digits and '-', beginning and ending with a letter or digit"))
}

fn addresses(at: &Field<'_>, resolution: Resolution) -> Result<(Vec<IpAddr>, Vec<IpNet>), ResourceError> {
    let items = at.items()?;
    if items.len() > MANY {
        return Err(at.refuse("at most 256 addresses"));
    }
    let (mut addresses, mut networks) = (Vec::new(), Vec::new());
    for item in items {
        let text = item.required_text()?;
        let net = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse::<IpNet>());
        let net = net.map_err(|_| item.refuse("an IP address or a CIDR range such as 10.0.0.0/16"))?;
        let ip = net.addr();
        if (ip.is_unspecified() && net.prefix_len() > 0) || ip.is_multicast() || ip.to_canonical() != ip {
            return Err(item.refuse("a unicast address: not 0.0.0.0, ::, multicast or IPv4-mapped"));
        }
        if net.prefix_len() == net.max_prefix_len() {
            addresses.push(ip);
            continue;
        }
        if !matches!(resolution, Resolution::Static | Resolution::None) {
            return Err(item.refuse("single addresses; ranges are for resolution NONE and STATIC"));
        }
        networks.push(net.trunc());
    }
    Ok((addresses, networks))
}

fn endpoints(
    at: &Field<'_>,
    metadata: &Metadata,
    resolution: Resolution,
    ports: &[Port],
    source: &mut Source,
) -> Result<Vec<WorkloadEntry>, ResourceError> {
    let items = at.items()?;
    if items.len() > MANY_ENDPOINTS {
        return Err(at.refuse("at most 4096 endpoints"));
    }
    let mut endpoints = Vec::new();
    for item in items {
        let endpoint = workload_entry::read(&item, &metadata.namespace, source)?;
        match (&endpoint.address, resolution) {
            (Some(Address::Name(_)), Resolution::Static) => {
                return Err(item.any_field("address").refuse("an IP address, because resolution is STATIC"));
            }
            (Some(Address::Unix(_)), resolution) if resolution != Resolution::Static => {
                return Err(item.any_field("address").refuse("a Unix socket only where resolution is STATIC"));
            }
            _ => {}
        }
        for (name, number) in item.any_field("ports").members()? {
            if !ports.iter().any(|port| port.name == name) {
                let known: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
                return Err(number.refuse(format!("a name of spec.ports: {}", known.join(", "))));
            }
        }
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

fn selector(at: &Field<'_>) -> Result<Option<BTreeMap<String, String>>, ResourceError> {
    if !at.is_present() {
        return Ok(None);
    }
    let labels = at.fields(&["labels"])?.get("labels");
    let chosen = workload_entry::labels(&labels)?;
    if let Some((_, value)) = labels.members()?.into_iter().find(|(_, value)| value.text().is_ok_and(has_star)) {
        return Err(value.refuse("a label's value as it stands: '*' matches nothing"));
    }
    if chosen.is_empty() {
        return Err(labels.refuse("one label or more"));
    }
    Ok(Some(chosen))
}

fn names(at: &Field<'_>) -> Result<BTreeSet<String>, ResourceError> {
    let mut names = BTreeSet::new();
    for item in at.items()? {
        let name = item.required_text()?;
        if name.is_empty() || name.len() > 2_048 {
            return Err(item.refuse("a name of 1 to 2048 characters, e.g. spiffe://east.example/ns/shop/sa/web"));
        }
        names.insert(name.to_owned());
    }
    Ok(names)
}

fn has_star(text: Option<&str>) -> bool {
    text.is_some_and(|text| text.contains('*'))
}

/// What stands behind the service must fit how it is found.
fn check_backing(entry: &ServiceEntry, spec: &Fields<'_>) -> Result<(), ResourceError> {
    let (endpoints, selector) = (spec.get("endpoints"), spec.get("workloadSelector"));
    let listed = !entry.endpoints.is_empty();
    let backed = listed || entry.workload_selector.is_some();
    if endpoints.is_present() && selector.is_present() {
        return Err(selector.refuse("either endpoints or workloadSelector, not both"));
    }
    match entry.resolution {
        Resolution::None if listed => Err(endpoints.refuse("no endpoints where resolution is NONE")),
        Resolution::Static if !backed => {
            Err(endpoints.refuse("one endpoint or more, or a workloadSelector, where resolution is STATIC"))
        }
        Resolution::None | Resolution::DnsRoundRobin | Resolution::DynamicDns if selector.is_present() => {
            Err(selector.refuse("no workloadSelector where resolution is NONE, DNS_ROUND_ROBIN or DYNAMIC_DNS"))
        }
        Resolution::DnsRoundRobin if entry.endpoints.len() > 1 => {
            Err(endpoints.refuse("at most one endpoint where resolution is DNS_ROUND_ROBIN"))
        }
        Resolution::Dns | Resolution::DnsRoundRobin if !backed && entry.hosts.iter().any(Host::is_wildcard) => {
            Err(spec.get("hosts").refuse("hosts without '*', or endpoints, where resolution is DNS"))
        }
        _ => Ok(()),
    }
}

/// Names that are resolved when they are asked for: nothing is known of them beforehand, and what asks must say the name.
fn check_dynamic(entry: &ServiceEntry, spec: &Fields<'_>) -> Result<(), ResourceError> {
    if entry.resolution != Resolution::DynamicDns {
        return Ok(());
    }
    for (item, host) in spec.get("hosts").items()?.iter().zip(&entry.hosts) {
        if !host.is_wildcard() {
            return Err(item.refuse("a host with '*', such as *.example.com, where resolution is DYNAMIC_DNS"));
        }
    }
    if entry.location != Location::External {
        return Err(spec.get("location").refuse("MESH_EXTERNAL where resolution is DYNAMIC_DNS"));
    }
    if spec.get("endpoints").is_present() {
        return Err(spec.get("endpoints").refuse("no endpoints where resolution is DYNAMIC_DNS"));
    }
    for (item, port) in spec.get("ports").items()?.iter().zip(&entry.ports) {
        if !port.protocol.is_http() && port.protocol != Protocol::Tls {
            return Err(item.any_field("protocol").refuse(
                "HTTP, HTTP2, GRPC, TLS or HTTPS where resolution is DYNAMIC_DNS: nothing else says which name is meant",
            ));
        }
        // A request names its port itself.
        if port.protocol.is_http() && port.target.is_some_and(|target| target != port.number) {
            let target = item.any_field("targetPort");
            return Err(target.refuse("the port's own number, or nothing, where resolution is DYNAMIC_DNS"));
        }
    }
    Ok(())
}

/// What is exported must be something that a peer can ask for.
fn check_export(entry: &ServiceEntry, object: &Fields<'_>, source: &mut Source) -> Result<(), ResourceError> {
    if entry.audience == Audience::Nobody {
        return Ok(());
    }
    let annotation = object.get("metadata").any_field("annotations").any_field(export::EXPORT);
    if entry.hosts.iter().any(Host::is_wildcard) {
        return Err(annotation.refuse("no export of a host with '*': peers ask for services by their full name"));
    }
    if entry.location == Location::External {
        source.warn(&annotation, "location is MESH_EXTERNAL: the endpoints show no identity that a peer could verify");
    }
    Ok(())
}
