//! What AuthorizationPolicies come to: `translate` on one side, `authorize` on the other, and between them the xDS that
//! Envoy gets as well.

#[path = "../../../../controlplane/translate/tests/fixture/mod.rs"]
mod fixture;

mod algebra;
mod fields;
mod reference;
mod rejections;
mod streams;

use config::Intent;
use fixture::{HOST, OWN, catalog, endpoint, identity, node, port, service};
use http::{HeaderMap, HeaderValue, Method};
use isthmus_routing::{Asked, Beginning, Handler, Metadata, Policies, Resources, Subject, Verdict, authorize};
use model::Protocol;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use translate::translate;
use xds::{Interception, Resource, type_url};

/// The ports of the workload.
const HTTP: u16 = 9080;
const TCP: u16 = 9100;

/// The policies of a workload's port.
fn policies_of(intent: &Intent, at: u16) -> Arc<Policies> {
    let mut reviews = service(HOST, "240.240.0.1", vec![port(HTTP, Protocol::Http), port(TCP, Protocol::Tcp)]);
    reviews.endpoints = vec![endpoint(OWN, "reviews")];
    let snapshot = translate(&catalog(vec![reviews]), intent, &node(Interception::Redirect), &identity());
    let mut resources = Resources::default();
    for of in type_url::ORDER {
        let all: Vec<Resource> = snapshot.get(of).values().cloned().collect();
        resources.apply(of, &all, &[]).unwrap_or_else(|error| panic!("{of}: {error}"));
    }
    let table = resources.table();
    let destination = SocketAddr::new(OWN.parse().expect("an address"), at);
    let alpn = ["istio".to_owned()];
    let beginning = Beginning::Tls { server_name: "", alpn: &alpn };
    let listener = &table.listeners["virtualInbound"];
    let chain = listener.chain(destination, IpAddr::from([10, 0, 0, 7]), beginning).expect("a chain");
    match &chain.handler {
        Handler::Http(handler) => handler.policies.clone(),
        Handler::Tcp(_) => chain.policies.clone(),
    }
}

/// The intent of AuthorizationPolicies with these metadata and specs.
fn intent(policies: &[(&str, &str)]) -> Intent {
    let head = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n";
    let document = |(metadata, spec): &(&str, &str)| format!("{head}metadata: {metadata}\nspec: {spec}\n");
    let text = policies.iter().map(document).collect::<Vec<_>>().join("---\n");
    Intent::from_documents(&resource::parse("a.yaml", &text).expect("well-formed").documents).expect("valid")
}

/// The policies of the workload's HTTP port under one AuthorizationPolicy.
fn one(spec: &str) -> Arc<Policies> {
    policies_of(&intent(&[("{name: p, namespace: shop}", spec)]), HTTP)
}

/// A request, or a connection.
#[derive(Debug, Clone)]
struct Ask {
    method: Method,
    authority: String,
    target: String,
    headers: HeaderMap,
    principal: Option<String>,
    direct: IpAddr,
    remote: IpAddr,
    port: u16,
    server_name: String,
    metadata: Metadata,
    is_bytes: bool,
}

impl Default for Ask {
    fn default() -> Self {
        let address = IpAddr::from([10, 0, 0, 7]);
        Self {
            method: Method::GET,
            authority: "reviews".to_owned(),
            target: "/".to_owned(),
            headers: HeaderMap::new(),
            principal: Some("spiffe://west.example/ns/web/sa/client".to_owned()),
            direct: address,
            remote: address,
            port: HTTP,
            server_name: String::new(),
            metadata: Metadata::default(),
            is_bytes: false,
        }
    }
}

impl Ask {
    fn from(principal: &str) -> Self {
        Self { principal: Some(format!("spiffe://{principal}")), ..Self::default() }
    }

    fn path(target: &str) -> Self {
        Self { target: target.to_owned(), ..Self::default() }
    }

    fn with(fields: &[(&'static str, &[u8])]) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value).expect("a value"));
        }
        Self { headers, ..Self::default() }
    }

    fn verdict(&self, policies: &Policies) -> Verdict {
        let asked = Asked {
            method: &self.method,
            scheme: "http",
            authority: &self.authority,
            target: &self.target,
            headers: &self.headers,
            metadata: None,
        };
        let subject = Subject {
            direct: self.direct,
            remote: self.remote,
            destination: SocketAddr::new(OWN.parse().expect("an address"), self.port),
            server_name: &self.server_name,
            principal: self.principal.as_deref(),
            asked: (!self.is_bytes).then_some(asked),
            metadata: Some(&self.metadata),
        };
        authorize(policies, &subject)
    }

    fn passes(&self, policies: &Policies) -> bool {
        self.verdict(policies).allowed
    }
}
