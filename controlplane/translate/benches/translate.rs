//! One proxy's translation of 1,000 services with local and remote endpoints; and what one endpoint more costs beside
//! 100, 1,000 and 10,000 of them.

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use config::Intent;
use criterion::{Criterion, criterion_group, criterion_main};
use fixture::{catalog, endpoint, identity, import, node, port, service, text};
use isthmus_translate::{Change, retranslate, translate};
use model::{Protocol, Service};
use std::hint::black_box;
use std::sync::Arc;
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

fn one_endpoint(criterion: &mut Criterion) {
    let (intent, identity, node) = (Intent::default(), identity(), node(Interception::Redirect));
    for count in [100, 1000, 10_000] {
        let old = catalog(services(count));
        let mut new = old.clone();
        let service = new.services.values_mut().nth(count / 2).expect("there are as many");
        Arc::make_mut(service).endpoints.push(endpoint("10.9.9.9", "app"));
        let told = translate(&old, &intent, &node, &identity);
        criterion.bench_function(&format!("an endpoint more beside {count} services: one proxy"), |bencher| {
            let change = Change::between(&old, &new);
            bencher.iter(|| retranslate(black_box(&told), &change, &new, &intent, &node, &identity));
        });
        criterion.bench_function(
            &format!("an endpoint more beside {count} services: found, once for all"),
            |bencher| {
                bencher.iter(|| Change::between(black_box(&old), &new));
            },
        );
    }
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

criterion_group!(benches, thousand, one_endpoint, hashes);
criterion_main!(benches);
