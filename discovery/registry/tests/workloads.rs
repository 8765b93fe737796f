//! Workloads that register themselves, through a real store: two control planes of one cluster, and a gateway that reads.

mod support;

use identity::RegistryKey;
use isthmus_registry::{Controller, Workload, WorkloadHealth};
use model::{Locality, NetworkId};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use store::{ClientSettings, Store, embedded};
use support::{PATIENCE, Running, start};
use tokio_util::sync::CancellationToken;

const GRACE: Duration = Duration::from_millis(1500);
const SERVICE: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: vm, namespace: shop}
spec:
  hosts: [vm.shop]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  workloadSelector: {labels: {app: vm}}
";

struct Rig {
    address: SocketAddr,
    key: Arc<RegistryKey>,
    _data: tempfile::TempDir,
    shutdown: CancellationToken,
}

impl Rig {
    async fn start() -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = embedded::Settings { listen, data: data.path().to_owned(), ..Default::default() };
        let shutdown = CancellationToken::new();
        let server = embedded::Server::bind(settings, shutdown.clone()).await.expect("bound");
        let address = server.address().expect("an address");
        tokio::spawn(async move { server.run().await.expect("served") });
        Self { address, key: Arc::new(RegistryKey::generate()), _data: data, shutdown }
    }

    /// A registry of the cluster: a control plane's if it has a name, else a gateway's.
    async fn registry(&self, controller: Option<&str>) -> Running {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("vm.yaml"), SERVICE).expect("written");
        let endpoints = vec![format!("http://{}", self.address)];
        let store = Store::connect(ClientSettings { endpoints, ..Default::default() }, None).await.expect("a client");
        let key = self.key.clone();
        let controller = controller.map(|name| Controller {
            name: name.to_owned(),
            grace: GRACE,
            orphan: Duration::from_millis(200),
            most: 2,
        });
        let change = move |settings: &mut isthmus_registry::Settings| {
            settings.registry_key = key;
            settings.controller = controller;
        };
        start(directory, change, Some(store))
    }
}

fn workload(name: &str, controller: &str, connected_at: u64) -> Workload {
    Workload {
        namespace: "shop".parse().expect("valid"),
        name: name.to_owned(),
        group: "vms".to_owned(),
        address: "10.0.0.7".parse().expect("valid"),
        ports: BTreeMap::new(),
        labels: [("app".to_owned(), "vm".to_owned())].into(),
        annotations: BTreeMap::new(),
        network: NetworkId::default(),
        locality: Locality::default(),
        weight: 1,
        service_account: "vm".into(),
        health: WorkloadHealth::Unknown,
        controller: controller.to_owned(),
        connected_at,
        disconnected_at: 0,
    }
}

async fn has(registry: &Running, what: &str, count: usize) {
    registry.until(what, |catalog| catalog.services.values().any(|one| one.endpoints.len() == count)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_is_everywhere_moves_with_its_workload_and_ends_after_the_grace() {
    let rig = Rig::start().await;
    let (one, two, gateway) =
        (rig.registry(Some("one")).await, rig.registry(Some("two")).await, rig.registry(None).await);
    let shop = "shop".parse().expect("valid");
    one.registry.registrations.connect(workload("vm-1", "one", 1)).expect("there is room");
    let unknown = gateway.until_status("it is known", |status| !status.workloads.is_empty()).await;
    assert!(unknown.workloads[0].unhealthy.as_deref().is_some_and(|why| why.contains("not reported yet")));
    has(&gateway, "nothing is sent to it yet", 0).await;

    one.registry.registrations.report(&shop, "vm-1", WorkloadHealth::Healthy);
    for registry in [&one, &two, &gateway] {
        has(registry, "it is an endpoint", 1).await;
    }
    one.registry.registrations.report(&shop, "vm-1", WorkloadHealth::unhealthy("it has a cold"));
    for registry in [&one, &two, &gateway] {
        has(registry, "it is none while it is unwell", 0).await;
        registry.until_status("why is shown", |status| format!("{status:?}").contains("it has a cold")).await;
    }
    one.registry.registrations.report(&shop, "vm-1", WorkloadHealth::Healthy);
    for registry in [&one, &two, &gateway] {
        has(registry, "it is one again", 1).await;
    }

    // It moves: what is known of its health moves along, and nobody misses it.
    one.registry.registrations.disconnect(&shop, "vm-1");
    gateway.until_status("it has left", |status| status.workloads.iter().all(|one| !one.connected)).await;
    two.registry.registrations.connect(workload("vm-1", "two", 2)).expect("there is room");
    let moved = gateway.until_status("it is back", |status| status.workloads.iter().all(|one| one.connected)).await;
    assert_eq!((moved.workloads[0].controller.as_str(), &moved.workloads[0].unhealthy), ("two", &None));
    // One that leaves later is forgotten after its grace; by then the grace of the one that moved would be over too.
    let later = Workload { address: "10.0.0.8".parse().expect("valid"), ..workload("vm-2", "two", 3) };
    two.registry.registrations.connect(later).expect("there is room");
    gateway.until_status("the later one is known", |status| status.workloads.len() == 2).await;
    two.registry.registrations.disconnect(&shop, "vm-2");
    let stays = |status: &isthmus_registry::Status| {
        let services = &gateway.catalog().services;
        assert!(services.values().any(|service| service.endpoints.len() == 1), "it stays: {status:#?}");
        status.workloads.iter().map(|one| one.name.as_str()).eq(["shop/vm-1"])
    };
    gateway.until_status("the later one is forgotten", stays).await;

    two.registry.registrations.disconnect(&shop, "vm-1");
    for registry in [&one, &two, &gateway] {
        registry.until_status("it is forgotten", |status| status.workloads.is_empty()).await;
        has(registry, "it is gone", 0).await;
    }
    for registry in [one, two, gateway] {
        registry.stop().await;
    }
    rig.shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_vanishes_takes_its_workloads_along_and_the_next_takes_them_over() {
    let rig = Rig::start().await;
    let (one, two) = (rig.registry(Some("one")).await, rig.registry(Some("two")).await);
    for name in ["vm-1", "vm-2"] {
        let healthy = Workload { health: WorkloadHealth::Healthy, ..workload(name, "one", 1) };
        one.registry.registrations.connect(healthy).expect("there is room");
    }
    let third = one.registry.registrations.connect(workload("vm-3", "one", 1));
    assert!(third.expect_err("no more than two").to_string().contains('2'));
    has(&two, "both are endpoints", 2).await;
    one.stop().await;
    // One of the two comes to the other control plane.
    two.registry.registrations.connect(workload("vm-1", "two", 2)).expect("there is room");
    let left = two.until_status("the other is forgotten", |status| status.workloads.len() == 1).await;
    assert_eq!(left.workloads[0].name, "shop/vm-1");
    has(&two, "the one stays", 1).await;
    two.stop().await;
    rig.shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_store_a_control_plane_registers_for_itself() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("vm.yaml"), SERVICE).expect("written");
    let controller = Controller { name: "one".to_owned(), grace: Duration::ZERO, orphan: PATIENCE, most: 1 };
    let one = start(directory, |settings| settings.controller = Some(controller), None);
    let healthy = Workload { health: WorkloadHealth::Unchecked, ..workload("vm-1", "one", 1) };
    one.registry.registrations.connect(healthy).expect("there is room");
    has(&one, "it is an endpoint", 1).await;
    one.registry.registrations.disconnect(&"shop".parse().expect("valid"), "vm-1");
    has(&one, "it is none", 0).await;
    one.stop().await;
}
