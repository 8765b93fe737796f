//! The walk that a newcomer takes through the two clusters; each step is a check with its evidence.

use super::Side;
use super::layout::{DemoCluster, Layout};
use super::load::{Load, Shot, percentile};
use super::process::Supervisor;
use super::report::Report;
use super::resources;
use crate::bookshop::{PORT, Title};
use crate::http_client::{Client, Reply};
use anyhow::{Context, bail, ensure};
use futures_util::future::join_all;
use http::HeaderMap;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Bounds that are promised; a check waits three times as long and prints what it measured.
const FIRST_REQUEST: Duration = Duration::from_secs(5);
const WITHDRAWAL: Duration = Duration::from_secs(2);
const RECOVERY: Duration = Duration::from_secs(1);

const RATE: u32 = 200;
/// Requests that are made at the same time to meet every instance.
const ABREAST: usize = 12;
const PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);
/// How long a load runs before and after a process is killed.
const BEFORE_KILL: Duration = Duration::from_millis(700);
const AFTER_KILL: Duration = Duration::from_millis(2500);
const METRICS_PORT: u16 = 15090;

/// Everything that the steps need.
pub struct Tour<'a> {
    /// Who runs where.
    pub layout: &'a Layout,
    /// The processes.
    pub processes: &'a Supervisor,
    /// When the first process was started.
    pub started: Instant,
    /// East's resource files.
    pub east_resources: PathBuf,
    /// Which sidecar is an Envoy, if one is.
    pub envoy: Option<Side>,
}

