//! One request's judgement under 0, 10 and 100 policies of its workload, and under 10 among 1,000 for other workloads.

#[path = "../../../controlplane/translate/tests/fixture/mod.rs"]
mod fixture;

use config::Intent;
use criterion::{Criterion, criterion_group, criterion_main};
use fixture::{HOST, OWN, catalog, endpoint, identity, node, port, service};
use http::{HeaderMap, Method};
use isthmus_routing::{Asked, Beginning, Handler, Policies, Resources, Subject, authorize};
use model::Protocol;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use translate::translate;
use xds::{Interception, type_url};

const PORT: u16 = 80;

/// A policy for the workloads of an app, which the request does not meet.
fn policy(index: usize, app: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p{index}, namespace: shop}}\n\
         spec:\n  selector: {{matchLabels: {{app: {app}}}}}\n  action: DENY\n  rules:\n  \
         - from: [{{source: {{namespaces: [other-{index}]}}}}]\n    to: [{{operation: {{paths: ['/admin/*']}}}}]\n---\n"
    )
}

fn policies(own: usize, others: usize) -> Arc<Policies> {
    let text: Vec<String> =
        (0..own + others).map(|index| policy(index, if index < own { "reviews" } else { "other" })).collect();
    let documents = resource::parse("a.yaml", &text.concat()).expect("well-formed").documents;
    let intent = Intent::from_documents(&documents).expect("valid");
    let mut reviews = service(HOST, "240.240.0.1", vec![port(PORT, Protocol::Http)]);
    reviews.endpoints = vec![endpoint(OWN, "reviews")];
    let snapshot = translate(&catalog(vec![reviews]), &intent, &node(Interception::Redirect), &identity());
    let mut resources = Resources::default();
    for of in type_url::ORDER {
        let all: Vec<_> = snapshot.get(of).values().cloned().collect();
        resources.apply(of, &all, &[]).expect("good resources");
    }
    let (destination, alpn) = (SocketAddr::new(OWN.parse().expect("an address"), PORT), ["istio".to_owned()]);
    let beginning = Beginning::Tls { server_name: "", alpn: &alpn };
    let table = resources.table();
    let chain = table.listeners["virtualInbound"].chain(destination, destination.ip(), beginning).expect("a chain");
    let Handler::Http(handler) = &chain.handler else { panic!("requests are expected") };
    handler.policies.clone()
}

fn judge(criterion: &mut Criterion) {
    let headers = HeaderMap::new();
    let direct = IpAddr::from([10, 0, 0, 7]);
    for (own, others) in [(0, 0), (10, 0), (100, 0), (10, 1000)] {
        let policies = policies(own, others);
        let asked = Asked {
            method: &Method::GET,
            scheme: "http",
            authority: "reviews",
            target: "/",
            headers: &headers,
            metadata: None,
        };
        let subject = Subject {
            direct,
            remote: direct,
            destination: SocketAddr::new(direct, PORT),
            server_name: "",
            principal: Some("spiffe://west.example/ns/web/sa/client"),
            asked: Some(asked),
            metadata: None,
        };
        criterion.bench_function(&format!("authorize by {own} policies, with {others} for others"), |bencher| {
            bencher.iter(|| authorize(&policies, black_box(&subject)));
        });
    }
}

criterion_group!(benches, judge);
criterion_main!(benches);
