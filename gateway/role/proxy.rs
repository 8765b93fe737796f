//! What a sidecar, a router and an agent share: which workload, whose node, which control plane.

use super::enrol::{CONTROL_PLANE_NAME, control_plane_identity, own_bundle};
use crate::probe;
use crate::settings::{ClusterSettings, EnrolSettings, ProxyRole, WorkloadSettings};
use ::proxy::{Metrics, Owner, Parts};
use anyhow::{Context, bail};
use api::envoy::google::protobuf::{Struct, value::Kind};
use arc_swap::ArcSwap;
use dns::Zone;
use identity::{Expected, Identity, IdentityError, client_config, grpc, server_name};
use model::{Cluster, WorkloadIdentity};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use xds::{Health, Interception, Node, NodeKind};

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

/// The node that the proxy presents to the control plane under `name`. Its process has `own_ports` for itself.
///
/// # Errors
/// If the settings do not make one.
pub(super) fn node(
    cluster: &ClusterSettings,
    workload: &WorkloadSettings,
    name: &str,
    own_ports: Vec<u16>,
) -> anyhow::Result<Node> {
    let address = workload.addresses.first().context("workload.addresses: at least one address is expected")?;
    let namespace = workload.namespace()?;
    let kind = match workload.role {
        ProxyRole::Sidecar => NodeKind::Sidecar,
        ProxyRole::Router => NodeKind::Router,
    };
    let interception = match workload.interception.as_str() {
        _ if kind == NodeKind::Router => Interception::None,
        "REDIRECT" => Interception::Redirect,
        "NONE" => Interception::None,
        other => bail!("workload.interception: {other:?} is not accepted: REDIRECT or NONE is expected"),
    };
    Ok(Node {
        id: format!("{}~{address}~{name}.{namespace}~{namespace}.svc.cluster.local", kind.as_str()),
        kind,
        addresses: workload.addresses.clone(),
        name: name.to_owned(),
        namespace,
        cluster: cluster.name.clone(),
        network: workload.network.clone(),
        locality: workload.locality.parse().context("workload.locality")?,
        labels: workload.labels.clone(),
        service_account: workload.service_account.clone(),
        interception,
        own_ports,
        software: xds::Software::Isthmus,
        auto_register_group: String::new(),
        probes: false,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// What our own proxy is made of as this workload, which is `identity`.
///
/// # Errors
/// If the roots cannot be read, or a name in the settings is not valid.
pub(super) fn parts(
    cluster: &Cluster,
    workload: &WorkloadSettings,
    settings: &EnrolSettings,
    identity: Identity,
    metrics: Metrics,
    zone: Arc<ArcSwap<Zone>>,
) -> anyhow::Result<Parts> {
    let label = |name: &str| workload.labels.get(name).cloned().unwrap_or_default();
    Ok(Parts {
        own_bundle: own_bundle(cluster, settings)?,
        owner: Owner {
            workload: workload.name.clone(),
            namespace: workload.namespace.clone(),
            app: label("app"),
            version: label("version"),
            cluster: cluster.id.to_string(),
            principal: identity.id().to_string(),
        },
        namespace: workload.namespace()?,
        identity,
        metrics,
        zone,
    })
}

/// `node` as one that registers its workload, if the settings say so.
///
/// # Errors
/// If the probe is not one.
pub(super) fn registering(node: Node, workload: &WorkloadSettings) -> anyhow::Result<Node> {
    let probes = workload.probe()?.is_some();
    Ok(Node { auto_register_group: workload.auto_register_group.clone(), probes, ..node })
}

/// Runs the workload's probe, if there is one, until `shutdown`; what it finds.
///
/// # Errors
/// If the probe is not one.
pub(super) fn health(
    workload: &WorkloadSettings,
    shutdown: &CancellationToken,
) -> anyhow::Result<watch::Receiver<Health>> {
    let (told, health) = watch::channel(None);
    if let (Some(probe), Some(address)) = (workload.probe()?, workload.addresses.first()) {
        tokio::spawn(probe::run(probe, *address, told, shutdown.clone()));
    }
    Ok(health)
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

/// `node` in Envoy's JSON form, for a bootstrap.
pub(super) fn node_json(node: &Node) -> Value {
    let proto = node.to_proto();
    let metadata = proto.metadata.as_ref().map(object).unwrap_or_default();
    let place = proto.locality.unwrap_or_default();
    let locality = json!({"region": place.region, "zone": place.zone, "sub_zone": place.sub_zone});
    json!({"id": proto.id, "cluster": proto.cluster, "metadata": metadata, "locality": locality})
}

fn object(fields: &Struct) -> Value {
    let field =
        |(name, value): (&String, &api::envoy::google::protobuf::Value)| (name.clone(), json(value.kind.as_ref()));
    Value::Object(fields.fields.iter().map(field).collect())
}

fn json(kind: Option<&Kind>) -> Value {
    match kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => json!(value),
        Some(Kind::NumberValue(value)) => json!(value),
        Some(Kind::StringValue(value)) => json!(value),
        Some(Kind::StructValue(fields)) => object(fields),
        Some(Kind::ListValue(list)) => list.values.iter().map(|value| json(value.kind.as_ref())).collect(),
    }
}

/// A DNS server that runs.
pub(super) type Names = tokio::task::JoinHandle<()>;

/// Starts the DNS server, if there are settings for one.
///
/// # Errors
/// If its address cannot be bound.
pub(super) async fn names(
    settings: Option<&dns::Settings>,
    zone: &Arc<ArcSwap<Zone>>,
    metrics: &mut Registry,
    shutdown: &CancellationToken,
) -> anyhow::Result<Option<Names>> {
    let Some(settings) = settings else { return Ok(None) };
    let metrics = dns::Metrics::register(metrics);
    let server = dns::Server::bind(settings.clone(), zone.clone(), metrics).await.context("dns")?;
    let shutdown = shutdown.clone();
    Ok(Some(tokio::spawn(async move { server.run(shutdown).await })))
}
