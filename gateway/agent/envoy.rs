//! Runs Envoy, and runs it again when it dies.

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

const RESTART: Duration = Duration::from_millis(500);
/// How long Envoy may take to leave after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// How Envoy is run.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// The binary.
    pub binary: &'a Path,
    /// The bootstrap.
    pub config: &'a Path,
    /// Worker threads; one for each core if 0.
    pub workers: usize,
    /// Variables of its environment, beside the agent's own.
    pub environment: &'a BTreeMap<String, String>,
}

/// Keeps `program` running until `shutdown`, and then ends it.
///
/// # Errors
/// If it cannot be started at all.
pub async fn keep_running(program: Program<'_>, shutdown: CancellationToken) -> anyhow::Result<()> {
    loop {
        let mut child = start(program)?;
        tokio::select! {
            () = shutdown.cancelled() => return end(child).await,
            status = child.wait() => tracing::warn!(status = ?status, "Envoy ended; starting it again"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(RESTART) => {}
        }
    }
}

fn start(program: Program<'_>) -> anyhow::Result<Child> {
    let mut command = Command::new(program.binary);
    if program.workers > 0 {
        command.arg("--concurrency").arg(program.workers.to_string());
    }
    command
        .arg("--config-path")
        .arg(program.config)
        .args(["--disable-hot-restart", "--log-level", "warning"])
        .envs(program.environment)
        // Should we be killed, nobody would end it: the runtime does, when this handle is dropped.
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("envoy: run {}", program.binary.display()))
}

async fn end(mut child: Child) -> anyhow::Result<()> {
    if let Some(pid) = child.id() {
        // It may have gone by itself in this moment.
        let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM);
    }
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        child.kill().await.context("kill Envoy")?;
    }
    Ok(())
}
