//! `isthmus store`: the embedded server of etcd's API.

use crate::settings::StoreProcess;
use crate::telemetry::{self, Readiness};
use anyhow::Context;
use prometheus_client::registry::Registry;
use store::embedded;
use tokio_util::sync::CancellationToken;

/// Runs until `shutdown`.
///
/// # Errors
/// If a port or the data cannot be opened.
pub async fn store(settings: StoreProcess, shutdown: CancellationToken) -> anyhow::Result<()> {
    let readiness = Readiness::default();
    telemetry::serve(&settings.telemetry, Registry::default(), readiness.clone(), &shutdown).await?;
    let server = embedded::Server::bind(settings.server, shutdown).await.context("store")?;
    tracing::info!(address = %server.address()?, "store listening");
    readiness.set();
    server.run().await.context("store")
}
