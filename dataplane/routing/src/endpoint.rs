//! Endpoints: where an upstream's requests can go.

use crate::Load;
use crate::decode::host_and_port;
use api::envoy::envoy::config::core::v3::address::Address as ProtoAddress;
use api::envoy::envoy::config::core::v3::{Address, Metadata};
use api::envoy::envoy::config::endpoint::v3 as proto;
use api::envoy::google::protobuf::value::Kind;
use proto::lb_endpoint::HostIdentifier;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// One endpoint of an upstream.
#[derive(Debug)]
pub struct Endpoint {
    /// The same for as long as the endpoint and the way to speak to it stay the same, and never used for another.
    pub id: u64,
    /// What is known of it.
    pub facts: Facts,
    /// What it carries.
    pub load: Load,
}

/// What the control plane tells of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Where it is.
    pub target: Target,
    /// Its share of requests, at least 1.
    pub weight: u32,
    /// Lower ones first.
    pub priority: u32,
    /// Whether it takes the mesh's mTLS.
    pub tls: bool,
    /// Which workload it is, if it is local.
    pub workload: Arc<Workload>,
    /// The clusters that lie behind it, if it is an own gateway's address: `east,north`.
    pub clusters: Option<Arc<str>>,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// An address.
    Socket(SocketAddr),
    /// A name to be resolved, and a port.
    Name(Arc<str>, u16),
    /// A Unix socket.
    Unix(Arc<Path>),
}

/// Which workload an endpoint is, for telemetry; what is not known is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Workload {
    /// Its name.
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its label `app`.
    pub app: Arc<str>,
    /// Its label `version`.
    pub version: Arc<str>,
    /// Its cluster.
    pub cluster: Arc<str>,
}

/// Those of a whole assignment.
pub(crate) fn parse(assignment: &proto::ClusterLoadAssignment) -> Result<Vec<Facts>, String> {
    let mut all: Vec<Facts> = Vec::with_capacity(assignment.endpoints.iter().map(|one| one.lb_endpoints.len()).sum());
    for locality in &assignment.endpoints {
        for endpoint in &locality.lb_endpoints {
            let like = all.last().map(|facts| &*facts.workload);
            let facts = Facts::parse(endpoint, locality.priority, like)?;
            all.push(facts);
        }
    }
    Ok(all)
}

// === impl Facts ===

impl Facts {
    /// An endpoint that nothing is known of but where it is.
    pub(crate) fn new(target: Target) -> Self {
        Self { target, weight: 1, priority: 0, tls: false, workload: Arc::default(), clusters: None }
    }

    /// `like` is the workload of another endpoint of the same service.
    fn parse(endpoint: &proto::LbEndpoint, priority: u32, like: Option<&Workload>) -> Result<Self, String> {
        let Some(HostIdentifier::Endpoint(place)) = &endpoint.host_identifier else {
            return Err("lb_endpoints: endpoint is expected".into());
        };
        let text = |filter, field| metadata(endpoint.metadata.as_ref(), filter, field);
        Ok(Self {
            target: Target::parse(place.address.as_ref())?,
            weight: endpoint.load_balancing_weight.as_ref().map_or(1, |weight| weight.value).max(1),
            priority,
            tls: text("envoy.transport_socket_match", "tlsMode") == Some("istio"),
            workload: text("istio", "workload").map(|text| Workload::parse(text, like).into()).unwrap_or_default(),
            clusters: text("isthmus", "cluster").map(Into::into),
        })
    }
}

fn metadata<'a>(metadata: Option<&'a Metadata>, filter: &str, field: &str) -> Option<&'a str> {
    match &metadata?.filter_metadata.get(filter)?.fields.get(field)?.kind {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    }
}

// === impl Target ===

impl Target {
    fn parse(address: Option<&Address>) -> Result<Self, String> {
        if let Some(ProtoAddress::Pipe(pipe)) = address.and_then(|address| address.address.as_ref()) {
            return Ok(Self::Unix(Path::new(&pipe.path).into()));
        }
        let (host, port) = host_and_port(address).ok_or("address: a host and a port, or a pipe, is expected")?;
        Ok(match host.parse() {
            Ok(ip) => Self::Socket(SocketAddr::new(ip, port)),
            Err(_) => Self::Name(host.into(), port),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => write!(f, "{address}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

// === impl Workload ===

impl Workload {
    /// Parses Istio's `NAME;NAMESPACE;APP;VERSION;CLUSTER`. What is the same as in `like` is shared with it.
    fn parse(text: &str, like: Option<&Self>) -> Self {
        let mut parts = text.split(';');
        let mut next = |of: fn(&Self) -> &Arc<str>| {
            let part = parts.next().unwrap_or_default();
            like.map(of).filter(|known| &***known == part).cloned().unwrap_or_else(|| part.into())
        };
        Self {
            name: next(|like| &like.name),
            namespace: next(|like| &like.namespace),
            app: next(|like| &like.app),
            version: next(|like| &like.version),
            cluster: next(|like| &like.cluster),
        }
    }
}
