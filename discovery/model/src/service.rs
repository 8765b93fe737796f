//! A service: a host in a namespace, its ports, and what stands behind it.

use crate::{Audience, ClusterId, Endpoint, Host, Invalid, Namespace, ServiceImport, Visibility};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Which service. Ordered by host first, so that all namespaces' services of one host stand together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The host.
    pub host: Host,
    /// The namespace that declared it.
    pub namespace: Namespace,
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The number that clients use; never 0.
    pub number: u16,
    /// Its name.
    pub name: String,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// The number on the endpoints, if it differs.
    pub target: Option<u16>,
}

/// What is spoken on a port (Istio's protocol selection).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 (cleartext, or within the mesh's mTLS).
    Http2,
    /// gRPC: HTTP/2.
    Grpc,
    /// The application's own TLS, routed by SNI (`TLS`, `HTTPS`).
    Tls,
    /// Bytes.
    Tcp,
    /// Not declared: to be detected.
    Auto,
    /// Datagrams.
    Udp,
}

/// How a service's endpoints are found (ServiceEntry.resolution).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resolution {
    /// They are where the client was already going.
    #[default]
    None,
    /// They are listed.
    Static,
    /// Their names are resolved; every address is used.
    Dns,
    /// Their names are resolved; the first address is used.
    DnsRoundRobin,
    /// The name that a request or a connection asks for is resolved then; the host is a wildcard.
    DynamicDns,
}

/// Whether a service belongs to the mesh (ServiceEntry.location).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Location {
    /// Outside: no mTLS.
    #[default]
    External,
    /// Inside.
    Internal,
}

/// A service as this cluster sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Which service.
    pub key: ServiceKey,
    /// Its ports, by number.
    pub ports: Vec<Port>,
    /// Its virtual addresses: declared, or else allocated.
    pub addresses: Vec<IpAddr>,
    /// Its virtual addresses given as ranges.
    pub networks: Vec<IpNet>,
    /// Whether it is given addresses if it declares none.
    pub allocates: bool,
    /// The namespaces of this cluster that see it; what the mesh says of those that do not say, if absent.
    pub visibility: Option<Visibility>,
    /// How its endpoints are found.
    pub resolution: Resolution,
    /// Whether it belongs to the mesh.
    pub location: Location,
    /// Which peers may use it.
    pub audience: Audience,
    /// Names that its endpoints' certificates may show, beside the endpoints' own identities.
    pub subject_alt_names: BTreeSet<String>,
    /// Its endpoints in this cluster, one by one.
    pub endpoints: Vec<Endpoint>,
    /// What the peers offer under the same key, in aggregate.
    pub imports: BTreeMap<ClusterId, ServiceImport>,
}

// === impl ServiceKey ===

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.host)
    }
}

// === impl Port ===

impl Port {
    /// The port's number on `endpoint`: by name there, else `targetPort`, else the service's own number.
    pub fn on(&self, endpoint: &Endpoint) -> u16 {
        endpoint.ports.get(&self.name).copied().or(self.target).unwrap_or(self.number)
    }
}

// === impl Protocol ===

impl Protocol {
    /// Whether requests are routed one by one.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc)
    }

    /// Whether the upstream speaks HTTP/2.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc)
    }

    /// As written in Istio's resources.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Http2 => "HTTP2",
            Self::Grpc => "GRPC",
            Self::Tls => "TLS",
            Self::Tcp => "TCP",
            Self::Auto => "AUTO",
            Self::Udp => "UDP",
        }
    }
}

impl FromStr for Protocol {
    type Err = Invalid;

    /// The names of Istio's `ServicePort.protocol`, in any case; blank is detection.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.to_ascii_uppercase().as_str() {
            "HTTP" | "HTTP_PROXY" => Ok(Self::Http),
            "HTTP2" => Ok(Self::Http2),
            "GRPC" | "GRPC-WEB" => Ok(Self::Grpc),
            "TLS" | "HTTPS" => Ok(Self::Tls),
            "TCP" | "MONGO" | "REDIS" | "MYSQL" => Ok(Self::Tcp),
            "" | "AUTO" => Ok(Self::Auto),
            "UDP" => Ok(Self::Udp),
            _ => Err(Invalid::new(
                "protocol",
                text,
                "HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, TLS, TCP, MONGO, REDIS, MYSQL or UDP",
            )),
        }
    }
}

// === impl Service ===

impl Service {
    /// An external service without ports, addresses and endpoints, that nobody else may use.
    pub fn new(key: ServiceKey) -> Self {
        Self {
            key,
            ports: Vec::new(),
            addresses: Vec::new(),
            networks: Vec::new(),
            allocates: true,
            visibility: None,
            resolution: Resolution::None,
            location: Location::External,
            audience: Audience::Nobody,
            subject_alt_names: BTreeSet::new(),
            endpoints: Vec::new(),
            imports: BTreeMap::new(),
        }
    }

    /// The port of this number.
    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.number == number)
    }
}
