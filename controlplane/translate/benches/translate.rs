//! One proxy's translation of 1,000 services with local and remote endpoints.

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use config::Intent;
use criterion::{Criterion, criterion_group, criterion_main};
use fixture::{catalog, endpoint, identity, import, node, port, service, text};
use isthmus_translate::translate;
use model::{Protocol, Service};
use std::hint::black_box;
use xds::Interception;

fn services(count: usize) -> Vec<Service> {
    let one = |n: usize| {
        let host = format!("service-{n}.shop.svc.cluster.local");
        let vip = format!("240.240.{}.{}", n / 250, n % 250 + 1);
        let mut service = service(&host, &vip, vec![port(80, Protocol::Http), port(9000, Protocol::Tcp)]);
        service.endpoints = (1..=5).map(|i| endpoint(&format!("10.{i}.{}.{}", n / 250, n % 250), "app")).collect();
        for peer in ["north", "west"] {
            service.imports.insert(text(peer), import(peer, &service, 3, 3));
        }
        service
    };
    (0..count).map(one).collect()
}

fn thousand(criterion: &mut Criterion) {
    let (catalog, intent, identity) = (catalog(services(1000)), Intent::default(), identity());
    let node = node(Interception::Redirect);
    criterion.bench_function("translate 1,000 services", |bencher| {
        bencher.iter(|| translate(black_box(&catalog), &intent, &node, &identity));
    });
}

fn hashes(criterion: &mut Criterion) {
    let (catalog, intent, identity) = (catalog(services(1000)), Intent::default(), identity());
    let node = node(Interception::Redirect);
    let snapshot = translate(&catalog, &intent, &node, &identity);
    for of in xds::type_url::ORDER {
        let bodies: Vec<_> = snapshot.get(of).values().map(|r| r.body.clone()).collect();
        let size: usize = bodies.iter().map(prost::bytes::Bytes::len).sum();
        criterion.bench_function(&format!("hash {of} {} {size}", bodies.len()), |bencher| {
            bencher.iter(|| bodies.iter().map(|b| xds::Resource::from_body("x", b.clone())).collect::<Vec<_>>());
        });
    }
}

criterion_group!(benches, thousand, hashes);
criterion_main!(benches);
