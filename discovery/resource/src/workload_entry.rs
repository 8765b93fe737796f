//! WorkloadEntry: one workload outside of Kubernetes, and likewise each of a ServiceEntry's `endpoints`.

use crate::{Field, Fields, Metadata, ResourceError, Source};
use model::{Address, Locality, Namespace, NetworkId, TrustDomain, WorkloadIdentity};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

/// One workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadEntry {
    /// Where it is. Absent in a WorkloadGroup's template, and where only its network is known: then it is no endpoint.
    pub address: Option<Address>,
    /// Its port numbers, by the service port's name.
    pub ports: BTreeMap<String, u16>,
    /// Its labels, from `spec.labels`.
    pub labels: BTreeMap<String, String>,
    /// The network of its address.
    pub network: NetworkId,
    /// Where it runs, if said.
    pub locality: Option<Locality>,
    /// Its share of load; at least 1.
    pub weight: u32,
    /// The service account in its certificate, if it has one.
    pub service_account: Option<Arc<str>>,
    /// Why it is not healthy, if it is not: then it is no endpoint.
    pub unhealthy: Option<String>,
}

/// The names of a WorkloadEntry's fields.
const FIELDS: &[&str] = &["address", "ports", "labels", "network", "locality", "weight", "serviceAccount"];
/// Weights stay far below the 2^32 that Envoy allows the sum of a locality's endpoints.
const GREATEST_WEIGHT: u32 = 1_000_000;
/// As Istio has it.
const LONGEST_NETWORK: usize = 2_048;
const NETWORK_LABEL: &str = "topology.istio.io/network";
/// The annotation of a workload whose health is reported (Istio's): until it is, the workload is not healthy.
pub const HEALTH_CHECKED: &str = "proxy.istio.io/health-checks-enabled";
/// The condition of a WorkloadEntry's status that tells its health.
const HEALTHY: &str = "Healthy";

/// A WorkloadEntry, or an endpoint of a ServiceEntry in `namespace`; its address is required.
pub(crate) fn read(at: &Field<'_>, namespace: &Namespace, source: &mut Source) -> Result<WorkloadEntry, ResourceError> {
    let entry = template(at, namespace)?;
    if entry.address.is_none() {
        let (address, network) = (at.any_field("address"), at.any_field("network"));
        if !network.is_present() {
            return Err(address.refuse("an IP address, a host name or unix://PATH"));
        }
        source.warn(&network, "no endpoint: a workload without an address is reached through a gateway of its network");
    }
    Ok(entry)
}

/// The WorkloadEntry `object` in full, with what its status says of its health.
pub(crate) fn document(
    object: &Fields<'_>,
    metadata: &Metadata,
    source: &mut Source,
) -> Result<WorkloadEntry, ResourceError> {
    let spec = object.get("spec").require("a WorkloadEntry's fields")?;
    let entry = read(&spec, &metadata.namespace, source)?;
    Ok(WorkloadEntry { unhealthy: unhealthy(&object.get("status"), metadata)?, ..entry })
}

/// Why it is not healthy: its status says so, or is to say so and does not yet.
fn unhealthy(status: &Field<'_>, metadata: &Metadata) -> Result<Option<String>, ResourceError> {
    for condition in status.any_field("conditions").items()? {
        if condition.any_field("type").text()? != Some(HEALTHY) {
            continue;
        }
        let value = condition.any_field("status");
        let message = condition.any_field("message").text()?.filter(|message| !message.is_empty());
        return match value.text()? {
            Some("True") => Ok(None),
            Some("False" | "Unknown") => Ok(Some(message.unwrap_or("its status says so").to_owned())),
            _ => Err(value.refuse("\"True\", \"False\" or \"Unknown\"")),
        };
    }
    let is_checked = metadata.annotations.get(HEALTH_CHECKED).is_some_and(|value| value == "true");
    Ok(is_checked.then(|| "its health was not reported yet".to_owned()))
}

