//! Routes of connections: by the server name of the applications' own TLS, or by where they were going.

use crate::{GatewayName, HostPattern, Split, field, labels, matched_port};
use ipnet::IpNet;
use model::Namespace;
use resource::{Field, ResourceError};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A route of TLS connections that are not ended here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsRoute {
    /// When it is taken; at least one.
    pub matches: Vec<TlsMatch>,
    /// Where it leads.
    pub route: Vec<Split>,
}

/// A route of other connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpRoute {
    /// When it is taken; always if there are none.
    pub matches: Vec<StreamMatch>,
    /// Where it leads.
    pub route: Vec<Split>,
}

/// Conditions on a TLS connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsMatch {
    /// The server names.
    pub server_names: Vec<HostPattern>,
    /// What else must hold.
    pub stream: StreamMatch,
}

/// Conditions on a connection; all must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamMatch {
    /// Where it was going.
    pub destinations: Vec<IpNet>,
    /// Where it comes from.
    pub source: Option<IpNet>,
    /// The port that it was going to.
    pub port: Option<u16>,
    /// Labels of the workload that asks.
    pub source_labels: BTreeMap<String, String>,
    /// The namespace of the workload that asks.
    pub source_namespace: Option<Namespace>,
    /// The gateways that this is for; those of the VirtualService if empty.
    pub gateways: Vec<GatewayName>,
}

const SPLIT: &[&str] = &["destination", "weight"];
const TLS: &[&str] = &["sniHosts", "destinationSubnets", "port", "sourceLabels", "gateways", "sourceNamespace"];
const TCP: &[&str] = &["destinationSubnets", "port", "sourceSubnet", "sourceLabels", "gateways", "sourceNamespace"];

// === impl TlsRoute ===

impl TlsRoute {
    pub(crate) fn read(at: &Field<'_>, namespace: &Namespace) -> Result<Self, ResourceError> {
        let fields = at.fields(&["match", "route"])?;
        let matches = fields.get("match");
        let items = matches.items()?;
        if items.is_empty() {
            return Err(matches.refuse("one condition or more, each with sniHosts"));
        }
        let matches = items.iter().map(|item| TlsMatch::read(item, namespace)).collect::<Result<_, _>>()?;
        Ok(Self { matches, route: route(&fields.get("route"), namespace)? })
    }
}

// === impl TcpRoute ===

impl TcpRoute {
    pub(crate) fn read(at: &Field<'_>, namespace: &Namespace) -> Result<Self, ResourceError> {
        let fields = at.fields(&["match", "route"])?;
        let items = fields.get("match").items()?;
        let matches = items.iter().map(|item| StreamMatch::read(item, TCP, namespace)).collect::<Result<_, _>>()?;
        Ok(Self { matches, route: route(&fields.get("route"), namespace)? })
    }
}

// === impl TlsMatch ===

impl TlsMatch {
    fn read(at: &Field<'_>, namespace: &Namespace) -> Result<Self, ResourceError> {
        let stream = StreamMatch::read(at, TLS, namespace)?;
        let names = at.fields(TLS)?.get("sniHosts");
        let items = names.items()?;
        if items.is_empty() {
            return Err(names.refuse("one server name or more"));
        }
        let server_names = items.iter().map(Field::required).collect::<Result<_, _>>()?;
        Ok(Self { server_names, stream })
    }
}

// === impl StreamMatch ===

impl StreamMatch {
    fn read(at: &Field<'_>, known: &[&str], namespace: &Namespace) -> Result<Self, ResourceError> {
        let fields = at.fields(known)?;
        let source = fields.get("sourceSubnet");
        Ok(Self {
            destinations: fields.get("destinationSubnets").items()?.iter().map(subnet).collect::<Result<_, _>>()?,
            source: source.text()?.filter(|text| !text.is_empty()).map(|_| subnet(&source)).transpose()?,
            port: matched_port(&fields.get("port"))?,
            source_labels: labels(&fields.get("sourceLabels"))?,
            source_namespace: field::namespace(&fields.get("sourceNamespace"))?,
            gateways: GatewayName::read_all(&fields.get("gateways"), namespace)?,
        })
    }
}

fn route(at: &Field<'_>, namespace: &Namespace) -> Result<Vec<Split>, ResourceError> {
    let splits = Split::read_all(at, namespace, SPLIT)?;
    if splits.is_empty() {
        return Err(at.refuse("one destination or more"));
    }
    Ok(splits)
}

fn subnet(at: &Field<'_>) -> Result<IpNet, ResourceError> {
    let text = at.required_text()?;
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    net.map_err(|_| at.refuse("an IP address or a CIDR range such as 10.0.0.0/16"))
}
