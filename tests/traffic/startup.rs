//! How Envoy is started and ended: as ProxyConfig and MeshConfig say, its workload registered with its group, and without a
//! request that is lost.

use crate::call::Client;
use crate::change::Outcome;
use crate::cluster::Tasks;
use crate::fixture::until;
use crate::marker;
use crate::mesh::Mesh;
use crate::service::INGRESS;
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// What it is called in what is asked for by name.
pub const NAME: &str = "an Envoy starts as ProxyConfigs say, and leaves when its requests have ended";
const START: Duration = Duration::from_secs(60);
/// Longer than anything here takes: who leaves earlier did not wait for it.
const LAST_DRAIN: Duration = Duration::from_secs(15);
const RESOURCES: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    defaultConfig: {concurrency: 1, drainDuration: 7s, terminationDrainDuration: 15s}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: late, namespace: shop}
spec: {selector: {matchLabels: {caller: late}}, concurrency: 3}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: late, namespace: shop}
spec:
  metadata: {labels: {group: late}}
  template: {serviceAccount: client}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: grouped, namespace: shop}
spec:
  hosts: [grouped.shop.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP, targetPort: 28000}]
  workloadSelector: {labels: {group: late}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: grouped, namespace: shop}
spec: {host: grouped.shop.svc.cluster.local, trafficPolicy: {tls: {mode: DISABLE}}}
";
/// A service whose only endpoint is the workload that registers itself.
const GROUPED: &str = "grouped.shop.svc.cluster.local:9080";

/// Starts one more Envoy in `mesh`, looks how it was started, and ends it while it is asked.
///
/// # Errors
/// If it does not start, or something cannot be written.
pub async fn run(mesh: &Mesh, envoy: &Path) -> anyhow::Result<Outcome> {
    mesh.cluster.write("case.yaml", &format!("{RESOURCES}{}", marker::resources(0)))?;
    for caller in &mesh.callers {
        marker::settled(caller.mesh, 0).await?;
    }
    let mut tasks = Tasks::default();
    let late = mesh.late().await?;
    mesh.cluster.start_envoy(&mut tasks, &late.workload, envoy)?;
    let at = SocketAddr::new(late.mesh, INGRESS);
    until("an Envoy that starts late", START, async || answers(at, "late").await).await?;
    for caller in &mesh.callers {
        let at = SocketAddr::new(caller.mesh, 9080);
        until("its workload registers itself", START, async || answers(at, GROUPED).await).await?;
    }
    let mut wrong = Vec::new();
    let options = options(late.workload.admin()).await?;
    for (name, wanted) in [("concurrency", Value::from(3)), ("drain_time", Value::from("7s"))] {
        if options[name] != wanted {
            wrong.push(format!("{name} of its command line: expected {wanted}, came {}", options[name]));
        }
    }
    let asking = tokio::spawn(async move { ask(at, "late", "1500ms").await });
    until("a request is under way", START, async || under_way(late.workload.admin()).await).await?;
    let began = Instant::now();
    tasks.stop().await;
    let took = began.elapsed();
    match asking.await? {
        Ok(200) => {}
        other => wrong.push(format!("the request that was under way: expected 200, came {other:?}")),
    }
    if took >= LAST_DRAIN {
        wrong.push(format!("it left after {took:?}, though nothing was under way any more"));
    }
    if ask(at, "late", "0ms").await.is_ok() {
        wrong.push("it still answers".to_owned());
    }
    Ok(Outcome { proxy: "envoy".to_owned(), summary: NAME.to_owned(), wrong })
}

/// Whether `host` answers at `at`.
async fn answers(at: SocketAddr, host: &'static str) -> Result<(), String> {
    match ask(at, host, "0ms").await? {
        200 => Ok(()),
        other => Err(format!("status {other}")),
    }
}

/// The status that comes back from `at`, where the application of `host` takes `delay`.
async fn ask(at: SocketAddr, host: &'static str, delay: &str) -> Result<u16, String> {
    let request = Request::get("/").header("host", host).header("x-delay", delay);
    let request = request.body(Full::<Bytes>::default()).map_err(|error| error.to_string())?;
    Client::new(at, false).send(request).await.map(|reply| reply.status)
}

async fn admin(at: SocketAddr, path: &str) -> anyhow::Result<String> {
    let request = Request::get(path).header("host", "admin").body(Full::<Bytes>::default())?;
    Client::new(at, false).send(request).await.map(|reply| reply.body).map_err(anyhow::Error::msg)
}

async fn options(at: SocketAddr) -> anyhow::Result<Value> {
    let mut info: Value = serde_json::from_str(&admin(at, "/server_info").await?).context("server_info")?;
    Ok(info["command_line_options"].take())
}

async fn under_way(at: SocketAddr) -> anyhow::Result<()> {
    let stats = admin(at, "/stats?filter=^http\\.inbound.*downstream_rq_active$").await?;
    ensure!(!stats.is_empty(), "there is no such counter");
    if stats.lines().all(|line| line.ends_with(": 0")) {
        bail!("none");
    }
    Ok(())
}
