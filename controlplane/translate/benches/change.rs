//! What one endpoint more costs: for 1 proxy and for 1,000, which see 100, 1,000 or 10,000 services. Each service has a
//! VirtualService of five routes and a DestinationRule.

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use config::Intent;
use criterion::{Criterion, criterion_group, criterion_main};
use fixture::{catalog, endpoint, five_routes, identity, node, port, service};
use isthmus_translate::{Change, retranslate, translate};
use model::{Catalog, Protocol, Service};
use std::hint::black_box;
use std::sync::Arc;
use xds::{Interception, Node};

fn host(n: usize) -> String {
    format!("service-{n}.shop.svc.cluster.local")
}

fn services(count: usize) -> Vec<Service> {
    let one = |n: usize| {
        let vip = format!("240.{}.{}.{}", 240 + n / 50_000, n / 250 % 200, n % 250 + 1);
        let mut service = service(&host(n), &vip, vec![port(80, Protocol::Http), port(9000, Protocol::Tcp)]);
        service.endpoints = (1..=5).map(|i| endpoint(&format!("10.{i}.{}.{}", n / 250, n % 250), "app")).collect();
        service
    };
    (0..count).map(one).collect()
}

fn intent(count: usize) -> Intent {
    let rule = |n: usize| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r{n}, namespace: shop}}\n\
             spec: {{host: {}, trafficPolicy: {{loadBalancer: {{simple: ROUND_ROBIN}}}}}}\n---\n",
            host(n)
        )
    };
    let of = |n: usize| resource::parse("i.yaml", &(five_routes(&host(n)) + &rule(n))).expect("parses").documents;
    Intent::from_documents(&(0..count).flat_map(of).collect::<Vec<_>>()).expect("valid")
}

/// The catalog with an endpoint more.
fn one_more(old: &Catalog, count: usize) -> Catalog {
    let mut new = old.clone();
    let service = new.services.values_mut().nth(count / 2).expect("there are as many");
    Arc::make_mut(service).endpoints.push(endpoint("10.9.9.9", "app"));
    new
}

/// Workloads that are told the same, each at its own address.
fn proxy(n: usize) -> Node {
    let address = format!("10.200.{}.{}", n / 250, n % 250 + 1);
    Node { addresses: vec![address.parse().expect("valid")], ..node(Interception::Redirect) }
}

fn change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("an endpoint more");
    for services in [100, 1000, 10_000] {
        let old = catalog(self::services(services));
        let (new, intent, identity) = (one_more(&old, services), intent(services), identity());
        let told = translate(&old, &intent, &proxy(0), &identity);
        group.sample_size(100).bench_function(format!("found among {services} services, once"), |bencher| {
            bencher.iter(|| Change::between(black_box(&old), &new));
        });
        for proxies in [1, 1000] {
            let nodes: Vec<Node> = (0..proxies).map(proxy).collect();
            let change = Change::between(&old, &new);
            group.sample_size(if proxies == 1 { 100 } else { 10 });
            group.bench_function(format!("{proxies} proxies, {services} services"), |bencher| {
                bencher.iter(|| {
                    for node in &nodes {
                        black_box(retranslate(black_box(&told), &change, &new, &intent, node, &identity));
                    }
                });
            });
        }
    }
}

criterion_group!(benches, change);
criterion_main!(benches);
