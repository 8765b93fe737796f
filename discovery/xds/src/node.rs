//! The proxy that asks: Envoy's `Node` in Istio's dialect, parsed once.

use api::envoy::envoy::config::core::v3::{Locality as ProtoLocality, Node as ProtoNode};
use api::envoy::google::protobuf::{Struct, Value, value::Kind};
use model::{Invalid, Locality, Namespace};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What a proxy says of itself, in the first message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `KIND~IP~NAME.NAMESPACE~NAMESPACE.svc.DOMAIN`.
    pub id: String,
    /// What kind of proxy.
    pub kind: NodeKind,
    /// Its addresses, the id's first; never empty.
    pub addresses: Vec<IpAddr>,
    /// The workload's name.
    pub name: String,
    /// The workload's namespace.
    pub namespace: Namespace,
    /// The cluster it runs in (`CLUSTER_ID`); empty when not said.
    pub cluster: String,
    /// The network it is in (`NETWORK`); empty when not said.
    pub network: String,
    /// Where it runs; empty when not said.
    pub locality: Locality,
    /// The workload's labels.
    pub labels: BTreeMap<String, String>,
    /// The service account (`SERVICE_ACCOUNT`); empty when not said.
    pub service_account: String,
    /// How traffic reaches the proxy (`INTERCEPTION_MODE`).
    pub interception: Interception,
    /// The ports that its process has for itself (`ISTHMUS_OWN_PORTS`, separated by commas).
    pub own_ports: Vec<u16>,
    /// The proxy's version (`ISTIO_VERSION`); empty when not said.
    pub version: String,
    /// Which proxy it is (`user_agent_name`).
    pub software: Software,
    /// The WorkloadGroup that the workload registers itself with (`AUTO_REGISTER_GROUP`); empty if with none.
    pub auto_register_group: String,
    /// Whether the proxy finds out its workload's health, and reports it (`PROXY_CONFIG.readinessProbe`).
    pub probes: bool,
}

/// Which proxy asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Software {
    /// Envoy, or one that does not say.
    #[default]
    Envoy,
    /// Our own.
    Isthmus,
}

/// What kind of proxy asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// Beside one workload.
    Sidecar,
    /// On its own, such as an ingress gateway.
    Router,
}

/// How traffic reaches the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interception {
    /// By NAT.
    Redirect,
    /// Transparently.
    Tproxy,
    /// Not by itself: applications address the proxy's listeners.
    None,
}

const ID: &str = "sidecar or router, then ~IP~NAME.NAMESPACE~DOMAIN, at most 1024 bytes";
const OWN_NAME: &str = "isthmus";
const MAX_ID: usize = 1024;
const READINESS_PROBE: &str = "readinessProbe";
const MAX_LABELS: usize = 1024;

// === impl Node ===

impl Node {
    /// Parses Envoy's node: its id, and the metadata keys CLUSTER_ID, NETWORK, NAMESPACE, SERVICE_ACCOUNT, LABELS,
    /// INSTANCE_IPS, INTERCEPTION_MODE, ISTHMUS_OWN_PORTS, ISTIO_VERSION, AUTO_REGISTER_GROUP and PROXY_CONFIG. Other keys are ignored.
    pub fn parse(proto: &ProtoNode) -> Result<Self, Invalid> {
        let refuse = || Invalid::new("node id", &proto.id, ID);
        if proto.id.len() > MAX_ID {
            return Err(refuse());
        }
        let parts: Vec<&str> = proto.id.split('~').collect();
        let [kind, address, workload, _domain] = parts[..] else {
            return Err(refuse());
        };
        let kind = NodeKind::parse(kind).ok_or_else(refuse)?;
        let (name, namespace) = workload.rsplit_once('.').filter(|(name, _)| !name.is_empty()).ok_or_else(refuse)?;
        let metadata = Metadata(proto.metadata.as_ref());
        let claimed = metadata.text("NAMESPACE")?;
        if !claimed.is_empty() && claimed != namespace {
            return Err(Invalid::new("node metadata NAMESPACE", claimed, "the namespace that the node id names"));
        }
        Ok(Self {
            id: proto.id.clone(),
            kind,
            addresses: addresses(address.parse().map_err(|_| refuse())?, metadata.text("INSTANCE_IPS")?)?,
            name: name.into(),
            namespace: namespace.parse()?,
            cluster: metadata.text("CLUSTER_ID")?.into(),
            network: metadata.text("NETWORK")?.into(),
            locality: proto.locality.as_ref().map(locality).unwrap_or_default(),
            labels: metadata.labels()?,
            service_account: metadata.text("SERVICE_ACCOUNT")?.into(),
            interception: Interception::parse(metadata.text("INTERCEPTION_MODE")?)?,
            own_ports: ports(metadata.text("ISTHMUS_OWN_PORTS")?)?,
            version: metadata.text("ISTIO_VERSION")?.into(),
            software: if proto.user_agent_name == OWN_NAME { Software::Isthmus } else { Software::Envoy },
            auto_register_group: metadata.text("AUTO_REGISTER_GROUP")?.into(),
            probes: metadata.probes(),
        })
    }

