//! One request's decisions among 1,000 services: listener, chain, route, endpoint.

#[path = "../../../controlplane/translate/tests/fixture/mod.rs"]
mod fixture;

use config::Intent;
use criterion::{Criterion, criterion_group, criterion_main};
use fixture::{catalog, endpoint, identity, node, port, service};
use http::{HeaderMap, Method};
use isthmus_routing::{Asked, Beginning, Resources, Wanted};
use model::Protocol;
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;
use translate::translate;
use xds::{Interception, type_url};

fn decide(criterion: &mut Criterion) {
    let one = |n: usize| {
        let vip = format!("240.240.{}.{}", n / 250, n % 250 + 1);
        let mut service = service(&format!("service-{n}.shop.svc.cluster.local"), &vip, vec![port(80, Protocol::Http)]);
        service.endpoints = (1..=5).map(|i| endpoint(&format!("10.{i}.{}.{}", n / 250, n % 250), "app")).collect();
        service
    };
    let catalog = catalog((0..1000).map(one).collect());
    let snapshot = translate(&catalog, &Intent::default(), &node(Interception::Redirect), &identity());
    let mut resources = Resources::default();
    for of in type_url::ORDER {
        let all: Vec<_> = snapshot.get(of).values().cloned().collect();
        resources.apply(of, &all, &[]).expect("good resources");
    }
    let table = resources.table();
    let destination = SocketAddr::from(([240, 240, 2, 1], 80));
    let (mut draw, headers) = (0_u64, HeaderMap::new());
    criterion.bench_function("decide among 1,000 services", |bencher| {
        bencher.iter(|| {
            let listener = table.captured(black_box(destination)).expect("a listener");
            let chain = listener.chain(destination, destination.ip(), Beginning::Bytes);
            let asked = Asked {
                method: &Method::GET,
                scheme: "http",
                authority: black_box("service-500.shop.svc.cluster.local"),
                target: "/",
                headers: &headers,
            };
            let route = table.routes["80"].route(&asked).expect("a route");
            let target = route.forward().expect("an upstream").target(draw);
            let upstream = &table.upstreams[&target.upstream];
            draw = draw.wrapping_add(0x9e37_79b9);
            let wanted = Wanted { destination, hash: None, tried: &[], now: Duration::ZERO };
            black_box((chain.is_some(), upstream.pick(&wanted, || draw)))
        });
    });
}

criterion_group!(benches, decide);
criterion_main!(benches);
