//! `isthmus gateway`: the east-west gateway at the edge of a cluster, and beside it, under a name of its own, the router
//! that serves Gateways.

use super::enrol::{self, SYSTEM_NAMESPACE};
use super::ingress::Ingress;
use super::offered;
use super::proxy::connector;
use super::registry::open;
use crate::admin::{self, Views};
use crate::settings::GatewayProcess;
use crate::telemetry::{self, Readiness};
use ::registry::PeerSettings;
use anyhow::Context;
use eastwest::{Gateway, Parts};
use identity::{Bundles, Identity};
use model::{Catalog, ClusterId, TrustDomain, WorkloadIdentity};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Runs until `shutdown`.
///
/// # Errors
/// If a file that the settings name is not usable, or a port cannot be bound.
pub async fn gateway(settings: GatewayProcess, shutdown: CancellationToken) -> anyhow::Result<()> {
    let cluster = settings.cluster.cluster()?;
    let account = format!("gateway-{}", cluster.id);
    let who = WorkloadIdentity::new(cluster.trust_domain.clone(), SYSTEM_NAMESPACE.parse()?, &account)?;
    let mut metrics = prometheus_client::registry::Registry::default();
    let own_bundle = enrol::own_bundle(&cluster, &settings.identity)?;
    let opened = open(&cluster, own_bundle, &settings.registry, None, &mut metrics, &shutdown).await?;
    let readiness = Readiness::default();
    let counted = tunnel::Metrics::register(&mut metrics);
    let expiry = enrol::expiry(&mut metrics);
    let ingress = Ingress::prepare(&settings, &mut metrics)?;
    let identity = enrol::identity(&cluster, &who, &settings.identity, expiry, &shutdown).await?;
    telemetry::serve(&settings.telemetry, metrics, readiness.clone(), &shutdown).await?;

    let catalog = opened.registry.catalog.clone();
    trust(&identity, &catalog.borrow());
    tokio::spawn(shutdown.clone().run_until_cancelled_owned(follow(identity.clone(), catalog.clone())));
    let connect = connector(&cluster, &settings.identity, &identity)?;
    let peers = peers(&settings)?;
    let parts = Parts {
        cluster,
        name: settings.name.as_str().into(),
        identity,
        peers,
        catalog: offered::follow(catalog.clone(), opened.registry.documents.clone(), shutdown.clone()),
        store: opened.store,
        registry_key: opened.key,
        metrics: counted,
    };
    let gateway = Gateway::start(reachable(&settings).await?, parts, connect, shutdown.clone())
        .await
        .with_context(|| format!("bind {} or {}", settings.eastwest.listen, settings.eastwest.tunnel))?;
    tracing::info!(sidecars = %gateway.listen(), tunnels = %gateway.tunnel(), "gateway listening");
    let mut views = views(&gateway, &opened.registry, &settings)?;
    let mut router = None;
    match ingress {
        None => readiness.set(),
        Some(ingress) => {
            let (table, decisions) = (ingress.view(), ingress.view());
            views = views.with("table", move || table.table()).with("decisions", move || decisions.decisions());
            router = Some(tokio::spawn(ingress.run(readiness, shutdown.clone())));
        }
    }
    admin::serve(settings.admin, views, &shutdown).await?;
    shutdown.cancelled().await;
    gateway.finished().await;
    if let Some(router) = router {
        router.await.context("the router")?;
    }
    opened.registry.stopped().await;
    Ok(())
}

/// The gateway's settings, with addresses that others can connect to: a socket at all addresses is announced at the one
/// that leads to the control plane.
async fn reachable(settings: &GatewayProcess) -> anyhow::Result<eastwest::Settings> {
    let mut eastwest = settings.eastwest.clone();
    let untold = |address: SocketAddr, is_told: bool| address.ip().is_unspecified() && !is_told;
    if untold(eastwest.listen, !eastwest.announce.is_empty()) {
        let own = own_address(&settings.identity.control_plane).await?;
        eastwest.announce = vec![SocketAddr::new(own, eastwest.listen.port())];
    }
    if untold(eastwest.tunnel, !eastwest.advertise.is_empty()) {
        let own = own_address(&settings.identity.control_plane).await?;
        eastwest.advertise = vec![SocketAddr::new(own, eastwest.tunnel.port()).to_string()];
    }
    Ok(eastwest)
}

/// The own address from which `towards` is reached; nothing is sent to find it out.
async fn own_address(towards: &str) -> anyhow::Result<IpAddr> {
    let mut found =
        tokio::net::lookup_host(towards).await.with_context(|| format!("identity.controlPlane: {towards}"))?;
    let target = found.next().with_context(|| format!("identity.controlPlane: {towards:?} has no address"))?;
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(target).await?;
    Ok(socket.local_addr()?.ip())
}

/// The peers that the settings name, with their trust domains.
fn peers(settings: &GatewayProcess) -> anyhow::Result<BTreeMap<ClusterId, TrustDomain>> {
    let peer = |peer: &PeerSettings| Ok((peer.cluster.parse()?, peer.trust_domain.parse()?));
    settings.registry.peers.iter().map(peer).collect()
}

/// Keeps the peers' roots those of the catalog.
async fn follow(identity: Identity, mut catalog: watch::Receiver<Arc<Catalog>>) {
    let mut known = catalog.borrow().bundles.clone();
    while catalog.changed().await.is_ok() {
        let now = catalog.borrow_and_update().clone();
        if now.bundles != known {
            trust(&identity, &now);
            known.clone_from(&now.bundles);
        }
    }
}

fn trust(identity: &Identity, catalog: &Catalog) {
    match Bundles::new(catalog.bundles.values()) {
        Ok(bundles) => identity.set_bundles(bundles),
        Err(error) => tracing::error!(%error, "the peers' roots are not usable; those of before stay"),
    }
}

fn views(gateway: &Gateway, registry: &::registry::Registry, settings: &GatewayProcess) -> anyhow::Result<Views> {
    let settings = serde_saphyr::to_string(settings)?;
    let (catalog, status, peers) = (registry.catalog.clone(), registry.status.clone(), gateway.peers().clone());
    let tunnels = move || {
        let paths = peers.clusters().map(|cluster| format!("{cluster}: {:#?}\n", peers.path(cluster)));
        paths.collect()
    };
    Ok(Views::default()
        .with("settings", move || settings.clone())
        .with("registry", move || format!("{:#?}\n", status.borrow()))
        .with("catalog", move || format!("{:#?}\n", catalog.borrow()))
        .with("tunnels", tunnels))
}

#[cfg(test)]
mod tests {
    use super::own_address;

    #[tokio::test]
    async fn the_own_address_is_the_one_that_leads_there() {
        assert!(own_address("127.0.0.1:15012").await.expect("a route").is_loopback());
        assert!(own_address("no port").await.is_err());
    }
}
