//! Resources, and beside them two kinds of our own: the proxy that asks, and what peers offer.
//!
//! ```text
//! kind: Proxy  metadata: its name, namespace and labels; annotations: kind, address, interception, account, shows
//! kind: Peer   metadata: its name;                       annotations: host and versions that it offers
//! ```

use config::Intent;
use model::{
    Catalog, Cluster, Gateway, Group, Locality, Peer, PeerHealth, ServiceExport, ServiceImport, TrustBundle,
    WorkloadIdentity,
};
use resource::Document;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::str::FromStr;
use std::sync::Arc;
use xds::{Interception, Node, NodeKind, Software};

/// What is translated.
pub(crate) struct Input {
    pub(crate) catalog: Catalog,
    pub(crate) intent: Intent,
    pub(crate) node: Node,
    pub(crate) identity: WorkloadIdentity,
    /// The types that are shown, by the last word of their names; all if empty.
    pub(crate) types: Vec<String>,
}

// === impl Input ===

impl Input {
    pub(crate) fn parse(text: &str) -> Self {
        let documents = resource::parse("in.yaml", text).unwrap_or_else(|error| panic!("{error}")).documents;
        let intent = Intent::from_documents(&documents).unwrap_or_else(|errors| panic!("{errors:?}"));
        assert!(intent.warnings.is_empty(), "{:?}", intent.warnings);
        let mut catalog = registry::declared(cluster("east"), &documents);
        bundle(&mut catalog, "east");
        for peer in documents.iter().filter(|document| document.kind == "Peer") {
            add_peer(&mut catalog, peer);
        }
        let proxy = documents.iter().find(|document| document.kind == "Proxy").expect("a Proxy asks");
        let types = annotation(proxy, "shows").split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect();
        let node = node(proxy);
        let name = format!("spiffe://east.example/ns/{}/sa/{}", node.namespace, node.service_account);
        Self { catalog, intent, identity: valid(&name), node, types }
    }
}

fn valid<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error:?}"))
}

fn annotation<'a>(document: &'a Document, name: &str) -> &'a str {
    document.metadata.annotations.get(name).map_or("", String::as_str)
}

fn cluster(name: &str) -> Cluster {
    Cluster { id: valid(name), uid: valid(&format!("{name}-1")), trust_domain: valid(&format!("{name}.example")) }
}

fn node(proxy: &Document) -> Node {
    let (kind, interception) = match annotation(proxy, "kind") {
        "router" => (NodeKind::Router, Interception::None),
        _ if annotation(proxy, "interception") == "NONE" => (NodeKind::Sidecar, Interception::None),
        _ => (NodeKind::Sidecar, Interception::Redirect),
    };
    Node {
        id: format!("golden~{}", proxy.metadata.name),
        kind,
        addresses: vec![valid(annotation(proxy, "address"))],
        name: proxy.metadata.name.clone(),
        namespace: proxy.metadata.namespace.clone(),
        cluster: "east".to_owned(),
        network: String::new(),
        locality: match annotation(proxy, "locality") {
            "" => Locality::default(),
            locality => valid(locality),
        },
        labels: proxy.metadata.labels.clone(),
        service_account: annotation(proxy, "account").to_owned(),
        interception,
        own_ports: Vec::new(),
        auto_register_group: String::new(),
        probes: false,
        software: Software::default(),
        version: String::new(),
    }
}

fn bundle(catalog: &mut Catalog, cluster: &str) {
    let trust_domain: model::TrustDomain = valid(&format!("{cluster}.example"));
    let pem = format!("roots of {cluster}").into();
    catalog.bundles.insert(trust_domain.clone(), TrustBundle { trust_domain, pem });
}

/// A peer that offers, of a host that is declared here too, one group for each version; and a gateway that leads there.
fn add_peer(catalog: &mut Catalog, document: &Document) {
    let name = document.metadata.name.as_str();
    let peer = Peer { cluster: cluster(name), gateways: BTreeMap::new(), health: PeerHealth::Live };
    let domain = peer.cluster.trust_domain.clone();
    catalog.peers.insert(valid(name), Arc::new(peer));
    bundle(catalog, name);
    let gateway = Gateway { addresses: vec![valid("10.0.0.100:15443")], paths: BTreeMap::new() };
    catalog.gateways.insert("gateway-1".into(), Arc::new(gateway));
    let service =
        catalog.services.values_mut().find(|service| service.key.host.as_str() == annotation(document, "host"));
    let service = Arc::make_mut(service.expect("the host is declared"));
    let group = |version: &str| Group {
        id: valid(&format!("{version}-group")),
        labels: [("version".to_owned(), version.to_owned())].into(),
        locality: valid(&format!("{name}/zone")),
        ready: 2,
        weight: 2,
        identities: [valid(&format!("spiffe://{domain}/ns/shop/sa/reviews"))].into(),
    };
    let groups = annotation(document, "versions").split(',').map(group).collect();
    let export = ServiceExport { key: service.key.clone(), ports: service.ports.clone(), groups };
    service.imports.insert(valid(name), ServiceImport { cluster: valid(name), export });
}
