//! What a sidecar and an agent share: which workload, whose node, which control plane.

use super::enrol::{CONTROL_PLANE_NAME, control_plane_identity};
use crate::settings::{ClusterSettings, EnrolSettings, WorkloadSettings};
use anyhow::{Context, bail};
use identity::{Expected, Identity, IdentityError, client_config, grpc, server_name};
use model::{Cluster, WorkloadIdentity};
use std::future::Future;
use std::pin::Pin;
use tonic::transport::Channel;
use xds::{Interception, Node, NodeKind};

/// A channel in the making.
pub(super) type Connecting = Pin<Box<dyn Future<Output = Result<Channel, IdentityError>> + Send>>;

/// The identity that the workload asks for.
///
/// # Errors
/// If a name in the settings is not valid.
pub(super) fn identity(cluster: &Cluster, workload: &WorkloadSettings) -> anyhow::Result<WorkloadIdentity> {
    let namespace = workload.namespace()?;
    Ok(WorkloadIdentity::new(cluster.trust_domain.clone(), namespace, &workload.service_account)?)
}

/// The node that the proxy presents to the control plane.
///
/// # Errors
/// If the settings do not make one.
pub(super) fn node(cluster: &ClusterSettings, workload: &WorkloadSettings) -> anyhow::Result<Node> {
    let address = workload.addresses.first().context("workload.addresses: at least one address is expected")?;
    let namespace = workload.namespace()?;
    let interception = match workload.interception.as_str() {
        "REDIRECT" => Interception::Redirect,
        "NONE" => Interception::None,
        other => bail!("workload.interception: {other:?} is not accepted: REDIRECT or NONE is expected"),
    };
    Ok(Node {
        id: format!("sidecar~{address}~{}.{namespace}~{namespace}.svc.cluster.local", workload.name),
        kind: NodeKind::Sidecar,
        addresses: workload.addresses.clone(),
        name: workload.name.clone(),
        namespace,
        cluster: cluster.name.clone(),
        network: String::new(),
        labels: workload.labels.clone(),
        service_account: workload.service_account.clone(),
        interception,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// Opens channels to the control plane with the certificate of the moment.
///
/// # Errors
/// If the cluster's names are not valid.
pub(super) fn connector(
    cluster: &Cluster,
    settings: &EnrolSettings,
    identity: &Identity,
) -> anyhow::Result<impl FnMut() -> Connecting + Send + use<>> {
    let address = settings.control_plane.clone();
    let tls = client_config(identity, Expected::one(control_plane_identity(cluster)?), &[b"h2"]);
    let name = server_name(CONTROL_PLANE_NAME)?;
    Ok(move || -> Connecting {
        let (address, tls, name) = (address.clone(), tls.clone(), name.clone());
        Box::pin(async move { grpc::connect(&address, tls, name).await })
    })
}
