//! `isthmus demo`: two clusters on this machine, as separate processes, and a walk through them.

pub mod layout;
mod load;
pub mod plan;
mod process;
mod report;
pub mod resources;
mod tour;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use layout::Layout;
use plan::Plan;
use process::Supervisor;
use report::Report;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use tour::Tour;

/// How the demo runs.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Walk the tour as assertions and leave: exit code 0 if all hold.
    #[arg(long)]
    check: bool,
    /// Use this etcd, `etcd://HOST:PORT`, instead of the embedded store.
    #[arg(long)]
    store: Option<String>,
    /// Use the addresses 127.RANGE.0.0/16; by default the first range that is free.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=254))]
    range: Option<u8>,
    /// Put this Envoy in the place of one of our sidecars.
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// Which of our sidecars Envoy replaces.
    #[arg(long, value_enum, default_value_t = Side::Client)]
    envoy_as: Side,
    /// Let the sidecars speak the state-of-the-world variant of xDS instead of delta.
    #[arg(long)]
    state_of_the_world: bool,
    /// Keep the demo's folder (settings, keys, logs) when it ends.
    #[arg(long)]
    keep: bool,
}

/// A side of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// The sidecar of productpage, in west.
    Client,
    /// The sidecar of details, in east.
    Server,
}

/// Runs the demo; the exit code tells whether every check held.
///
/// # Errors
/// If it cannot be set up.
pub async fn run(
    options: Options,
    shutdown: impl FnOnce() -> anyhow::Result<CancellationToken>,
) -> anyhow::Result<ExitCode> {
    let shutdown = shutdown()?;
    let layout = match options.range {
        Some(range) => Layout::new(range),
        None => Layout::free().context("no range from 127.10 to 127.250 is free")?,
    };
    let home = Home::create(options.keep)?;
    let plan = Plan::prepare(&home.path, &layout, &options)?;
    let started = Instant::now();
    let mut processes = Supervisor::new(&home.path.join("logs"))?;
    for (name, args) in &plan.processes {
        processes.start(name, args.clone())?;
    }
    println!("{}", plan.describe(&layout, &home.path));

    let mut report = Report::new();
    let east_resources = plan.resources("east");
    let tour = Tour { layout: &layout, processes: &processes, started, east_resources, envoy: options.envoy_side() };
    let interrupted = tokio::select! {
        () = tour.walk(&mut report) => false,
        () = shutdown.cancelled() => true,
    };
    if !options.check && !interrupted {
        println!("\n{}\nStaying up until Ctrl-C.", plan.addresses(&layout));
        shutdown.cancelled().await;
    }
    processes.stop().await;
    let kept = home.remove()?;
    report.note("nothing is left behind", tour::left_nothing(&layout, options.store.is_none()));
    if let Some(kept) = kept {
        println!("kept {}", kept.display());
    }
    ensure!(!(options.check && interrupted), "interrupted");
    Ok(if report.close() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The demo's folder, removed at the end unless asked otherwise.
struct Home {
    path: PathBuf,
    keep: bool,
}

// === impl Options ===

impl Options {
    /// Which side an Envoy stands on, if any.
    fn envoy_side(&self) -> Option<Side> {
        self.envoy.as_ref().map(|_| self.envoy_as)
    }
}

// === impl Home ===

impl Home {
    fn create(keep: bool) -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("isthmus-demo-{}", std::process::id()));
        // It holds private keys.
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path).with_context(|| format!("create {}", path.display()))?;
        std::fs::create_dir(path.join("logs"))?;
        Ok(Self { path, keep })
    }

    /// Removes the folder, or returns its path if it is kept.
    fn remove(&self) -> anyhow::Result<Option<&Path>> {
        if self.keep {
            return Ok(Some(&self.path));
        }
        std::fs::remove_dir_all(&self.path).with_context(|| format!("remove {}", self.path.display()))?;
        Ok(None)
    }
}
