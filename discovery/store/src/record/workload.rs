//! A workload that registered itself, from and to protobuf.

use api::isthmus::{WorkloadRecord, workload_record::Health};
use model::{Invalid, Locality, Namespace, NetworkId};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// A workload that registered itself with a control plane of the own cluster, as a member of a WorkloadGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its namespace, and the group's.
    pub namespace: Namespace,
    /// Its name: GROUP-ADDRESS, or GROUP-ADDRESS-NETWORK.
    pub name: String,
    /// The WorkloadGroup.
    pub group: String,
    /// Where it is.
    pub address: IpAddr,
    /// Its port numbers, by the service port's name.
    pub ports: BTreeMap<String, u16>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// The network of its address.
    pub network: NetworkId,
    /// Where it runs.
    pub locality: Locality,
    /// Its share of load; at least 1.
    pub weight: u32,
    /// The service account in its certificate.
    pub service_account: Arc<str>,
    /// What is known of its health.
    pub health: WorkloadHealth,
    /// The control plane that it is, or was last, connected to.
    pub controller: String,
    /// Since when it was connected there, in Unix milliseconds.
    pub connected_at: u64,
    /// Since when it is not, in Unix milliseconds; 0 while it is.
    pub disconnected_at: u64,
}

/// What is known of a workload's health.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum WorkloadHealth {
    /// Nobody looks at it: it counts as healthy.
    #[default]
    Unchecked,
    /// It is to be reported, and was not yet: it does not count as healthy.
    Unknown,
    /// It was found healthy.
    Healthy,
    /// It was not, for this reason of at most 512 bytes.
    Unhealthy(String),
}

/// The most entries of each of its maps.
const ENTRIES: usize = 256;
/// The longest reason, in bytes.
const REASON: usize = 512;
/// As that of a WorkloadEntry.
const WEIGHT: u32 = 1_000_000;

// === impl Workload ===

impl Workload {
    pub(super) fn to_proto(&self) -> WorkloadRecord {
        let (health, reason) = match &self.health {
            WorkloadHealth::Unchecked => (Health::Unchecked, ""),
            WorkloadHealth::Unknown => (Health::Unknown, ""),
            WorkloadHealth::Healthy => (Health::Healthy, ""),
            WorkloadHealth::Unhealthy(reason) => (Health::Unhealthy, reason.as_str()),
        };
        WorkloadRecord {
            namespace: self.namespace.to_string(),
            name: self.name.clone(),
            group: self.group.clone(),
            address: self.address.to_string(),
            ports: self.ports.iter().map(|(name, port)| (name.clone(), u32::from(*port))).collect(),
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            network: self.network.0.to_string(),
            locality: self.locality.to_string(),
            weight: self.weight,
            service_account: self.service_account.to_string(),
            health: health.into(),
            reason: reason.to_owned(),
            controller: self.controller.clone(),
            connected_at: self.connected_at,
            disconnected_at: self.disconnected_at,
        }
    }

    pub(super) fn from_proto(proto: WorkloadRecord) -> Result<Self, Invalid> {
        for (field, count) in
            [("ports", proto.ports.len()), ("labels", proto.labels.len()), ("annotations", proto.annotations.len())]
        {
            if count > ENTRIES {
                return Err(Invalid::new(field, &count.to_string(), "at most 256 entries"));
            }
        }
        if !(1..=WEIGHT).contains(&proto.weight) {
            return Err(Invalid::new("weight", &proto.weight.to_string(), "1 to 1000000"));
        }
        let port = |(name, port): (String, u32)| match u16::try_from(port) {
            Ok(number) if number > 0 => Ok((name, number)),
            _ => Err(Invalid::new("port", &port.to_string(), "1 to 65535")),
        };
        Ok(Self {
            namespace: proto.namespace.parse()?,
            health: WorkloadHealth::from_proto(proto.health(), &proto.reason),
            name: proto.name,
            group: proto.group,
            address: proto.address.parse().map_err(|_| Invalid::new("address", &proto.address, "an IP address"))?,
            ports: proto.ports.into_iter().map(port).collect::<Result<_, _>>()?,
            labels: proto.labels,
            annotations: proto.annotations,
            network: NetworkId(proto.network.into()),
            locality: proto.locality.parse()?,
            weight: proto.weight,
            service_account: proto.service_account.into(),
            controller: proto.controller,
            connected_at: proto.connected_at,
            disconnected_at: proto.disconnected_at,
        })
    }
}

// === impl WorkloadHealth ===

impl WorkloadHealth {
    /// Not healthy, for `reason`, of which only so much is kept as may be.
    pub fn unhealthy(reason: &str) -> Self {
        let end = (0..=REASON.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
        Self::Unhealthy(reason[..end].to_owned())
    }

    /// Why the workload does not count as healthy, if it does not.
    pub fn complaint(&self) -> Option<String> {
        match self {
            Self::Unchecked | Self::Healthy => None,
            Self::Unknown => Some("its health was not reported yet".to_owned()),
            Self::Unhealthy(reason) => Some(reason.clone()),
        }
    }

    fn from_proto(health: Health, reason: &str) -> Self {
        match health {
            Health::Unchecked => Self::Unchecked,
            Health::Unknown => Self::Unknown,
            Health::Healthy => Self::Healthy,
            Health::Unhealthy => Self::unhealthy(reason),
        }
    }
}
