//! Everything that runs, and one case after the other in it.

use crate::ask::{self, Numbers};
use crate::call::Client;
use crate::case::{Case, Column};
use crate::certificates::Certificates;
use crate::check;
use crate::fixture::until;
use crate::http_case::HttpCase;
use crate::jwt::Issuer;
use crate::ledger::Ledger;
use crate::marker;
use crate::mesh::{Caller, EnvoyLook, Mesh, Range};
use crate::raw;
use crate::report::Verdict;
use crate::service::{SERVICES, Service};
use crate::stream_case::StreamCase;
use anyhow::Context;
use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use http_body_util::Full;
use serde_json::json;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// The meshes, with all their callers.
pub struct Rig {
    meshes: Vec<Mesh>,
    ledger: Arc<Ledger>,
    certificates: Certificates,
    issuer: Issuer,
    numbers: Numbers,
    /// Keeps other runs out of the ranges.
    _held: Vec<TcpListener>,
    _home: TempDir,
}

/// How long the start of everything may take.
const START: Duration = Duration::from_secs(60);
/// How long a gateway's listeners may take to open.
const OPENING: Duration = Duration::from_secs(15);
/// The port whose socket tells that a range is taken.
const HELD: u16 = 9;
/// How many lines of Envoy's log are shown.
const TAIL: usize = 15;

// === impl Rig ===

impl Rig {
    /// Starts what the columns need, and waits until every caller reaches every service.
    pub async fn start(columns: &BTreeSet<Column>, envoy: &Path) -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        let ledger = Arc::new(Ledger::default());
        let certificates = Certificates::make(&home.path().join("certificates"))?;
        let mut ranges = ranges();
        let (mut meshes, mut held) = (Vec::new(), Vec::new());
        for column in columns {
            let (range, socket) = ranges.next().context("no range of addresses is free")?;
            held.push(socket);
            meshes.push(match column {
                Column::Sidecar => Mesh::near(home.path(), range, None, &ledger).await?,
                Column::Envoy => Mesh::near(home.path(), range, Some(envoy), &ledger).await?,
                Column::Remote => Mesh::far(home.path(), range, &ledger).await?,
            });
        }
        let (issuer, numbers) = (Issuer::start().await?, Numbers::default());
        let rig = Self { meshes, ledger, certificates, issuer, numbers, _held: held, _home: home };
        for caller in rig.callers() {
            for service in &SERVICES {
                let what = format!("{} reaches {}", caller.column, service.name);
                until(&what, START, async || rig.reach(caller, service).await).await?;
            }
        }
        Ok(rig)
    }

    /// Runs one case in every column.
    pub async fn run(&self, number: usize, case: &Case) -> Vec<(Column, Verdict)> {
        let all = |verdict: &dyn Fn() -> Verdict| self.callers().map(|caller| (caller.column, verdict())).collect();
        for mesh in &self.meshes {
            let filled = match self.issuer.filled(&self.certificates.filled(&mesh.filled(&case.resources))) {
                Ok(filled) => filled,
                Err(error) => return all(&|| Verdict::Fails(vec![format!("{error:#}")])),
            };
            if let Err(error) = case.check_resources(&filled) {
                return all(&|| Verdict::Fails(vec![error.clone()]));
            }
            if case.refused.is_some() {
                // Who would have asked makes no difference.
                return self.callers().take(1).map(|caller| (caller.column, Verdict::Holds)).collect();
            }
            // Where the row is not meant, it must not stand in the way of those for which it is.
            let own = if mesh.callers.iter().any(|caller| case.runs_in(caller.column)) { &filled } else { "" };
            let text = format!("{own}\n{}", marker::resources(number));
            let sidecar = case.sidecar.as_deref().map(|spec| self.certificates.filled(spec));
            let written = mesh.set_sidecars(sidecar.as_deref()).and_then(|()| mesh.cluster.write("case.yaml", &text));
            let written = written.and_then(|()| mesh.write_there(&case.there));
            if let Err(error) = written {
                return all(&|| Verdict::Fails(vec![format!("{error:#}")]));
            }
        }
        join_all(self.callers().map(async |caller| (caller.column, self.ask(number, case, caller).await))).await
    }

    /// The meshes whose instances are near the callers.
    pub fn near(&self) -> impl Iterator<Item = &Mesh> {
        self.meshes.iter().filter(|mesh| mesh.callers.iter().all(|caller| caller.column != Column::Remote))
    }

    /// The mesh of Envoys, if it runs.
    pub fn of_envoy(&self) -> Option<&Mesh> {
        self.meshes.iter().find(|mesh| mesh.callers.iter().any(|caller| caller.column == Column::Envoy))
    }

    /// Ends everything.
    pub async fn stop(self) {
        join_all(self.meshes.into_iter().map(Mesh::stop)).await;
    }

    fn callers(&self) -> impl Iterator<Item = &Caller> {
        self.meshes.iter().flat_map(|mesh| &mesh.callers)
    }

    async fn ask(&self, number: usize, case: &Case, caller: &Caller) -> Verdict {
        if !case.runs_in(caller.column) {
            let meant = || "not meant for this column".to_owned();
            return Verdict::Differs(case.differs.get(&caller.column).cloned().unwrap_or_else(meant));
        }
        let before = rejections(&caller.envoys).await;
        let mut wrong = Vec::new();
        match settled(number, case, caller).await {
            Ok(()) => wrong.extend(self.steps(case, caller).await),
            Err(error) => wrong.push(format!("{error:#}")),
        }
        if rejections(&caller.envoys).await > before {
            let logs: Vec<String> = caller.envoys.iter().map(|look| tail(&look.log)).collect();
            wrong.push(format!("Envoy rejected something:\n{}", logs.join("\n")));
        }
        if wrong.is_empty() { Verdict::Holds } else { Verdict::Fails(wrong) }
    }

    async fn steps(&self, case: &Case, caller: &Caller) -> Vec<String> {
        let mut wrong = Vec::new();
        // Listeners of Envoy's open when all that they need has come, whatever else has come before.
        // The instances' cluster follows by itself too, and keys come when they have been fetched.
        let fetches = case.resources.contains("$jwks-uri");
        let mut opened = !case.asks_gateway() && case.sidecar.is_none() && case.there.is_empty() && !fetches;
        for (index, step) in case.requests.iter().enumerate() {
            let patience = if opened { Duration::ZERO } else { OPENING };
            opened = true;
            let step = step.of_caller(caller.column).filled(|text| caller.local.filled(text));
            let all = until("as expected", patience, async || self.request(caller, &step).await).await;
            wrong.extend(all.err().map(|error| format!("request {}: {error:#}", index + 1)));
        }
        let raw = join_all(case.raw.iter().map(|step| raw::talk(caller.mesh, step, &self.numbers, &self.ledger))).await;
        wrong.extend(raw.into_iter().flatten());
        for (index, step) in case.tcp.iter().enumerate() {
            let patience = if opened { Duration::ZERO } else { OPENING };
            opened = true;
            let all = until("as expected", patience, async || self.connection(caller, step).await).await;
            wrong.extend(all.err().map(|error| format!("connection {}: {error:#}", index + 1)));
        }
        wrong
    }

    async fn request(&self, caller: &Caller, step: &HttpCase) -> Result<(), String> {
        let step = &step.with_tokens(&self.issuer).map_err(|error| format!("{error:#}"))?;
        let outcomes = ask::requests(caller.place(&step.to), step, &self.numbers, &self.certificates).await;
        joined(&check::requests(&step.expect, &outcomes, &self.ledger).await)
    }

    async fn connection(&self, caller: &Caller, step: &StreamCase) -> Result<(), String> {
        let outcomes = ask::streams(caller.place(&step.to), step, &self.certificates).await;
        joined(&check::streams(&step.expect, &outcomes))
    }

    /// Whether the caller reaches some instance of the service.
    async fn reach(&self, caller: &Caller, service: &Service) -> Result<(), String> {
        let to = format!("{}:{}", service.name, service.port);
        match service.protocol {
            "TCP" | "TLS" => {
                let name = (service.protocol == "TLS").then(|| service.host());
                let step = serde_json::from_value(json!({"to": to, "server-name": name})).expect("a step");
                self.connection(caller, &step).await
            }
            protocol => {
                let step = json!({"to": to, "http2": protocol == "GRPC", "expect": {"status": 200}});
                self.request(caller, &serde_json::from_value(step).expect("a step")).await
            }
        }
    }
}

