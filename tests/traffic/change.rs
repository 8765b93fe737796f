//! The configuration changes ten times a second while requests come at 1,000 a second: none may fail.

use crate::call::Client;
use crate::load::{Load, NO_STEP};
use crate::marker;
use crate::mesh::{Caller, Mesh};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

const AUTHORITY: &str = "reviews.shop.svc.cluster.local:9080";
const PORT: u16 = 9080;
const RATE: u32 = 1000;
/// The share of the requests and of the changes without which nothing is shown.
const LEAST: f64 = 0.9;
const BETWEEN: Duration = Duration::from_millis(100);
/// How often it is looked which configuration a proxy follows.
const LOOK: Duration = Duration::from_millis(20);

/// What came of it, for one proxy.
pub struct Outcome {
    pub proxy: String,
    /// What happened, in one line.
    pub summary: String,
    pub wrong: Vec<String>,
}

/// Changes the configuration of `mesh` for so long, under load on each of its callers.
///
/// # Errors
/// If the configuration cannot be written.
pub async fn run(mesh: &Mesh, seconds: u64) -> anyhow::Result<Vec<Outcome>> {
    mesh.cluster.write("case.yaml", &mesh.filled(&resources(0)))?;
    for caller in &mesh.callers {
        marker::settled(caller.mesh, 0).await?;
    }
    let begin = |caller: &Caller| {
        let at = SocketAddr::new(caller.mesh, PORT);
        (Load::start(at, AUTHORITY, RATE, NO_STEP), Followed::start(at))
    };
    let under_way: Vec<_> = mesh.callers.iter().map(begin).collect();
    let mut ticks = tokio::time::interval(BETWEEN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let changes = usize::try_from(seconds)? * 10;
    for number in 1..=changes {
        ticks.tick().await;
        mesh.cluster.write("case.yaml", &mesh.filled(&resources(number)))?;
    }
    for caller in &mesh.callers {
        marker::settled(caller.mesh, changes).await?;
    }
    let mut outcomes = Vec::new();
    for (caller, (load, followed)) in mesh.callers.iter().zip(under_way) {
        let (tally, took) = load.stop().await;
        let followed = followed.stop().await.len();
        let rate = (tally.answered + tally.failed) as f64 / took.as_secs_f64();
        let summary = format!(
            "{} requests at {rate:.0}/s, {} failed; {changes} changes written, {followed} seen in force",
            tally.answered + tally.failed,
            tally.failed
        );
        let mut wrong = tally.failures;
        if rate < f64::from(RATE) * LEAST {
            wrong.push(format!("{rate:.0} requests/s are no load: the machine is too busy for {RATE}"));
        }
        if (followed as f64) < changes as f64 * LEAST {
            wrong.push(format!("only {followed} of {changes} changes came into force"));
        }
        outcomes.push(Outcome { proxy: caller.column.to_string(), summary, wrong });
    }
    Ok(outcomes)
}

/// The resources of change `number`: weights, routes, subsets, limits and an instance that come and go.
fn resources(number: usize) -> String {
    let weight = number * 7 % 101;
    let is = |every: usize| number.is_multiple_of(every);
    let first = if is(2) {
        "  - match: [{headers: {x-nobody: {exact: asks}}}]\n    directResponse: {status: 404}\n"
    } else {
        ""
    };
    let third = if is(3) { "  - {name: v3, labels: {version: v3}}\n" } else { "" };
    let to_third = if is(3) { "    - {destination: {host: reviews, subset: v3}, weight: 20}\n" } else { "" };
    let requests = 1000 + number % 5;
    let more = if is(5) { "  - {address: $reviews-v2, labels: {version: v9}}\n" } else { "" };
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews, namespace: shop}}
spec:
  hosts: [reviews]
  http:
{first}  - timeout: {timeout}s
    route:
    - {{destination: {{host: reviews, subset: v1}}, weight: {weight}}}
    - {{destination: {{host: reviews, subset: v2}}, weight: {rest}}}
{to_third}---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: reviews, namespace: shop}}
spec:
  host: reviews
  trafficPolicy: {{connectionPool: {{http: {{http2MaxRequests: {requests}}}}}}}
  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
{third}---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: coming-and-going, namespace: shop}}
spec:
  hosts: [coming-and-going.shop.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 9080, name: http, protocol: HTTP}}]
  endpoints:
  - {{address: $reviews-v1, labels: {{version: v1}}}}
{more}{marker}",
        timeout = 10 + number % 3,
        rest = 101 - weight,
        marker = marker::resources(number)
    )
}

/// Notes which configurations a proxy follows.
struct Followed {
    stop: CancellationToken,
    seen: JoinHandle<BTreeSet<String>>,
}

// === impl Followed ===

impl Followed {
    fn start(at: SocketAddr) -> Self {
        let stop = CancellationToken::new();
        Self { seen: tokio::spawn(look(at, stop.clone())), stop }
    }

    async fn stop(self) -> BTreeSet<String> {
        self.stop.cancel();
        self.seen.await.unwrap_or_default()
    }
}

async fn look(at: SocketAddr, stop: CancellationToken) -> BTreeSet<String> {
    let mut client = Client::new(at, false);
    let mut seen = BTreeSet::new();
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return seen,
            _ = ticks.tick() => {}
        }
        if let Ok(reply) = client.send(marker::request()).await
            && reply.status == 200
        {
            seen.insert(reply.body);
        }
    }
}
