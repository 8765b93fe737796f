//! A canary that is driven from outside: weights go from 0 to 100 in steps, in the shapes in which Flagger and Argo
//! Rollouts write them. No request may fail, and each step's requests must be split as it says.

use crate::change::Outcome;
use crate::fixture::until;
use crate::load::{Load, Tally};
use crate::marker;
use crate::mesh::{Caller, Mesh};
use crate::value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// A shape: what it is called, and its resources at a weight of the canary.
pub type Shape = (&'static str, fn(u32) -> String);

pub const SHAPES: [Shape; 3] = [
    ("Flagger's VirtualService and DestinationRules", flagger),
    ("Argo Rollouts' VirtualService over subsets", argo),
    ("HTTPRoute", http_route),
];
const STEPS: [u32; 7] = [0, 5, 10, 25, 50, 75, 100];
const AUTHORITY: &str = "podinfo.shop.svc.cluster.local:9080";
/// The instances that stand for the two versions.
const STABLE: &str = "reviews-v1";
/// See [`STABLE`].
const CANARY: &str = "reviews-v2";
const RATE: u32 = 400;
/// How many requests are counted at each step.
const COUNTED: usize = 500;
/// How many are left out before: those that were under way, and those of a thread of Envoy's that follows a moment later.
const UNCOUNTED: usize = 200;
/// How many may still come to where nothing is sent any more: they were under way for longer than that.
const LATE: usize = 2;
const DEADLINE: Duration = Duration::from_secs(30);
/// Numbers of markers that no case and no change has.
const FIRST: usize = 1_000_000;

/// Drives one shape in `mesh`, under load on each of its callers.
///
/// # Errors
/// If the configuration cannot be written, or does not arrive.
pub async fn run(mesh: &Mesh, (name, resources): Shape) -> anyhow::Result<Vec<Outcome>> {
    let first = FIRST + name.len() * 100;
    let mut loads: Vec<(Load, Outcome)> = Vec::new();
    for (number, weight) in (first..).zip(STEPS) {
        let text = format!("{SERVICES}---\n{}\n{}", resources(weight), marker::resources(number, mesh.marker));
        mesh.cluster.write("case.yaml", &mesh.filled(&text))?;
        for caller in &mesh.callers {
            marker::settled(caller.mesh, number).await?;
        }
        if loads.is_empty() {
            loads.extend(mesh.callers.iter().map(|caller| begin(caller, name)));
        }
        for (load, outcome) in &mut loads {
            outcome.wrong.extend(load.take().failures);
            outcome.wrong.extend(counted(load, UNCOUNTED).await?.failures);
            let tally = counted(load, COUNTED).await?;
            let share = f64::from(weight) / 100.0;
            let shares: BTreeMap<String, f64> = [(STABLE.to_owned(), 1.0 - share), (CANARY.to_owned(), share)].into();
            let of_nobody = if weight == 0 { CANARY } else { STABLE };
            let late = tally.instances.get(of_nobody).copied().unwrap_or(0);
            let is_late = (weight == 0 || weight == 100) && late <= LATE;
            let differ = value::differ(&shares, &tally.instances, tally.answered).filter(|_| !is_late);
            outcome.wrong.extend(differ.map(|differ| format!("at {weight} percent: {differ}")));
            outcome.wrong.extend(tally.failures);
            let came = 100.0 * tally.instances.get(CANARY).copied().unwrap_or(0) as f64 / tally.answered.max(1) as f64;
            outcome.summary = format!("{} {weight}%→{came:.1}%", outcome.summary);
        }
    }
    let mut outcomes = Vec::new();
    for (load, mut outcome) in loads {
        outcome.wrong.extend(load.stop().await.0.failures);
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// The tally once so many are answered.
async fn counted(load: &Load, wanted: usize) -> anyhow::Result<Tally> {
    let enough = async || {
        let answered = load.answered();
        if answered >= wanted { Ok(()) } else { Err(format!("{answered} of {wanted} answered")) }
    };
    until("enough requests are answered", DEADLINE, enough).await?;
    Ok(load.take())
}

fn begin(caller: &Caller, shape: &str) -> (Load, Outcome) {
    let proxy = format!("{} {shape}", caller.column);
    let outcome = Outcome { proxy, summary: String::new(), wrong: Vec::new() };
    (Load::start(SocketAddr::new(caller.mesh, 9080), AUTHORITY, RATE), outcome)
}

/// What a deployment has: the service, and one for each of its two versions. Argo tells them apart by a hash, Flagger
/// and the Gateway API by services.
const SERVICES: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: podinfo, namespace: shop}
spec:
  hosts: [podinfo.shop.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints:
  - {address: $reviews-v1, labels: {app: podinfo, rollouts-pod-template-hash: 5d4f8c}}
  - {address: $reviews-v2, labels: {app: podinfo, rollouts-pod-template-hash: 7b9d6e}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: podinfo-primary, namespace: shop}
spec:
  hosts: [podinfo-primary.shop.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints: [{address: $reviews-v1, labels: {app: podinfo-primary}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: podinfo-canary, namespace: shop}
spec:
  hosts: [podinfo-canary.shop.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints: [{address: $reviews-v2, labels: {app: podinfo}}]
";

fn flagger(weight: u32) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: podinfo, namespace: shop, annotations: {{helm.toolkit.fluxcd.io/driftDetection: disabled}}}}
spec:
  gateways: [mesh]
  hosts: [podinfo]
  http:
  - route:
    - {{destination: {{host: podinfo-primary}}, weight: {}}}
    - {{destination: {{host: podinfo-canary}}, weight: {weight}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: podinfo-primary, namespace: shop}}
spec: {{host: podinfo-primary, trafficPolicy: {{loadBalancer: {{simple: LEAST_REQUEST}}}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: podinfo-canary, namespace: shop}}
spec: {{host: podinfo-canary, trafficPolicy: {{loadBalancer: {{simple: LEAST_REQUEST}}}}}}
",
        100 - weight
    )
}

fn argo(weight: u32) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: rollout-vsvc, namespace: shop}}
spec:
  hosts: [podinfo]
  http:
  - name: primary
    route:
    - {{destination: {{host: podinfo, subset: stable}}, weight: {}}}
    - {{destination: {{host: podinfo, subset: canary}}, weight: {weight}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: rollout-destrule, namespace: shop, annotations: {{argo-rollouts.argoproj.io/managed-by-rollouts: podinfo}}}}
spec:
  host: podinfo
  subsets:
  - {{name: canary, labels: {{app: podinfo, rollouts-pod-template-hash: 7b9d6e}}}}
  - {{name: stable, labels: {{app: podinfo, rollouts-pod-template-hash: 5d4f8c}}}}
",
        100 - weight
    )
}

fn http_route(weight: u32) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: podinfo, namespace: shop}}
spec:
  parentRefs: [{{group: '', kind: Service, name: podinfo, port: 9080}}]
  rules:
  - matches: [{{path: {{type: PathPrefix, value: /}}}}]
    backendRefs:
    - {{group: '', kind: Service, name: podinfo-primary, port: 9080, weight: {}}}
    - {{group: '', kind: Service, name: podinfo-canary, port: 9080, weight: {weight}}}
",
        100 - weight
    )
}