impl Tour<'_> {
    /// Walks the whole way.
    pub async fn walk(&self, report: &mut Report) {
        report.note("a request from west is answered in east", self.first_request().await);
        report.note("each side knows who the other is", self.identities().await);
        report.note("all three versions of reviews answer", self.versions().await);
        report.note("the page that a person sees", self.page().await);
        report.note("the path leads through QUIC tunnels", self.tunnels().await);
        report.note("what the path costs", self.latency().await);
        report.note("what was never exported is refused", self.unexported().await);
        for victim in self.victims() {
            let what = format!("kill -9 {victim} under {RATE} requests/s");
            report.note(&what, self.kill(&victim).await);
        }
        report.note("a withdrawn export is refused", self.withdraw().await);
        report.note("an export is offered again", self.offer_again().await);
        report.note("no proxy refused what it was sent", self.accepted().await);
    }

    async fn first_request(&self) -> anyhow::Result<String> {
        let mut client = self.west();
        loop {
            let outcome = get(&mut client, "reviews").await;
            let waited = self.started.elapsed();
            match outcome {
                Ok(reply) if reply.status == 200 => {
                    return Ok(format!(
                        "answered {waited:.1?} after the first process was started (bound {FIRST_REQUEST:?})"
                    ));
                }
                Ok(reply) if waited > FIRST_REQUEST * 3 => {
                    bail!("still {} after {waited:.1?}: {}", reply.status, text(&reply))
                }
                Err(error) if waited > FIRST_REQUEST * 3 => return Err(error.context(format!("after {waited:.1?}"))),
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    async fn identities(&self) -> anyhow::Result<String> {
        // Each service's sidecar comes up in its own time.
        self.await_answer("details").await?;
        let body = self.ask("details").await?;
        let caller = body["served"]["caller"].as_str().context("the answer names no caller")?;
        let wanted = format!("spiffe://{}/ns/bookinfo/sa/bookinfo-productpage", self.layout.west().trust_domain);
        ensure!(caller == wanted, "east saw {caller}, not {wanted}");
        ensure!(body["served"]["cluster"] == "east", "answered in {}", body["served"]["cluster"]);
        if self.envoy == Some(Side::Client) {
            return Ok(format!("east saw  {caller}\nwest is an Envoy, which verified the server's identity"));
        }
        let metrics = self.metrics(self.layout.west().workloads[0].address).await?;
        let server = label(
            &metrics,
            "istio_requests_total",
            &[("destination_service", "details"), ("response_code", "200")],
            "destination_principal",
        )
        .context("west's sidecar counted no request to details")?;
        let account = format!("spiffe://{}/ns/bookinfo/sa/bookinfo-details", self.layout.east().trust_domain);
        ensure!(server == account, "west saw {server}, not {account}");
        Ok(format!("east saw  {caller}\nwest saw  {server}"))
    }

    async fn versions(&self) -> anyhow::Result<String> {
        let mut seen = BTreeSet::new();
        let deadline = Instant::now() + PATIENCE;
        while seen.len() < 3 {
            ensure!(Instant::now() < deadline, "only {seen:?} answered");
            // Many at once, since a gateway balances connections, not requests.
            for body in join_all((0..ABREAST).map(|_| self.ask("reviews"))).await {
                seen.insert(body?["served"]["by"].as_str().unwrap_or_default().to_owned());
            }
        }
        Ok(seen.into_iter().collect::<Vec<_>>().join(", "))
    }

    async fn page(&self) -> anyhow::Result<String> {
        let address = self.layout.west().workloads[0].application();
        let reply = Client::new(address, PATIENCE).get("bookshop", "/productpage", &HeaderMap::new()).await?;
        let page = text(&reply);
        for part in ["The Narrow Land", "Readers say", "in east"] {
            ensure!(page.contains(part), "{part:?} is missing on the page: {page}");
        }
        Ok(self.layout.page())
    }

    async fn tunnels(&self) -> anyhow::Result<String> {
        let mut lines = Vec::new();
        for (name, address) in &self.layout.west().gateways {
            let metrics = self.metrics(*address).await?;
            let up = count(&metrics, "isthmus_tunnel_state", &[("peer", "east"), ("transport", "quic")]);
            ensure!(up >= 1.0, "{name} has no tunnel to east");
            lines.push(format!("{name}: {up} tunnels to east"));
        }
        let mesh = self.layout.west_mesh();
        lines.push(format!(
            "productpage ▶ its sidecar {mesh} ▶ west's gateways ▶ QUIC ▶ east's gateways ▶ sidecar ▶ reviews"
        ));
        Ok(lines.join("\n"))
    }

    async fn latency(&self) -> anyhow::Result<String> {
        let direct = self.layout.east().of(Title::Details).next().context("east has details")?.application();
        let direct = self.sample(direct).await?;
        let meshed = self.sample(self.layout.west_mesh()).await?;
        let (p50, p99) = (percentile(&meshed, 50), percentile(&meshed, 99));
        let added = p50.saturating_sub(percentile(&direct, 50));
        Ok(format!("{added:.1?} added to the median: {p50:.1?} through two sidecars and two gateways (p99 {p99:.1?})"))
    }

    async fn unexported(&self) -> anyhow::Result<String> {
        let east = self.layout.east().workloads[0].mesh();
        let reply = get(&mut Client::new(east, PATIENCE), "productpage").await?;
        ensure!(reply.status >= 400, "east reached productpage, which west does not export: {}", reply.status);
        Ok(format!("productpage, asked for in east: {}", reply.status))
    }

    fn victims(&self) -> Vec<String> {
        let gateways =
            self.layout.clusters.iter().flat_map(|cluster| cluster.gateways.iter().map(|(name, _)| name.clone()));
        let replicas = ["reviews-v2", "reviews-v3-sidecar"].map(str::to_owned);
        let planes = self.layout.clusters.iter().map(|cluster| format!("{}-controlplane", cluster.name));
        let known: BTreeSet<&str> = self.processes.names().collect();
        gateways
            .chain(planes)
            .chain(replicas)
            .chain(["store".to_owned()])
            .filter(|name| known.contains(name.as_str()))
            .collect()
    }

    async fn kill(&self, victim: &str) -> anyhow::Result<String> {
        let starts = self.processes.starts(victim);
        let load = self.load(self.layout.west_mesh(), "reviews").start();
        tokio::time::sleep(BEFORE_KILL).await;
        let killed = Instant::now();
        let outcome = self.processes.kill(victim);
        tokio::time::sleep(AFTER_KILL).await;
        let shots = load.stop().await;
        outcome?;
        let failed: Vec<&Shot> = shots.iter().filter(|shot| shot.failure.is_some()).collect();
        let last =
            failed.iter().map(|shot| (shot.at + shot.took).saturating_duration_since(killed)).max().unwrap_or_default();
        let why = || failed.last().and_then(|shot| shot.failure.as_deref()).unwrap_or_default().trim().to_owned();
        ensure!(failed.iter().all(|shot| shot.at + shot.took >= killed), "requests failed before the kill: {}", why());
        ensure!(last <= RECOVERY * 3, "requests still failed {last:.1?} after: {}", why());
        ensure!(failed.len() < shots.len() / 4, "{} of {} requests failed: {}", failed.len(), shots.len(), why());
        self.restarted(victim, starts).await?;
        let last = if failed.is_empty() { String::new() } else { format!(", the last {last:.0?} after ({})", why()) };
        Ok(format!("{} of {} requests failed{last}; running again", failed.len(), shots.len()))
    }

    async fn restarted(&self, victim: &str, starts: u32) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.processes.starts(victim) == starts || self.processes.pid(victim).is_none() {
            ensure!(Instant::now() < deadline, "{victim} was not started again");
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    async fn withdraw(&self) -> anyhow::Result<String> {
        self.await_answer("details").await?;
        resources::write_service(&self.east_resources, self.layout.east(), Title::Details, None)?;
        let changed = Instant::now();
        let mut last_answer = Duration::ZERO;
        let mut refusals = 0;
        let mut refusal = String::new();
        let mut client = self.west();
        while refusals < 20 {
            ensure!(
                changed.elapsed() < WITHDRAWAL * 3 + PATIENCE,
                "details still answers {:.1?} after",
                changed.elapsed()
            );
            match get(&mut client, "details").await {
                Ok(reply) if reply.status == 200 => (last_answer, refusals) = (changed.elapsed(), 0),
                Ok(reply) => (refusals, refusal) = (refusals + 1, reply.status.to_string()),
                Err(error) => (refusals, refusal) = (refusals + 1, format!("{error:#}")),
            }
            tokio::time::sleep(POLL).await;
        }
        ensure!(last_answer <= WITHDRAWAL * 3, "details answered for {last_answer:.1?} after its withdrawal");
        Ok(format!("the last answer came {last_answer:.0?} after (bound {WITHDRAWAL:?}); since then: {refusal}"))
    }

    async fn offer_again(&self) -> anyhow::Result<String> {
        resources::write_service(&self.east_resources, self.layout.east(), Title::Details, Some("west"))?;
        let waited = self.await_answer("details").await?;
        Ok(format!("answered {waited:.0?} after"))
    }

    async fn accepted(&self) -> anyhow::Result<String> {
        let mut pushes = 0.0;
        for cluster in &self.layout.clusters {
            let metrics = self.metrics_at(SocketAddr::new(cluster.control_plane, 15014)).await?;
            let refused = count(&metrics, "pilot_total_xds_rejects", &[]);
            ensure!(refused == 0.0, "{}'s proxies refused {refused} resources", cluster.name);
            pushes += count(&metrics, "pilot_xds_pushes", &[]);
        }
        Ok(format!("{pushes} pushes, all accepted"))
    }

    async fn await_answer(&self, service: &str) -> anyhow::Result<Duration> {
        let asked = Instant::now();
        loop {
            match self.ask(service).await {
                Ok(_) => return Ok(asked.elapsed()),
                Err(error) if asked.elapsed() > PATIENCE => return Err(error),
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    async fn sample(&self, address: SocketAddr) -> anyhow::Result<Vec<Shot>> {
        let running = self.load(address, "details").start();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let shots = running.stop().await;
        match shots.iter().find_map(|shot| shot.failure.as_ref()) {
            Some(failure) => bail!("{failure}"),
            None => Ok(shots),
        }
    }

    fn load(&self, address: SocketAddr, service: &str) -> Load {
        Load { address, host: host(service), path: "/".to_owned(), connections: 8, rate: RATE }
    }

    fn west(&self) -> Client {
        Client::new(self.layout.west_mesh(), PATIENCE)
    }

    async fn ask(&self, service: &str) -> anyhow::Result<Value> {
        let reply = get(&mut self.west(), service).await?;
        ensure!(reply.status == 200, "{service} answered {}: {}", reply.status, text(&reply));
        serde_json::from_slice(&reply.body).context("the answer is JSON")
    }

    async fn metrics(&self, address: IpAddr) -> anyhow::Result<String> {
        self.metrics_at(SocketAddr::new(address, METRICS_PORT)).await
    }

    async fn metrics_at(&self, address: SocketAddr) -> anyhow::Result<String> {
        let reply = Client::new(address, PATIENCE).get("localhost", "/metrics", &HeaderMap::new()).await?;
        Ok(text(&reply))
    }
}

/// What a stopped demo leaves behind: nothing.
///
/// # Errors
/// If a port is still taken.
pub fn left_nothing(layout: &Layout, store: bool) -> anyhow::Result<String> {
    let mut ports: Vec<SocketAddr> = layout.clusters.iter().flat_map(DemoCluster::ports).collect();
    ports.extend(store.then(|| layout.store()));
    for address in &ports {
        std::net::TcpListener::bind(address).with_context(|| format!("{address} is still taken"))?;
    }
    Ok(format!("no process, no file, and all {} ports are free", ports.len()))
}

fn host(service: &str) -> String {
    format!("{service}.bookinfo.svc.cluster.local:{PORT}")
}

async fn get(client: &mut Client, service: &str) -> anyhow::Result<Reply> {
    client.get(&host(service), "/", &HeaderMap::new()).await
}

fn text(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.body).into_owned()
}

/// The series of `metric` whose labels contain all of `wanted` (by prefix of the value).
fn series<'a>(metrics: &'a str, metric: &'a str, wanted: &'a [(&str, &str)]) -> impl Iterator<Item = &'a str> {
    metrics.lines().filter(move |line| {
        line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && wanted.iter().all(|(name, value)| line.contains(&format!("{name}=\"{value}")))
    })
}

fn label<'a>(metrics: &'a str, metric: &'a str, wanted: &'a [(&str, &str)], name: &str) -> Option<&'a str> {
    let line = series(metrics, metric, wanted).next()?;
    line.split_once(&format!("{name}=\""))?.1.split('"').next()
}

fn count(metrics: &str, metric: &str, wanted: &[(&str, &str)]) -> f64 {
    series(metrics, metric, wanted).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
