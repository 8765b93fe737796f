//! One request's decisions among 10, 100 and 1,000 services with five routes each: listener, chain, route, endpoint; and
//! one connection's among as many server names of one listener.

#[path = "../../../controlplane/translate/tests/fixture/mod.rs"]
mod fixture;

use config::{CaptureMode, EgressListener, Intent};
use criterion::{Criterion, criterion_group, criterion_main};
use fixture::{catalog, egress, endpoint, five_routes, identity, node, port, service, sidecar};
use http::{HeaderMap, Method};
use isthmus_routing::{Asked, Beginning, Resources, RoutingTable, Wanted};
use model::Protocol;
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;
use translate::translate;
use xds::{Interception, type_url};

fn table(count: usize) -> RoutingTable {
    let one = |n: usize| {
        let vip = format!("240.240.{}.{}", n / 250, n % 250 + 1);
        let ports = vec![port(80, Protocol::Http), port(443, Protocol::Tls)];
        let mut service = service(&format!("service-{n}.shop.svc.cluster.local"), &vip, ports);
        service.endpoints = (1..=5).map(|i| endpoint(&format!("10.{i}.{}.{}", n / 250, n % 250), "app")).collect();
        service
    };
    let documents: String = (0..count).map(|n| five_routes(&format!("service-{n}.shop.svc.cluster.local"))).collect();
    let documents = resource::parse("v.yaml", &documents).expect("well-formed").documents;
    let mut intent = Intent::from_documents(&documents).expect("valid");
    let bound = EgressListener { capture: CaptureMode::None, ..egress(443, Protocol::Tls, &["*/*"]) };
    intent.sidecars = sidecar(vec![], vec![bound]).sidecars;
    intent.sidecars[0].egress.push(EgressListener { port: None, ..egress(0, Protocol::Auto, &["*/*"]) });
    let snapshot =
        translate(&catalog((0..count).map(one).collect()), &intent, &node(Interception::Redirect), &identity());
    let mut resources = Resources::default();
    for of in type_url::ORDER {
        let all: Vec<_> = snapshot.get(of).values().cloned().collect();
        resources.apply(of, &all, &[]).expect("good resources");
    }
    resources.table()
}

fn decide(criterion: &mut Criterion) {
    for count in [10, 100, 1000] {
        let table = table(count);
        let destination = SocketAddr::from(([240, 240, 0, 6], 80));
        let (mut draw, headers) = (0_u64, HeaderMap::new());
        criterion.bench_function(&format!("decide among {count} services with 5 routes each"), |bencher| {
            bencher.iter(|| {
                let listener = table.captured(black_box(destination)).expect("a listener");
                let chain = listener.chain(destination, destination.ip(), Beginning::Bytes);
                let asked = Asked {
                    method: &Method::GET,
                    scheme: "http",
                    authority: black_box("service-5.shop.svc.cluster.local"),
                    target: "/",
                    headers: &headers,
                    metadata: None,
                };
                let route = table.routes["80"].route(&asked).expect("a route");
                let target = route.forward().expect("an upstream").target(draw);
                let upstream = &table.upstreams[&target.upstream];
                draw = draw.wrapping_add(0x9e37_79b9);
                let wanted = Wanted { destination, hash: None, tried: &[], now: Duration::ZERO };
                black_box((chain.is_some(), upstream.pick(&wanted, || draw)))
            });
        });
        let listener = &table.listeners["127.0.0.1_443"];
        let hello = Beginning::Tls { server_name: "service-5.shop.svc.cluster.local", alpn: &[] };
        criterion.bench_function(&format!("the chain of a server name among {count}"), |bencher| {
            bencher.iter(|| listener.chain(destination, destination.ip(), black_box(hello)).expect("a chain"));
        });
    }
}

criterion_group!(benches, decide);
criterion_main!(benches);
