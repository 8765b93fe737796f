//! How a process comes by its identity: once by token, then renewed for as long as it runs.

use crate::settings::EnrolSettings;
use anyhow::{Context, bail};
use identity::{Bundles, CaClient, Expected, Identity, Renewal, RenewalSettings, enroll, renew};
use model::{Cluster, TrustBundle, WorkloadIdentity};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::fs;
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;

const LIFE: Duration = Duration::from_secs(24 * 3600);
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LAST_BACKOFF: Duration = Duration::from_secs(5);
/// The namespace of the mesh's own processes.
pub(super) const SYSTEM_NAMESPACE: &str = "isthmus-system";
/// The service account of control planes.
pub(super) const CONTROL_PLANE: &str = "controlplane";
/// What a control plane is asked for by.
pub(super) const CONTROL_PLANE_NAME: &str = "controlplane.isthmus-system.svc";

/// The identity that a cluster's control plane shows.
///
/// # Errors
/// Never for a valid cluster.
pub(super) fn control_plane_identity(cluster: &Cluster) -> anyhow::Result<WorkloadIdentity> {
    let namespace = SYSTEM_NAMESPACE.parse()?;
    Ok(WorkloadIdentity::new(cluster.trust_domain.clone(), namespace, CONTROL_PLANE)?)
}

/// The roots of the own trust domain, from the file that the settings name.
///
/// # Errors
/// If the file cannot be read.
pub(super) fn own_bundle(cluster: &Cluster, settings: &EnrolSettings) -> anyhow::Result<TrustBundle> {
    let pem = fs::read_to_string(&settings.roots)
        .with_context(|| format!("identity.roots: read {}", settings.roots.display()))?;
    Ok(TrustBundle { trust_domain: cluster.trust_domain.clone(), pem: pem.into() })
}

/// Where it is shown until when a certificate is good; once for each identity that a process has.
pub(super) fn expiry(registry: &mut Registry) -> Gauge {
    let expiry = Gauge::default();
    registry.register(
        "isthmus_certificate_expiry_timestamp_seconds",
        "When the certificate in use expires, in seconds since 1970; 0 before there is one",
        expiry.clone(),
    );
    expiry
}

/// Gets the first certificate, however long the control plane may be away, and keeps it renewed from then on.
///
/// # Errors
/// If the settings are not usable, or `shutdown` comes first.
pub(super) async fn identity(
    cluster: &Cluster,
    who: &WorkloadIdentity,
    settings: &EnrolSettings,
    expiry: Gauge,
    shutdown: &CancellationToken,
) -> anyhow::Result<Identity> {
    let bundles = Bundles::new([&own_bundle(cluster, settings)?]).context("identity.roots")?;
    let ca = CaClient {
        address: settings.control_plane.clone(),
        server_name: CONTROL_PLANE_NAME.to_owned(),
        expected: Expected::one(control_plane_identity(cluster)?),
        ttl: LIFE,
    };
    let certificate = tokio::select! {
        () = shutdown.cancelled() => bail!("stopped before the first certificate was had"),
        certificate = first(&ca, &bundles, who, settings) => certificate?,
    };
    tracing::info!(identity = %who, "certificate obtained");
    let identity = Identity::new(certificate, bundles);
    let mut state = renew(
        Renewal {
            identity: identity.clone(),
            ca,
            token_file: Some(settings.token.clone()),
            settings: RenewalSettings::default(),
        },
        shutdown.clone(),
    );
    tokio::spawn(async move {
        loop {
            let not_after = state.borrow_and_update().not_after;
            let seconds = not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            expiry.set(seconds.cast_signed());
            if state.changed().await.is_err() {
                return;
            }
        }
    });
    Ok(identity)
}

async fn first(
    ca: &CaClient,
    bundles: &Bundles,
    who: &WorkloadIdentity,
    settings: &EnrolSettings,
) -> anyhow::Result<identity::WorkloadCertificate> {
    let mut backoff = FIRST_BACKOFF;
    loop {
        // Read anew each time: a token that expired may have been replaced.
        let token = fs::read_to_string(&settings.token)
            .with_context(|| format!("identity.token: read {}", settings.token.display()))?;
        match enroll(ca, bundles, who, &token).await {
            Ok(certificate) => return Ok(certificate),
            Err(error) => tracing::warn!(%error, identity = %who, "no certificate yet"),
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(LAST_BACKOFF);
    }
}