    /// Envoy's form of this node; [`Node::parse`] gives the same node back.
    pub fn to_proto(&self) -> ProtoNode {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let own_ports: Vec<String> = self.own_ports.iter().map(ToString::to_string).collect();
        let texts = [
            ("CLUSTER_ID", self.cluster.as_str()),
            ("NETWORK", &self.network),
            ("NAMESPACE", self.namespace.as_str()),
            ("SERVICE_ACCOUNT", &self.service_account),
            ("INSTANCE_IPS", &addresses.join(",")),
            ("INTERCEPTION_MODE", self.interception.as_str()),
            ("ISTHMUS_OWN_PORTS", &own_ports.join(",")),
            ("ISTIO_VERSION", &self.version),
            ("AUTO_REGISTER_GROUP", &self.auto_register_group),
        ];
        let labels = self.labels.iter().map(|(key, value)| (key.clone(), text_value(value))).collect();
        let fields = texts
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(key, text)| (key.to_owned(), text_value(text)))
            .chain([("LABELS".to_owned(), Value { kind: Some(Kind::StructValue(Struct { fields: labels })) })])
            .chain(self.probes.then(|| ("PROXY_CONFIG".to_owned(), object(READINESS_PROBE, object_value()))))
            .collect();
        ProtoNode {
            id: self.id.clone(),
            cluster: format!("{}.{}", self.name, self.namespace),
            metadata: Some(Struct { fields }),
            locality: (self.locality != Locality::default()).then(|| ProtoLocality {
                region: self.locality.region.to_string(),
                zone: self.locality.zone.to_string(),
                sub_zone: self.locality.subzone.to_string(),
            }),
            user_agent_name: match self.software {
                Software::Isthmus => OWN_NAME.into(),
                Software::Envoy => "envoy".into(),
            },
            ..ProtoNode::default()
        }
    }
}

/// Envoy's locality; a text longer than any name counts as not said.
fn locality(proto: &ProtoLocality) -> Locality {
    let part = |text: &str| if text.len() <= MAX_ID { text.into() } else { "".into() };
    Locality { region: part(&proto.region), zone: part(&proto.zone), subzone: part(&proto.sub_zone) }
}

fn addresses(first: IpAddr, all: &str) -> Result<Vec<IpAddr>, Invalid> {
    let mut addresses = vec![first];
    for text in all.split(',').filter(|text| !text.is_empty()) {
        let address = text
            .parse()
            .map_err(|_| Invalid::new("node metadata INSTANCE_IPS", text, "IP addresses separated by commas"))?;
        if !addresses.contains(&address) && addresses.len() < 64 {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

fn ports(all: &str) -> Result<Vec<u16>, Invalid> {
    let parse = |text: &str| {
        let refuse = |_| Invalid::new("node metadata ISTHMUS_OWN_PORTS", text, "ports separated by commas");
        text.parse().map_err(refuse)
    };
    all.split(',').filter(|text| !text.is_empty()).map(parse).collect()
}

fn object_value() -> Value {
    Value { kind: Some(Kind::StructValue(Struct::default())) }
}

fn object(key: &str, value: Value) -> Value {
    Value { kind: Some(Kind::StructValue(Struct { fields: [(key.to_owned(), value)].into() })) }
}

fn text_value(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

// === impl NodeKind ===

impl NodeKind {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "sidecar" => Some(Self::Sidecar),
            "router" => Some(Self::Router),
            _ => None,
        }
    }

    /// The word in the node id.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Router => "router",
        }
    }
}

// === impl Interception ===