/// Waits until the caller's proxy, and the gateway if it is asked, follow the resources of case `number`.
async fn settled(number: usize, case: &Case, caller: &Caller) -> anyhow::Result<()> {
    marker::settled(caller.mesh, number).await?;
    if case.asks_gateway() { marker::gateway_settled(caller.gateway, number).await } else { Ok(()) }
}

fn joined(wrong: &[String]) -> Result<(), String> {
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// Ranges of addresses in which nobody listens where ours would; each is ours for as long as the socket beside it is held.
fn ranges() -> impl Iterator<Item = (Range, TcpListener)> {
    let held = |range: u8| {
        let at = |end: &str, port: u16| TcpListener::bind(format!("127.{range}.{end}:{port}"));
        let held = at("255.254", HELD).ok()?;
        // A process of a run that was killed may be there still.
        (at("0.1", 2379).is_ok() && at("1.1", 15012).is_ok() && at("1.101", 15090).is_ok())
            .then_some((Range(range), held))
    };
    (81..=250).filter_map(held)
}

/// How many updates the Envoys have rejected so far.
async fn rejections(envoys: &[EnvoyLook]) -> u64 {
    let mut all = 0;
    for look in envoys {
        let request = Request::get("/stats?filter=update_rejected").header("host", "admin");
        let request = request.body(Full::new(Bytes::new())).expect("a request");
        let text = Client::new(look.admin, false).send(request).await.map(|reply| reply.body).unwrap_or_default();
        all += text.lines().filter_map(|line| line.rsplit_once(": ")?.1.parse::<u64>().ok()).sum::<u64>();
    }
    all
}

/// The end of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}
