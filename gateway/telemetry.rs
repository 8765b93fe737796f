//! What a process tells the outside about itself: logs, metrics and readiness.

use crate::http_server::{self, Answer, text, typed};
use anyhow::Context;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// How a process logs, and where it shows metrics and readiness.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TelemetrySettings {
    /// Where `/metrics` is served; Istio's ports are 15090 for proxies and 15014 for the control plane.
    pub metrics: SocketAddr,
    /// Where `/healthz/ready` is served, beside `metrics`; Istio's port is 15021.
    #[serde(default)]
    pub readiness: Option<SocketAddr>,
    /// `text` or `json`.
    #[serde(default)]
    pub log_format: LogFormat,
    /// A filter in `tracing`'s syntax, e.g. `info,proxy=debug`. Access logs have the target `access`.
    #[serde(default = "default_filter")]
    pub log_filter: String,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Whether the process can do its work; shared between who knows and who is asked.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

fn default_filter() -> String {
    "info".to_owned()
}

// === impl TelemetrySettings ===

impl TelemetrySettings {
    /// The ports that it takes.
    pub fn ports(&self) -> impl Iterator<Item = u16> + use<> {
        [Some(self.metrics), self.readiness].into_iter().flatten().map(|address| address.port())
    }
}

// === impl Readiness ===

impl Readiness {
    /// From now on the process is ready. It stays so: losing a dependency later does not make it useless.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether [`Readiness::set`] was called.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Sends log lines to standard error in the wanted form. Call once per process.
///
/// # Errors
/// If the filter cannot be parsed, or a subscriber is already installed.
pub fn install_logs(settings: &TelemetrySettings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.log_filter)
        .with_context(|| format!("logFilter: {:?} is not a tracing filter such as \"info\"", settings.log_filter))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|error| anyhow::anyhow!("logs: {error}"))
}

/// Serves `/metrics` and `/healthz/ready` until `shutdown`; returns once the ports are bound.
///
/// # Errors
/// If a port cannot be bound.
pub async fn serve(
    settings: &TelemetrySettings,
    registry: Registry,
    readiness: Readiness,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let registry = Arc::new(registry);
    let addresses = std::iter::once(settings.metrics).chain(settings.readiness);
    for address in addresses {
        let listener = TcpListener::bind(address).await.with_context(|| format!("metrics: bind {address}"))?;
        let (registry, readiness) = (registry.clone(), readiness.clone());
        let handler = move |request: &http::Request<hyper::body::Incoming>| match request.uri().path() {
            "/metrics" | "/stats/prometheus" => metrics(&registry),
            "/healthz/ready" | "/ready" => ready(&readiness),
            _ => text(404, "not found: /metrics, /healthz/ready\n"),
        };
        tokio::spawn(http_server::serve(listener, handler, shutdown.clone()));
    }
    Ok(())
}

fn metrics(registry: &Registry) -> Answer {
    let mut body = String::new();
    match prometheus_client::encoding::text::encode(&mut body, registry) {
        Ok(()) => typed(200, "application/openmetrics-text; version=1.0.0; charset=utf-8", body),
        Err(error) => text(500, format!("{error}\n")),
    }
}

fn ready(readiness: &Readiness) -> Answer {
    if readiness.is_set() { text(200, "ready\n") } else { text(503, "not ready\n") }
}