impl Interception {
    fn parse(text: &str) -> Result<Self, Invalid> {
        match text {
            "REDIRECT" | "" => Ok(Self::Redirect),
            "TPROXY" => Ok(Self::Tproxy),
            "NONE" => Ok(Self::None),
            _ => Err(Invalid::new("node metadata INTERCEPTION_MODE", text, "REDIRECT, TPROXY or NONE")),
        }
    }

    /// The word in the node's metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redirect => "REDIRECT",
            Self::Tproxy => "TPROXY",
            Self::None => "NONE",
        }
    }
}

// === impl Metadata ===

/// The node's metadata, read with types.
struct Metadata<'a>(Option<&'a Struct>);

impl<'a> Metadata<'a> {
    fn get(&self, key: &str) -> Option<&'a Kind> {
        self.0?.fields.get(key)?.kind.as_ref()
    }

    fn text(&self, key: &'static str) -> Result<&'a str, Invalid> {
        match self.get(key) {
            None | Some(Kind::NullValue(_)) => Ok(""),
            Some(Kind::StringValue(text)) if text.len() <= MAX_ID => Ok(text),
            Some(other) => Err(Invalid::new(key, &format!("{other:?}"), "a string of at most 1024 bytes")),
        }
    }

    fn probes(&self) -> bool {
        match self.get("PROXY_CONFIG") {
            Some(Kind::StructValue(config)) => config.fields.contains_key(READINESS_PROBE),
            _ => false,
        }
    }

    fn labels(&self) -> Result<BTreeMap<String, String>, Invalid> {
        let refuse = |value: &str| Invalid::new("node metadata LABELS", value, "at most 1024 strings by name");
        match self.get("LABELS") {
            None | Some(Kind::NullValue(_)) => Ok(BTreeMap::new()),
            Some(Kind::StructValue(labels)) if labels.fields.len() <= MAX_LABELS => labels
                .fields
                .iter()
                .map(|(key, value)| match &value.kind {
                    Some(Kind::StringValue(text)) => Ok((key.clone(), text.clone())),
                    _ => Err(refuse(key)),
                })
                .collect(),
            Some(_) => Err(refuse("")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        Node {
            id: "sidecar~10.0.0.1~reviews.v1.bookinfo~bookinfo.svc.cluster.local".into(),
            kind: NodeKind::Sidecar,
            addresses: vec!["10.0.0.1".parse().expect("valid"), "fd00::1".parse().expect("valid")],
            name: "reviews.v1".into(),
            namespace: "bookinfo".parse().expect("valid"),
            cluster: "east".into(),
            network: "n1".into(),
            locality: "a/b/c".parse().expect("a locality"),
            labels: [("app".to_owned(), "reviews".to_owned())].into(),
            service_account: "reviews".into(),
            interception: Interception::None,
            own_ports: vec![15008, 15443],
            version: "1.29.0".into(),
            software: Software::Isthmus,
            auto_register_group: "vms".into(),
            probes: true,
        }
    }

    #[test]
    fn a_node_survives_the_round_trip() {
        assert_eq!(Node::parse(&node().to_proto()).expect("valid"), node());
    }

    #[test]
    fn a_bare_id_is_enough() {
        let proto = ProtoNode { id: "router~::1~gw.infra~infra.svc.cluster.local".into(), ..ProtoNode::default() };
        let node = Node::parse(&proto).expect("valid");
        assert_eq!((node.kind, node.interception), (NodeKind::Router, Interception::Redirect));
        assert!(node.service_account.is_empty());
    }

    #[test]
    fn bad_nodes_are_refused() {
        for id in [
            "",
            "sidecar",
            "sidecar~x~a.b~b.svc",
            "sidecar~10.0.0.1~a~b.svc",
            "sidecar~10.0.0.1~.b~b.svc",
            "sidecar~10.0.0.1~a.B~b.svc",
            "other~10.0.0.1~a.b~b.svc",
            "sidecar~10.0.0.1~a.b~b.svc~more",
            &format!("sidecar~10.0.0.1~{}.b~b.svc", "x".repeat(1 << 20)),
        ] {
            assert!(Node::parse(&ProtoNode { id: id.into(), ..ProtoNode::default() }).is_err(), "{id:.80}");
        }
        let mut lying = node().to_proto();
        lying.metadata.as_mut().expect("set").fields.insert("NAMESPACE".into(), text_value("other"));
        assert_eq!(Node::parse(&lying).expect_err("refused").field, "node metadata NAMESPACE");
    }
}
