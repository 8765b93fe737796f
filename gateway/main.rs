//! `isthmus`: one binary for every role. Only this file reads arguments, builds a runtime and installs the provider.

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use isthmus::bookshop::{self, Bookshop};
use isthmus::command::{analyze, init, inspect, redirect, token, validate};
use isthmus::{demo, role, settings, telemetry};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Isthmus: a multi-cluster service mesh. Istio's resources in, Envoy's xDS out, QUIC between clusters.
#[derive(Debug, Parser)]
#[command(name = "isthmus", version, about)]
struct Cli {
    /// Leave when standard input ends, for a parent that holds it open.
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start two clusters on this machine, send a request through them, and show what happens.
    Demo(demo::Options),
    /// Make a cluster's identity: roots, keys, and the block that its peers need.
    Init(init::Options),
    /// Run the embedded single-node store (etcd's v3 API).
    Store(Role),
    /// Run a cluster's control plane: registry, xDS and certificate authority.
    Controlplane(Role),
    /// Run an east-west gateway.
    Gateway(Role),
    /// Run a sidecar beside an application.
    Sidecar(Role),
    /// Run an unmodified Envoy as a sidecar: certificate, bootstrap and DNS.
    Agent(Role),
    /// Write tokens with which workloads get their first certificate.
    #[command(subcommand)]
    Token(token::Token),
    /// Bring a workload's traffic to its sidecar, or stop doing so.
    #[command(subcommand)]
    Redirect(redirect::Redirect),
    /// Check resources, each for itself: whether it would be taken.
    Validate(validate::Options),
    /// Look for what is wrong with resources, each for itself and all together.
    Analyze(analyze::Options),
    /// Print what a running process knows.
    Inspect(inspect::Options),
    /// Be one of the demo's applications.
    #[command(hide = true)]
    Bookshop(Bookshop),
}

/// A process that is started with a settings file.
#[derive(Debug, Args)]
struct Role {
    /// The settings, in YAML; deploy/ has a commented example for every role.
    #[arg(long, short)]
    config: PathBuf,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("nobody installed a provider before");
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("isthmus: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let tied = cli.exit_with_stdin;
    match cli.command {
        Command::Demo(options) => return runtime(2)?.block_on(demo::run(options, shutdown(tied))),
        Command::Validate(options) => return validate::run(&options),
        Command::Analyze(options) => return analyze::run(&options),
        Command::Init(options) => init::run(&options)?,
        Command::Token(token) => token::run(&token)?,
        Command::Redirect(command) => redirect::run(&command)?,
        Command::Inspect(options) => runtime(1)?.block_on(inspect::run(options))?,
        Command::Bookshop(about) => runtime(1)?.block_on(async { bookshop::run(about, shutdown(tied)()?).await })?,
        Command::Store(role) => {
            let settings: settings::StoreProcess = settings::read(&role.config)?;
            telemetry::install_logs(&settings.telemetry)?;
            runtime(2)?.block_on(async { role::store(settings, shutdown(tied)()?).await })?;
        }
        Command::Controlplane(role) => {
            let settings: settings::ControlPlaneProcess = settings::read(&role.config)?;
            telemetry::install_logs(&settings.telemetry)?;
            runtime(settings.workers)?.block_on(async { role::control_plane(settings, shutdown(tied)()?).await })?;
        }
        Command::Gateway(role) => {
            let settings: settings::GatewayProcess = settings::read(&role.config)?;
            telemetry::install_logs(&settings.telemetry)?;
            runtime(settings.workers)?.block_on(async { role::gateway(settings, shutdown(tied)()?).await })?;
        }
        Command::Sidecar(role) => {
            let settings: settings::SidecarProcess = settings::read(&role.config)?;
            telemetry::install_logs(&settings.telemetry)?;
            runtime(settings.workers)?.block_on(async { role::sidecar(settings, shutdown(tied)()?).await })?;
        }
        Command::Agent(role) => {
            let settings: settings::AgentProcess = settings::read(&role.config)?;
            telemetry::install_logs(&settings.telemetry)?;
            runtime(1)?.block_on(async { role::agent(settings, shutdown(tied)()?).await })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A runtime of `workers` threads; one means everything on this thread, which suits a process with one QUIC endpoint.
fn runtime(workers: usize) -> anyhow::Result<Runtime> {
    let mut builder = if workers <= 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.worker_threads(workers.max(1)).enable_all().build().context("start the runtime")
}

/// Makes, inside the runtime, the token that SIGTERM and SIGINT cancel, and the end of standard input if `tied`.
fn shutdown(tied: bool) -> impl FnOnce() -> anyhow::Result<CancellationToken> {
    move || {
        let token = CancellationToken::new();
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let cancel = token.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            cancel.cancel();
        });
        if tied {
            let cancel = token.clone();
            // A thread, since a blocked read of standard input cannot be cancelled; it ends with the process.
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
                cancel.cancel();
            });
        }
        Ok(token)
    }
}
