//! The registry of a control plane or a gateway, from its settings.

use crate::settings::{RegistrySettings, StoreSettings};
use anyhow::Context;
use config::Intent;
use identity::RegistryKey;
use model::{Cluster, TrustBundle};
use registry::{Controller, Limits, Metrics, Registry, Settings};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::{ClientSettings, Store, StoreTls};
use tokio_util::sync::CancellationToken;

/// A running registry, and what was opened for it.
pub(super) struct Opened {
    pub(super) registry: Registry,
    pub(super) store: Option<Store>,
    pub(super) key: Arc<RegistryKey>,
}

/// Starts the registry; waits for neither the store nor the peers.
///
/// # Errors
/// If a file that the settings name cannot be read, or a peer's block is wrong.
pub(super) async fn open(
    cluster: &Cluster,
    own_bundle: TrustBundle,
    settings: &RegistrySettings,
    controller: Option<Controller>,
    metrics: &mut prometheus_client::registry::Registry,
    shutdown: &CancellationToken,
) -> anyhow::Result<Opened> {
    let key = fs::read_to_string(&settings.registry_key)
        .with_context(|| format!("registry.registryKey: read {}", settings.registry_key.display()))?;
    let key = Arc::new(RegistryKey::from_pem(&key).context("registry.registryKey")?);
    let store = match &settings.store {
        Some(store) => Some(connect(store).await?),
        None => None,
    };
    let settings = Settings {
        cluster: cluster.clone(),
        registry_key: key.clone(),
        directory: settings.resources.clone(),
        peers: settings.peers.clone(),
        own_bundle,
        suspect_after: Duration::from_secs(settings.suspect_after_seconds),
        forget_after: Duration::from_secs(settings.forget_after_seconds),
        limits: Limits::default(),
        check: Arc::new(Intent::check),
        controller,
    };
    let registry = Registry::start(settings, store.clone(), Metrics::register(metrics), shutdown)?;
    Ok(Opened { registry, store, key })
}

async fn connect(settings: &StoreSettings) -> anyhow::Result<Store> {
    let read =
        |path: &Path| fs::read_to_string(path).with_context(|| format!("registry.store.tls: read {}", path.display()));
    let tls = match &settings.tls {
        Some(tls) => Some(StoreTls {
            roots: read(&tls.ca)?,
            certificate: read(&tls.certificate)?,
            key: read(&tls.key)?,
            server_name: None,
        }),
        None => None,
    };
    let settings = ClientSettings { endpoints: settings.endpoints.clone(), ..ClientSettings::default() };
    Store::connect(settings, tls).await.context("registry.store")
}
