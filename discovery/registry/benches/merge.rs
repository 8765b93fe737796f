//! A registry's start over files that declare 1,000 services: read, validate, merge into the first catalog.

#[path = "../tests/support/mod.rs"]
mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use isthmus_registry::{Metrics, Registry};
use std::fmt::Write;
use tokio_util::sync::CancellationToken;

const SERVICES: usize = 1000;

fn thousand(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a folder");
    let mut text = String::new();
    for n in 0..SERVICES {
        write!(
            text,
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: s{n}, namespace: shop}}\nspec:\n  \
             hosts: [s{n}.shop.svc.cluster.local]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
             ports: [{{number: 80, name: http, protocol: HTTP}}]\n  endpoints: [{{address: 10.0.{}.{}}}]\n",
            n / 250,
            n % 250 + 1
        )
        .expect("a string takes all");
    }
    std::fs::write(directory.path().join("services.yaml"), text).expect("the file is written");
    let settings = support::settings(directory.path());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let start = || async {
        let shutdown = CancellationToken::new();
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let registry = Registry::start(settings.clone(), None, metrics, &shutdown).expect("good settings");
        assert_eq!(registry.catalog.borrow().services.len(), SERVICES);
        shutdown.cancel();
        registry.stopped().await;
    };
    criterion.bench_function("read and merge 1,000 services", |bencher| bencher.iter(|| runtime.block_on(start())));
}

criterion_group!(benches, thousand);
criterion_main!(benches);
