//! The control plane's own certificate: from its own authority, renewed for as long as it runs.

use crate::ControlPlaneError;
use ca::Authority;
use identity::{Bundles, Identity, WorkloadCertificate};
use model::{Cluster, TrustBundle, WorkloadIdentity};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The namespace of the mesh's own processes.
pub const SYSTEM_NAMESPACE: &str = "isthmus-system";
/// The control plane's service account there.
pub const ACCOUNT: &str = "controlplane";

/// After a renewal failed.
const RETRY: Duration = Duration::from_secs(30);

/// The identity that the control plane of `cluster` shows, trusting its own trust domain only: a peer's proxies have
/// nothing to ask here.
pub(crate) fn identity(
    cluster: &Cluster,
    authority: &Authority,
    life: Duration,
) -> Result<Identity, ControlPlaneError> {
    let bundle = TrustBundle { trust_domain: cluster.trust_domain.clone(), pem: authority.root().into() };
    Ok(Identity::new(issue(cluster, authority, life)?, Bundles::new([&bundle])?))
}

/// Renews `identity`'s certificate at half of its life, until `shutdown`.
pub(crate) async fn renew(
    cluster: Cluster,
    authority: Arc<Authority>,
    life: Duration,
    identity: Identity,
    shutdown: CancellationToken,
) {
    let mut wait = life / 2;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = match issue(&cluster, &authority, life) {
            Ok(certificate) => {
                identity.set_certificate(certificate);
                life / 2
            }
            Err(error) => {
                tracing::error!(%error, "the control plane's certificate was not renewed");
                RETRY
            }
        };
    }
}

fn issue(cluster: &Cluster, authority: &Authority, life: Duration) -> Result<WorkloadCertificate, ControlPlaneError> {
    let namespace = SYSTEM_NAMESPACE.parse()?;
    let who = WorkloadIdentity::new(cluster.trust_domain.clone(), namespace, ACCOUNT)?;
    let (chain, key) = authority.issue_own(&who, life)?;
    Ok(WorkloadCertificate::from_pem(&chain, &key)?)
}
