//! `isthmus controlplane`: registry, xDS and certificate authority of one cluster.

use super::registry::open;
use crate::admin::{self, Views};
use crate::settings::ControlPlaneProcess;
use crate::telemetry::{self, Readiness};
use ::registry::Controller;
use anyhow::Context;
use ca::{Authority, TokenKey};
use controlplane::{ControlPlane, Metrics, Parts, State};
use model::TrustBundle;
use std::fmt::Write;
use std::fs;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The longest life of a certificate, whatever is asked for.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// How often it is looked whether proxies are served.
const POLL: Duration = Duration::from_millis(20);

/// Runs until `shutdown`.
///
/// # Errors
/// If a file that the settings name is not usable, or a port cannot be bound.
pub async fn control_plane(settings: ControlPlaneProcess, shutdown: CancellationToken) -> anyhow::Result<()> {
    let cluster = settings.cluster.cluster()?;
    let authority = Authority::load(&settings.certificate_authority, LONGEST).context("certificateAuthority")?;
    let own_bundle = TrustBundle { trust_domain: cluster.trust_domain.clone(), pem: authority.root().into() };
    let tokens = fs::read_to_string(&settings.token_key)
        .with_context(|| format!("tokenKey: read {}", settings.token_key.display()))?;
    let tokens = TokenKey::from_pem(cluster.trust_domain.clone(), &tokens).context("tokenKey")?;

    let mut metrics = prometheus_client::registry::Registry::default();
    let opened =
        open(&cluster, own_bundle, &settings.registry, Some(controller(&settings)), &mut metrics, &shutdown).await?;
    let registry = opened.registry;
    let listener =
        TcpListener::bind(settings.listen).await.with_context(|| format!("listen: bind {}", settings.listen))?;
    let parts = Parts { cluster, registry: registry.clone(), authority: Arc::new(authority), tokens: Arc::new(tokens) };
    let counted = Metrics::register(&mut metrics);
    let plane = ControlPlane::start(listener, parts, &settings.limits, counted, &shutdown)?;

    let views = views(plane.state(), &registry, &settings)?;
    admin::serve(settings.admin, views, &shutdown).await?;
    let readiness = Readiness::default();
    telemetry::serve(&settings.telemetry, metrics, readiness.clone(), &shutdown).await?;
    let state = plane.state();
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = async { while !state.is_ready() { tokio::time::sleep(POLL).await } } => readiness.set(),
    }
    shutdown.cancelled().await;
    plane.stopped().await;
    registry.stopped().await;
    Ok(())
}

/// How workloads register themselves here, under a name that no other control plane has or had.
fn controller(settings: &ControlPlaneProcess) -> Controller {
    let registration = &settings.limits.registration;
    Controller {
        name: format!("controlplane-{:016x}", rand::random::<u64>()),
        grace: Duration::from_millis(registration.grace_ms),
        orphan: Duration::from_millis(registration.orphan_ms),
        most: registration.max_workloads,
    }
}

fn views(state: State, registry: &::registry::Registry, settings: &ControlPlaneProcess) -> anyhow::Result<Views> {
    let settings = serde_saphyr::to_string(settings)?;
    let status = registry.status.clone();
    let (catalog, intent, errors, proxies) = (state.clone(), state.clone(), state.clone(), state.clone());
    Ok(Views::default()
        .with("settings", move || settings.clone())
        .with("registry", move || format!("{:#?}\n", status.borrow()))
        .with("catalog", move || format!("{:#?}\n", catalog.catalog()))
        .with("intent", move || format!("{:#?}\n", intent.intent()))
        .with("errors", move || lines(errors.errors().iter()))
        .with("proxies", move || lines(proxies.proxies().iter()))
        .with("snapshot", move || snapshots(&state)))
}

/// What each proxy was told: type, name and version of every resource.
fn snapshots(state: &State) -> String {
    let mut text = String::new();
    for proxy in state.proxies() {
        let Some(snapshot) = state.snapshot(&proxy.node) else { continue };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", proxy.node);
        for (type_url, resource) in snapshot.iter() {
            let kind = type_url.rsplit('.').next().unwrap_or(type_url);
            let _ = writeln!(text, "  {kind} {} {}", resource.name, resource.version);
        }
    }
    text
}

fn lines<T: std::fmt::Display>(all: impl Iterator<Item = T>) -> String {
    all.map(|one| format!("{one}\n")).collect()
}
