//! One address of a service, in the own cluster.

use crate::{Host, Locality, NetworkId, WorkloadIdentity};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// An IP address.
    Ip(IpAddr),
    /// A name that DNS resolves.
    Name(Host),
    /// A Unix socket beside the caller; one of the abstract namespace begins with `@`.
    Unix(Arc<Path>),
}

/// One endpoint of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub address: Address,
    /// Port numbers by the service port's name, where they differ from the service's `targetPort`.
    pub ports: BTreeMap<String, u16>,
    /// The workload's labels.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Where it runs.
    pub locality: Locality,
    /// The network of its address.
    pub network: NetworkId,
    /// Its share of load; at least 1.
    pub weight: u32,
    /// The identity its certificate shows; absent for endpoints outside the mesh.
    pub identity: Option<WorkloadIdentity>,
    /// The workload's name, for telemetry.
    pub workload: Arc<str>,
    /// Whether it speaks mTLS (label `security.istio.io/tlsMode: istio`, or a proxy is known to stand before it).
    pub mtls: bool,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(host) => host.fmt(f),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}
