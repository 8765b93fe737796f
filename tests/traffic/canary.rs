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
const DEADLINE: Duration = Duration::from_secs(30);
/// Numbers of markers that no case and no change has.
const FIRST: usize = 1_000_000;

/// Drives one shape in `mesh`, under load on each of its callers.
///
/// # Errors
/// If the configuration cannot be written, or does not arrive.
pub async fn run(mesh: &Mesh, (name, resources): Shape) -> anyhow::Result<Vec<Outcome>> {
    let first = FIRST + name.len() * 100;
    let mut loads: Vec<(Load, Outcome)> = mesh.callers.iter().map(|caller| begin(caller, name, first)).collect();
    for (number, weight) in (first..).zip(STEPS) {
        let text = format!("{}---\n{}\n{}", services(), resources(weight), marker::resources(number));
        mesh.cluster.write("case.yaml", &mesh.filled(&text))?;
        for (load, outcome) in &mut loads {
            let tally = counted(load, number).await?;
            let share = f64::from(weight) / 100.0;
            let shares: BTreeMap<String, f64> = [(STABLE.to_owned(), 1.0 - share), (CANARY.to_owned(), share)].into();
            let differ = value::differ(&shares, &tally.instances, tally.answered);
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

/// The tally once so many requests are answered that follow the configuration `number`, with the failures of all.
async fn counted(load: &Load, number: usize) -> anyhow::Result<Tally> {
    load.step(number);
    let enough = async || {
        let answered = load.answered();
        if answered >= COUNTED { Ok(()) } else { Err(format!("{answered} of {COUNTED} answered")) }
    };
    until("enough requests are answered", DEADLINE, enough).await?;
    Ok(load.take())
}

fn begin(caller: &Caller, shape: &str, first: usize) -> (Load, Outcome) {
    let proxy = format!("{} {shape}", caller.column);
    let outcome = Outcome { proxy, summary: String::new(), wrong: Vec::new() };
    (Load::start(SocketAddr::new(caller.mesh, 9080), AUTHORITY, RATE, first), outcome)
}

/// What a deployment has: the service, and one for each of its two versions. Argo tells them apart by a hash, Flagger
/// and the Gateway API by services.
fn services() -> String {
    let stable = "{address: $reviews-v1, labels: {app: podinfo, rollouts-pod-template-hash: 5d4f8c}}";
    let canary = "{address: $reviews-v2, labels: {app: podinfo, rollouts-pod-template-hash: 7b9d6e}}";
    let both = format!("{stable}, {canary}");
    [("podinfo", both.as_str()), ("podinfo-primary", stable), ("podinfo-canary", canary)].map(service).join("---\n")
}

fn service((name, endpoints): (&str, &str)) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: shop}}
spec:
  hosts: [{name}.shop.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 9080, name: http, protocol: HTTP}}]
  endpoints: [{endpoints}]
"
    )
}

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
