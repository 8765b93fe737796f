//! The bookshop as a user would write it: Istio's ServiceEntry, WorkloadEntry and Sidecar, one file a service.

use super::layout::{APPLICATION_PORT, DemoCluster, NAMESPACE, Workload};
use crate::bookshop::{PORT, Title};
use anyhow::Context;
use std::fs;
use std::path::Path;

/// Writes the resources of a whole cluster into `directory`, exporting its services to `consumer`.
///
/// # Errors
/// If a file cannot be written.
pub fn write(directory: &Path, cluster: &DemoCluster, consumer: Option<&str>) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    for title in cluster.titles() {
        write_service(directory, cluster, title, consumer)?;
    }
    Ok(())
}

/// Writes one service's file anew, in one step as a careful editor would: aside, then renamed into place.
///
/// # Errors
/// If the file cannot be written.
pub fn write_service(
    directory: &Path,
    cluster: &DemoCluster,
    title: Title,
    consumer: Option<&str>,
) -> anyhow::Result<()> {
    let mut text = service_entry(title, consumer);
    for workload in cluster.of(title) {
        text.push_str(&workload_entry(workload));
        text.push_str(&sidecar(workload));
    }
    let path = directory.join(format!("{}.yaml", title.name()));
    let aside = directory.join(format!(".{}.tmp", title.name()));
    fs::write(&aside, text).with_context(|| format!("write {}", aside.display()))?;
    fs::rename(&aside, &path).with_context(|| format!("rename to {}", path.display()))
}

fn service_entry(title: Title, consumer: Option<&str>) -> String {
    let name = title.name();
    let annotations =
        consumer.map(|cluster| format!("\n  annotations:\n    isthmus.io/export: {cluster}")).unwrap_or_default();
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: {name}
  namespace: {NAMESPACE}{annotations}
spec:
  hosts: [{name}.{NAMESPACE}.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - number: {PORT}
    name: http
    protocol: HTTP
  workloadSelector:
    labels:
      app: {name}
"
    )
}

fn workload_entry(workload: &Workload) -> String {
    let name = workload.title.name();
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: {full}
  namespace: {NAMESPACE}
spec:
  address: {address}
  serviceAccount: {account}
  labels:
    app: {name}
    version: {version}
",
        full = workload.name(),
        address = workload.address,
        account = workload.service_account(),
        version = workload.version,
    )
}

/// Interception mode NONE: without root the sidecar binds the workload's ports itself.
fn sidecar(workload: &Workload) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata:
  name: {full}
  namespace: {NAMESPACE}
spec:
  workloadSelector:
    labels:
      app: {name}
      version: {version}
  ingress:
  - port:
      number: {PORT}
      name: http
      protocol: HTTP
    bind: {address}
    defaultEndpoint: 0.0.0.0:{APPLICATION_PORT}
  egress:
  - port:
      number: {PORT}
      name: http
      protocol: HTTP
    bind: {mesh}
    hosts: ['*/*']
",
        full = workload.name(),
        name = workload.title.name(),
        version = workload.version,
        address = workload.address,
        mesh = workload.mesh,
    )
}
