//! The commented example settings say what the processes take.

use isthmus::settings::{AgentProcess, ControlPlaneProcess, GatewayProcess, SidecarProcess, StoreProcess, read};
use serde::de::DeserializeOwned;
use std::path::Path;

fn example<T: DeserializeOwned>(role: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(format!("{role}.yaml"));
    read(&path).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn every_example_is_accepted() {
    example::<StoreProcess>("store");
    example::<SidecarProcess>("sidecar");
    example::<AgentProcess>("agent");
    assert_eq!(example::<ControlPlaneProcess>("controlplane").listen.port(), 15012);
    let gateway = example::<GatewayProcess>("gateway");
    assert_eq!(gateway.eastwest.tunnel.port(), 15443);
    assert_eq!(gateway.ingress.expect("an example of one").workload.labels["istio"], "ingressgateway");
}

#[test]
fn an_unknown_field_is_named_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.yaml");
    std::fs::write(&path, "telemetry: {metrics: 127.0.0.1:1}\nserver: {listen: 127.0.0.1:2, data: d, quota: 5}\n")
        .expect("the file is written");
    let error = format!("{:#}", read::<StoreProcess>(&path).expect_err("quota is no field"));
    assert!(error.contains("store.yaml") && error.contains("quota"), "{error}");
}
