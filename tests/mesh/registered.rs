//! A workload that nobody wrote down: it registers itself in east as a member of a WorkloadGroup, and west asks it.

use crate::beside::sidecar;
use crate::fixture::{Mesh, PATIENCE, until};
use http::HeaderMap;
use isthmus::http_client::Client;
use isthmus::http_server;
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const HOST: &str = "vm.bookinfo.svc.cluster.local";
const PORT: u16 = 9080;
/// Where the application listens, behind its sidecar.
const BEHIND: u16 = 19_080;

/// An application that is well or not, and counts what it is asked.
#[derive(Clone)]
struct Application {
    is_well: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_registers_answers_across_clusters_and_gets_nothing_while_it_is_unwell() {
    let mut mesh = Mesh::start(67);
    let at = |cluster: u8, host: u8| IpAddr::V4(Ipv4Addr::new(127, 67, cluster, host));
    let (vm, entrance) = (at(2, 160), SocketAddr::new(at(1, 161), PORT));
    let done = CancellationToken::new();
    let application = Application::start(SocketAddr::new(vm, BEHIND), done.clone()).await;
    std::fs::write(mesh.east_resources().join("vm.yaml"), east(vm)).expect("the file is written");
    std::fs::write(mesh.home().join("west/resources/vm-client.yaml"), west(entrance.ip()))
        .expect("the file is written");
    mesh.add("client-sidecar", sidecar(&mesh, "west/productpage-v1-sidecar.yaml", "vm-client", at(1, 160)));

    let mut settings = sidecar(&mesh, "east/details-v1-sidecar.yaml", "vm", vm);
    settings.workload.auto_register_group = "vms".to_owned();
    settings.workload.readiness_probe =
        Some(json!({"httpGet": {"port": BEHIND, "path": "/well"}, "periodSeconds": 1, "failureThreshold": 1}));
    mesh.add("vm-sidecar", settings.clone());
    answers(entrance).await;
    let control_plane = SocketAddr::new(mesh.layout.east().control_plane, 15000);
    let registry = mesh.inspect(control_plane, "registry").await;
    assert!(registry.contains("bookinfo/vms-127.67.2.160") && registry.contains("unhealthy: None"), "{registry}");

    application.is_well.store(false, Ordering::Relaxed);
    until("west is told nothing of it", PATIENCE, async || match ask(entrance).await {
        Ok(200) => Err("it answers"),
        _ => Ok(()),
    })
    .await;
    let before = application.asked.load(Ordering::Relaxed);
    for _ in 0..5 {
        assert_ne!(ask(entrance).await.ok(), Some(200));
    }
    assert_eq!(application.asked.load(Ordering::Relaxed), before, "no request reaches it");
    let registry = mesh.inspect(control_plane, "registry").await;
    assert!(registry.contains("answered 503"), "the reason is shown: {registry}");

    application.is_well.store(true, Ordering::Relaxed);
    answers(entrance).await;
    mesh.stop("vm-sidecar").await;
    until("it is forgotten", PATIENCE, async || {
        let registry = mesh.inspect(control_plane, "registry").await;
        if registry.contains("vms-127.67.2.160") { Err(registry) } else { Ok(()) }
    })
    .await;
    done.cancel();
    mesh.stop_all().await;
}

async fn ask(entrance: SocketAddr) -> anyhow::Result<u16> {
    Ok(Client::new(entrance, PATIENCE).get(&format!("{HOST}:{PORT}"), "/", &HeaderMap::new()).await?.status)
}

async fn answers(entrance: SocketAddr) {
    until("the workload answers west", PATIENCE, async || match ask(entrance).await {
        Ok(200) => Ok(()),
        Ok(status) => Err(format!("answered {status}")),
        Err(error) => Err(format!("{error:#}")),
    })
    .await;
}

impl Application {
    async fn start(at: SocketAddr, done: CancellationToken) -> Self {
        let own = Self { is_well: Arc::new(AtomicBool::new(true)), asked: Arc::default() };
        let listener = TcpListener::bind(at).await.expect("the address is free");
        let application = own.clone();
        let handler = move |request: &http::Request<hyper::body::Incoming>| {
            if request.uri().path() == "/well" {
                let status = if application.is_well.load(Ordering::Relaxed) { 200 } else { 503 };
                return http_server::text(status, "");
            }
            application.asked.fetch_add(1, Ordering::Relaxed);
            http_server::text(200, "here")
        };
        tokio::spawn(http_server::serve(listener, handler, done));
        own
    }
}

fn east(vm: IpAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: vm, namespace: bookinfo, annotations: {{isthmus.io/export: west}}}}
spec:
  hosts: [{HOST}]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: {PORT}, name: http, protocol: HTTP}}]
  workloadSelector: {{labels: {{app: vm}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {{name: vms, namespace: bookinfo}}
spec:
  metadata: {{labels: {{app: vm}}}}
  template: {{serviceAccount: bookinfo-details}}
  probe: {{httpGet: {{port: {BEHIND}, path: /well}}}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: vm, namespace: bookinfo}}
spec:
  workloadSelector: {{labels: {{app: vm}}}}
  ingress:
  - {{port: {{number: {PORT}, name: http, protocol: HTTP}}, bind: {vm}, defaultEndpoint: '0.0.0.0:{BEHIND}'}}
"
    )
}

fn west(entrance: IpAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: vm-client, namespace: bookinfo}}
spec:
  workloadSelector: {{labels: {{app: vm-client}}}}
  egress:
  - {{port: {{number: {PORT}, name: http, protocol: HTTP}}, bind: {entrance}, hosts: ['*/{HOST}']}}
"
    )
}
