//! A router that cannot serve, beside an east-west gateway that can.

use crate::fixture::{Mesh, PATIENCE, until};
use isthmus::settings::{self, EnrolSettings, GatewayProcess, IngressSettings, ProxyRole, WorkloadSettings};
use std::net::SocketAddr;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_without_a_good_token_leaves_the_tunnels_alone() {
    let mut mesh = Mesh::start(68);
    mesh.answer("details").await;
    let bad = mesh.home().join("west/bad-token");
    std::fs::write(&bad, "no token").expect("the file is written");
    let mut gateway: GatewayProcess = settings::read(&mesh.home().join("west/west-gateway-1.yaml")).expect("settings");
    gateway.ingress = Some(IngressSettings {
        workload: WorkloadSettings {
            name: "ingress-1".to_owned(),
            namespace: "istio-system".to_owned(),
            service_account: "istio-ingressgateway".to_owned(),
            addresses: vec![gateway.eastwest.listen.ip()],
            labels: [("istio".to_owned(), "ingressgateway".to_owned())].into(),
            locality: String::new(),
            network: String::new(),
            auto_register_group: String::new(),
            readiness_probe: None,
            interception: "NONE".to_owned(),
            role: ProxyRole::Router,
        },
        identity: EnrolSettings { token: bad, ..gateway.identity.clone() },
        ready_within_seconds: 1,
        proxy: proxy::Settings::default(),
    });
    let metrics: SocketAddr = gateway.telemetry.metrics;
    for name in ["west-gateway-1", "west-gateway-2"] {
        mesh.stop(name).await;
    }
    mesh.add_gateway("west-gateway-1", gateway);
    mesh.answer("details").await;
    until("it is ready", PATIENCE, async || match mesh.get(metrics, "/healthz/ready").await.as_str() {
        "ready\n" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
    mesh.stop_all().await;
}