/// A WorkloadGroup's template: as [`read`], but the address may be missing.
pub(crate) fn template(at: &Field<'_>, namespace: &Namespace) -> Result<WorkloadEntry, ResourceError> {
    let fields = at.fields(FIELDS)?;
    let labels = labels(&fields.get("labels"))?;
    let network = match fields.get("network").text()? {
        Some(network) if network.len() > LONGEST_NETWORK => {
            return Err(fields.get("network").refuse("a network's name, at most 2048 characters"));
        }
        Some(network) => network,
        None => labels.get(NETWORK_LABEL).map_or("", String::as_str),
    };
    let weight = fields.get("weight").integer(0..=GREATEST_WEIGHT, "a weight, 0 to 1000000")?.unwrap_or_default();
    Ok(WorkloadEntry {
        address: address(&fields)?,
        ports: ports(&fields.get("ports"))?,
        network: NetworkId(network.into()),
        labels,
        locality: fields.get("locality").parse()?,
        weight: weight.max(1),
        service_account: service_account(&fields.get("serviceAccount"), namespace)?,
        unhealthy: None,
    })
}

fn address(fields: &Fields<'_>) -> Result<Option<Address>, ResourceError> {
    let at = &fields.get("address");
    let Some(text) = at.text()?.filter(|text| !text.is_empty()) else { return Ok(None) };
    if let Some(path) = text.strip_prefix("unix://") {
        let is_path = path.starts_with(['/', '@']) && !path.ends_with('/') && (2..=107).contains(&path.len());
        if !is_path || path.contains('\0') {
            return Err(at.refuse("unix:// and an absolute path, or '@' and a name, of at most 107 bytes"));
        }
        if fields.get("ports").is_present() {
            return Err(fields.get("ports").refuse("no ports where the address is a Unix socket"));
        }
        return Ok(Some(Address::Unix(Path::new(path).into())));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        if ip.is_unspecified() || ip.is_multicast() || ip.to_canonical() != ip {
            return Err(at.refuse("the address of one host: not 0.0.0.0, ::, multicast or IPv4-mapped"));
        }
        return Ok(Some(Address::Ip(ip)));
    }
    let host: model::Host = at.required()?;
    let looks_numeric = host.as_str().bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if host.is_wildcard() || looks_numeric {
        return Err(at.refuse("an IP address or a host name"));
    }
    Ok(Some(Address::Name(host)))
}

fn ports(at: &Field<'_>) -> Result<BTreeMap<String, u16>, ResourceError> {
    let mut ports = BTreeMap::new();
    for (name, port) in at.members()? {
        let number = port.port()?.ok_or_else(|| port.refuse("a port number, 1 to 65535"))?;
        ports.insert(name.to_owned(), number);
    }
    Ok(ports)
}

/// A mapping of labels: values are at most 63 characters long, as Kubernetes wants them.
pub(crate) fn labels(at: &Field<'_>) -> Result<BTreeMap<String, String>, ResourceError> {
    for (key, value) in at.members()? {
        if key.is_empty() || key.len() > 317 {
            return Err(value.refuse("a label: its key is PREFIX/NAME or NAME, at most 317 characters"));
        }
        if value.required_text()?.len() > 63 {
            return Err(value.refuse("a label's value, at most 63 characters"));
        }
    }
    at.texts()
}

fn service_account(at: &Field<'_>, namespace: &Namespace) -> Result<Option<Arc<str>>, ResourceError> {
    let Some(text) = at.text()?.filter(|text| !text.is_empty()) else { return Ok(None) };
    let anywhere: TrustDomain = "any".parse().expect("a trust domain");
    match WorkloadIdentity::new(anywhere, namespace.clone(), text) {
        Ok(identity) => Ok(Some(identity.service_account)),
        Err(invalid) => Err(at.refuse(invalid.expected)),
    }
}
