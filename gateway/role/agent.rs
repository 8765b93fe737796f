//! `isthmus agent`: an unmodified Envoy as a sidecar or a router of ours.

use super::enrol::{self, control_plane_identity};
use super::proxy;
use crate::agent::{Admin, Bootstrap, Program, Start, keep_running, serve_secrets, told};
use crate::settings::AgentProcess;
use crate::telemetry::{self, Readiness};
use anyhow::Context;
use api::istio::mesh::ProxyConfig;
use arc_swap::ArcSwap;
use dns::{Entry, Zone};
use model::Namespace;
use prost::Message;
use routing::Resources;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use xds::{ClientSettings, Mode, Node, Rejection, Resource, Sink, Software, type_url};

/// Runs Envoy until `shutdown`.
///
/// # Errors
/// If a file that the settings name is not usable, a port cannot be bound, or Envoy cannot be run.
pub async fn agent(settings: AgentProcess, shutdown: CancellationToken) -> anyhow::Result<()> {
    let cluster = settings.cluster.cluster()?;
    let who = proxy::identity(&cluster, &settings.workload)?;
    let own = [settings.envoy_admin.port(), settings.envoy_metrics.port()];
    let own_ports: Vec<u16> = settings.telemetry.ports().chain(own).collect();
    let name = &settings.workload.name;
    let node = Node {
        software: Software::Envoy,
        ..proxy::node(&settings.cluster, &settings.workload, name, own_ports.clone())?
    };
    let mut metrics = prometheus_client::registry::Registry::default();
    let zone = Arc::new(ArcSwap::from_pointee(Zone::default()));
    let names = proxy::names(settings.dns.as_ref(), &zone, &mut metrics, &shutdown).await?;
    let expiry = enrol::expiry(&mut metrics);
    let identity = enrol::identity(&cluster, &who, &settings.identity, expiry, &shutdown).await?;
    let readiness = Readiness::default();
    telemetry::serve(&settings.telemetry, metrics, readiness.clone(), &shutdown).await?;

    // Envoy's socket for the key lies here.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&settings.directory)
        .with_context(|| format!("directory: create {}", settings.directory.display()))?;
    let socket = settings.directory.join("sds.sock");
    let control_plane = tokio::net::lookup_host(&settings.identity.control_plane).await;
    let control_plane = control_plane.ok().and_then(|mut all| all.next());
    let bundle = enrol::own_bundle(&cluster, &settings.identity)?;
    let bootstrap = Bootstrap {
        node: proxy::node_json(&node),
        control_plane: control_plane
            .with_context(|| format!("identity.controlPlane: {:?} has no address", settings.identity.control_plane))?,
        control_plane_identity: control_plane_identity(&cluster)?.to_string(),
        roots: &bundle.pem,
        sds: &socket,
        admin: settings.envoy_admin,
        metrics: settings.envoy_metrics,
        delta: !settings.state_of_the_world,
    };
    let file = settings.directory.join("envoy.json");
    fs::write(&file, serde_json::to_vec_pretty(&bootstrap.to_json())?)
        .with_context(|| format!("write {}", file.display()))?;

    let secrets = tokio::spawn({
        let (identity, shutdown, socket) = (identity.clone(), shutdown.clone(), socket.clone());
        async move { serve_secrets(&socket, identity, shutdown).await }
    });
    let connect = proxy::connector(&cluster, &settings.identity, &identity)?;
    let (tells, start) = watch::channel(None);
    let sink = Told { resources: Resources::default(), namespace: settings.workload.namespace()?, zone, start: tells };
    // The agent is no second proxy: it asks as itself, for the names and for how Envoy is started.
    let asking = proxy::node(&settings.cluster, &settings.workload, &format!("{name}-agent"), own_ports)?;
    // Its workload is registered for as long as the agent asks: Envoy has no health to tell.
    let asking = proxy::registering(asking, &settings.workload)?;
    let health = proxy::health(&settings.workload, &shutdown)?;
    let client = ClientSettings::from(Mode::Delta);
    let feeding = tokio::spawn(xds::run_with_health(connect, asking, client, sink, health, shutdown.clone()));
    readiness.set();
    let said = told(start, Duration::from_secs(settings.start_within_seconds)).await;
    let start = Start::new(said.as_ref(), settings.workers, &settings.environment);
    let admin = Admin { address: settings.envoy_admin, metrics: settings.envoy_metrics };
    keep_running(Program { binary: &settings.envoy, config: &file, start: &start, admin }, shutdown).await?;
    secrets.await.context("the secrets' server")??;
    feeding.await.context("the xDS client")?;
    if let Some(names) = names {
        names.await.context("the DNS server")?;
    }
    Ok(())
}

/// Takes the name table, and how Envoy is started; everything else is Envoy's.
struct Told {
    resources: Resources,
    namespace: Namespace,
    zone: Arc<ArcSwap<Zone>>,
    start: watch::Sender<Option<ProxyConfig>>,
}

impl Sink for Told {
    fn apply(&mut self, type_url: &str, changed: Vec<Resource>, removed: Vec<Arc<str>>) -> Result<(), Rejection> {
        if let (type_url::PROXY_CONFIG, [config]) = (type_url, &changed[..]) {
            let config = ProxyConfig::decode(&config.body[..]);
            let config = config.map_err(|error| Rejection { message: format!("{type_url}: {error}") })?;
            self.start.send_replace(Some(config));
        }
        if type_url != type_url::NAME_TABLE {
            return Ok(());
        }
        let apply = self.resources.apply(type_url, &changed, &removed);
        apply.map_err(|error| Rejection { message: error.to_string() })?;
        let names = self.resources.table().names;
        let entries = names.iter().map(|name| {
            let (shortname, namespace) = name.service.clone().unzip();
            Entry { host: name.host.clone(), addresses: name.addresses.clone(), shortname, namespace }
        });
        self.zone.store(Arc::new(Zone::new(entries, &self.namespace, "cluster.local")));
        Ok(())
    }

    fn wanted(&self, _: &str) -> BTreeSet<Arc<str>> {
        BTreeSet::new()
    }
}
