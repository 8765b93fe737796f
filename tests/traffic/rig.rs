//! Everything that runs, and one case after the other in it.

use crate::ask::{self, Numbers};
use crate::call::Client;
use crate::case::{Case, Column};
use crate::check;
use crate::fixture::until;
use crate::http_case::HttpCase;
use crate::ledger::Ledger;
use crate::marker;
use crate::mesh::{Caller, EnvoyLook, Mesh, Range};
use crate::report::Verdict;
use crate::service::{SERVICES, Service};
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
    numbers: Numbers,
    _home: TempDir,
}

/// How long the start of everything may take.
const START: Duration = Duration::from_secs(60);
/// How many lines of Envoy's log are shown.
const TAIL: usize = 15;

// === impl Rig ===

impl Rig {
    /// Starts what the columns need, and waits until every caller reaches every service.
    pub async fn start(columns: &BTreeSet<Column>, envoy: &Path) -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        let ledger = Arc::new(Ledger::default());
        let (near, far) = ranges();
        let mut meshes = Vec::new();
        if columns.contains(&Column::Sidecar) || columns.contains(&Column::Envoy) {
            meshes.push(Mesh::near(home.path(), near, columns, envoy, &ledger).await?);
        }
        if columns.contains(&Column::Remote) {
            meshes.push(Mesh::far(home.path(), far, &ledger).await?);
        }
        let rig = Self { meshes, ledger, numbers: Numbers::default(), _home: home };
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
            let filled = mesh.filled(&case.resources);
            if let Err(error) = case.check_resources(&filled) {
                return all(&|| Verdict::Fails(vec![error.clone()]));
            }
            if case.refused.is_some() {
                // Who would have asked makes no difference.
                return self.callers().take(1).map(|caller| (caller.column, Verdict::Holds)).collect();
            }
            let text = format!("{filled}\n{}", marker::resources(number, mesh.marker));
            if let Err(error) = mesh.cluster.write("case.yaml", &text) {
                return all(&|| Verdict::Fails(vec![format!("{error:#}")]));
            }
        }
        join_all(self.callers().map(async |caller| (caller.column, self.ask(number, case, caller).await))).await
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
        let before = rejections(caller.envoy.as_ref()).await;
        let mut wrong = Vec::new();
        match marker::settled(caller.mesh, number).await {
            Ok(()) => wrong.extend(self.steps(case, caller).await),
            Err(error) => wrong.push(format!("{error:#}")),
        }
        if let Some(look) = &caller.envoy
            && rejections(Some(look)).await > before
        {
            wrong.push(format!("Envoy rejected something:\n{}", tail(&look.log)));
        }
        if wrong.is_empty() { Verdict::Holds } else { Verdict::Fails(wrong) }
    }

    async fn steps(&self, case: &Case, caller: &Caller) -> Vec<String> {
        let mut wrong = Vec::new();
        for (index, step) in case.requests.iter().enumerate() {
            let authority = step.authority.as_ref().map(|authority| caller.local.filled(authority));
            let step = &HttpCase { authority, ..step.clone() };
            let outcomes = ask::requests(caller.mesh, step, &self.numbers).await;
            let all = check::requests(&step.expect, &outcomes, &self.ledger).await;
            wrong.extend(all.into_iter().map(|each| format!("request {}: {each}", index + 1)));
        }
        for (index, step) in case.tcp.iter().enumerate() {
            let all = check::streams(&step.expect, &ask::streams(caller.mesh, step).await);
            wrong.extend(all.into_iter().map(|each| format!("connection {}: {each}", index + 1)));
        }
        wrong
    }

    /// Whether the caller reaches some instance of the service.
    async fn reach(&self, caller: &Caller, service: &Service) -> Result<(), String> {
        let to = format!("{}:{}", service.name, service.port);
        let wrong = match service.protocol {
            "TCP" | "TLS" => {
                let name = (service.protocol == "TLS").then(|| service.host());
                let step = serde_json::from_value(json!({"to": to, "server-name": name})).expect("a step");
                check::streams(&crate::stream_case::StreamExpect::default(), &ask::streams(caller.mesh, &step).await)
            }
            protocol => {
                let is_grpc = protocol == "GRPC";
                let step = json!({"to": to, "http2": is_grpc, "expect": {"status": 200}});
                let step: crate::http_case::HttpCase = serde_json::from_value(step).expect("a step");
                let outcomes = ask::requests(caller.mesh, &step, &self.numbers).await;
                check::requests(&step.expect, &outcomes, &self.ledger).await
            }
        };
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }
}

/// Two ranges of addresses in which nobody listens where ours would.
fn ranges() -> (Range, Range) {
    let is_free = |range: &u8| {
        let at = |end: &str, port: u16| TcpListener::bind(format!("127.{range}.{end}:{port}"));
        // The last is an Envoy's, which may outlive a run that was killed.
        at("0.1", 2379).is_ok() && at("1.1", 15012).is_ok() && at("1.101", 15090).is_ok()
    };
    let mut free = (81..=250).filter(is_free).map(Range);
    let mut next = || free.next().expect("some range is free");
    (next(), next())
}

/// How many updates Envoy has rejected so far.
async fn rejections(envoy: Option<&EnvoyLook>) -> u64 {
    let Some(look) = envoy else { return 0 };
    let request = Request::get("/stats?filter=update_rejected").header("host", "admin").body(Full::new(Bytes::new()));
    let reply = Client::new(look.admin, false).send(request.expect("a request")).await;
    let text = reply.map(|reply| reply.body).unwrap_or_default();
    text.lines().filter_map(|line| line.rsplit_once(": ")?.1.parse::<u64>().ok()).sum()
}

/// The end of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}
