//! The router within `isthmus gateway`: serves Gateways by our own proxy, under an identity of its own.
//!
//! It shares nothing with the east-west gateway but the process: what it fails in, that one does not notice.

use super::enrol;
use super::proxy;
use crate::settings::{GatewayProcess, IngressSettings, ProxyRole};
use crate::telemetry::Readiness;
use ::proxy::{Metrics, Sidecar};
use anyhow::Context;
use arc_swap::ArcSwap;
use dns::Zone;
use model::{Cluster, WorkloadIdentity};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use xds::{ClientSettings, Mode, Node};

/// A router that was not started yet.
pub(super) struct Ingress {
    settings: IngressSettings,
    cluster: Cluster,
    who: WorkloadIdentity,
    node: Node,
    counted: Metrics,
    expiry: Gauge,
    looks: Arc<OnceLock<Looks>>,
}

/// What can be looked at of a router that runs.
#[derive(Clone)]
pub(super) struct View(Arc<OnceLock<Looks>>);

struct Looks {
    table: Box<dyn Fn() -> String + Send + Sync>,
    decisions: Box<dyn Fn() -> String + Send + Sync>,
}

const NOT_YET: &str = "no certificate yet\n";

// === impl Ingress ===

impl Ingress {
    /// What `settings` say of a router, if they do; its metrics are in `metrics`.
    ///
    /// # Errors
    /// If they do not make one.
    pub(super) fn prepare(settings: &GatewayProcess, metrics: &mut Registry) -> anyhow::Result<Option<Self>> {
        let Some(ingress) = &settings.ingress else { return Ok(None) };
        let mut ingress = ingress.clone();
        ingress.workload.role = ProxyRole::Router;
        let cluster = settings.cluster.cluster()?;
        let own = [settings.admin.port(), settings.eastwest.listen.port()];
        let own_ports = settings.telemetry.ports().chain(own).collect();
        let node = proxy::node(&settings.cluster, &ingress.workload, &ingress.workload.name, own_ports);
        Ok(Some(Self {
            who: proxy::identity(&cluster, &ingress.workload).context("ingress")?,
            node: node.context("ingress")?,
            counted: Metrics::register(metrics),
            expiry: enrol::expiry(metrics.sub_registry_with_prefix("ingress")),
            looks: Arc::default(),
            settings: ingress,
            cluster,
        }))
    }

    /// What can be looked at once it runs.
    pub(super) fn view(&self) -> View {
        View(self.looks.clone())
    }

    /// Runs until `shutdown`; `readiness` is set once Gateways are served, or are not in time.
    pub(super) async fn run(self, readiness: Readiness, shutdown: CancellationToken) {
        let patience = Duration::from_secs(self.settings.ready_within_seconds);
        let wait = wait(readiness.clone(), patience);
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(wait));
        if let Err(error) = self.serve(readiness, shutdown.clone()).await
            && !shutdown.is_cancelled()
        {
            tracing::error!(error = format!("{error:#}"), "ingress: Gateways are not served");
        }
    }

    async fn serve(self, readiness: Readiness, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { settings, cluster, who, node, counted, expiry, looks } = self;
        let identity = enrol::identity(&cluster, &who, &settings.identity, expiry, &shutdown).await?;
        // Nobody asks it for names.
        let zone = Arc::new(ArcSwap::from_pointee(Zone::default()));
        let parts = proxy::parts(&cluster, &settings.workload, &settings.identity, identity.clone(), counted, zone)?;
        let (router, sink) = Sidecar::new(settings.proxy.clone(), parts);
        let table = router.tables();
        let seen =
            Looks { table: Box::new(move || format!("{:#?}\n", table())), decisions: Box::new(router.decisions()) };
        // Nobody else sets it.
        let _ = looks.set(seen);
        let connect = proxy::connector(&cluster, &settings.identity, &identity)?;
        let feeding = xds::run(connect, node, ClientSettings::from(Mode::Delta), sink, shutdown.clone());
        let feeding = tokio::spawn(feeding);
        let mut ready = router.ready();
        tokio::spawn(async move {
            if ready.wait_for(|ready| *ready).await.is_ok() {
                readiness.set();
            }
        });
        router.run(shutdown).await?;
        feeding.await.context("the xDS client")
    }
}

/// Sets `readiness` after `patience`, whatever has become of the router.
async fn wait(readiness: Readiness, patience: Duration) {
    tokio::time::sleep(patience).await;
    if !readiness.is_set() {
        tracing::warn!(?patience, "ingress: Gateways are not all served; the process is ready without");
        readiness.set();
    }
}

// === impl View ===

impl View {
    /// The routing table of the moment.
    pub(super) fn table(&self) -> String {
        self.0.get().map_or_else(|| NOT_YET.to_owned(), |looks| (looks.table)())
    }

    /// What would be decided at this moment.
    pub(super) fn decisions(&self) -> String {
        self.0.get().map_or_else(|| NOT_YET.to_owned(), |looks| (looks.decisions)())
    }
}
