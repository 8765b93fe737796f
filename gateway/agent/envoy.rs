//! Runs Envoy, and runs it again when it dies.

use super::{Admin, Start};
use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

const RESTART: Duration = Duration::from_millis(500);
/// How long Envoy may take to leave after SIGTERM, once its connections have had their time.
const GRACE: Duration = Duration::from_secs(5);

/// How Envoy is run.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// The binary.
    pub binary: &'a Path,
    /// The bootstrap.
    pub config: &'a Path,
    /// How it is started and ended.
    pub start: &'a Start,
    /// Where it is told to let connections end.
    pub admin: Admin,
}

/// Keeps `program` running until `shutdown`; then its connections have their time, and it is ended.
///
/// # Errors
/// If it cannot be started at all.
pub async fn keep_running(program: Program<'_>, shutdown: CancellationToken) -> anyhow::Result<()> {
    loop {
        let mut child = start(program)?;
        tokio::select! {
            () = shutdown.cancelled() => {
                program.admin.drain(program.start.last_drain).await;
                return end(child).await;
            }
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
    if program.start.workers > 0 {
        command.arg("--concurrency").arg(program.start.workers.to_string());
    }
    command
        .arg("--config-path")
        .arg(program.config)
        .args(["--disable-hot-restart", "--log-level", "warning", "--drain-strategy", "immediate"])
        .arg("--drain-time-s")
        .arg(program.start.drain.as_secs().max(1).to_string())
        .envs(&program.start.environment)
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
