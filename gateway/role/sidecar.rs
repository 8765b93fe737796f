//! `isthmus sidecar`: our own proxy beside an application, or alone as a router.

use super::enrol;
use super::proxy;
use crate::admin::{self, Views};
use crate::settings::SidecarProcess;
use crate::telemetry::{self, Readiness};
use ::proxy::{Metrics, Sidecar};
use anyhow::Context;
use arc_swap::ArcSwap;
use dns::Zone;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use xds::{ClientSettings, Mode};

/// Runs until `shutdown`.
///
/// # Errors
/// If a file that the settings name is not usable, or a port cannot be bound.
pub async fn sidecar(settings: SidecarProcess, shutdown: CancellationToken) -> anyhow::Result<()> {
    let cluster = settings.cluster.cluster()?;
    let who = proxy::identity(&cluster, &settings.workload)?;
    let own_ports = settings.telemetry.ports().chain([settings.admin.port()]).collect();
    let node = proxy::node(&settings.cluster, &settings.workload, &settings.workload.name, own_ports)?;
    let node = proxy::registering(node, &settings.workload)?;
    let mut metrics = prometheus_client::registry::Registry::default();
    let zone = Arc::new(ArcSwap::from_pointee(Zone::default()));
    let names = proxy::names(settings.dns.as_ref(), &zone, &mut metrics, &shutdown).await?;
    let counted = Metrics::register(&mut metrics);
    let expiry = enrol::expiry(&mut metrics);
    let identity = enrol::identity(&cluster, &who, &settings.identity, expiry, &shutdown).await?;
    let readiness = Readiness::default();
    telemetry::serve(&settings.telemetry, metrics, readiness.clone(), &shutdown).await?;

    let parts = proxy::parts(&cluster, &settings.workload, &settings.identity, identity.clone(), counted, zone)?;
    let (sidecar, sink) = Sidecar::new(settings.proxy.clone(), parts);
    admin::serve(settings.admin, views(&sidecar, &settings)?, &shutdown).await?;
    let connect = proxy::connector(&cluster, &settings.identity, &identity)?;
    let mode = if settings.state_of_the_world { Mode::StateOfTheWorld } else { Mode::Delta };
    let health = proxy::health(&settings.workload, &shutdown)?;
    let client = ClientSettings::from(mode);
    let feeding = tokio::spawn(xds::run_with_health(connect, node, client, sink, health, shutdown.clone()));
    let mut ready = sidecar.ready();
    tokio::spawn(async move {
        if ready.wait_for(|ready| *ready).await.is_ok() {
            readiness.set();
        }
    });
    sidecar.run(shutdown).await?;
    feeding.await.context("the xDS client")?;
    if let Some(names) = names {
        names.await.context("the DNS server")?;
    }
    Ok(())
}

fn views(sidecar: &Sidecar, settings: &SidecarProcess) -> anyhow::Result<Views> {
    let settings = serde_saphyr::to_string(settings)?;
    let (table, decisions) = (sidecar.tables(), sidecar.decisions());
    Ok(Views::default()
        .with("settings", move || settings.clone())
        .with("table", move || format!("{:#?}\n", table()))
        .with("decisions", decisions))
}
