//! What each process is started with: one YAML file a process, every field documented in deploy/.
//!
//! Paths in a settings file are relative to the working directory. An unknown field, a wrong type or a missing field is an error
//! that names it.

use crate::telemetry::TelemetrySettings;
use anyhow::Context;
use model::{Cluster, ClusterId, ClusterUid, Namespace, TrustDomain};
use registry::PeerSettings;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// The settings of `isthmus store`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreProcess {
    /// Logs, metrics, readiness.
    pub telemetry: TelemetrySettings,
    /// The server: address, data, limits.
    pub server: store::embedded::Settings,
}

/// Who the cluster is.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterSettings {
    /// Its name within the mesh.
    pub name: String,
    /// Its unique id, made by `isthmus init`.
    pub uid: String,
    /// The trust domain of its workloads.
    pub trust_domain: String,
}

/// The replicated store.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreSettings {
    /// `http://HOST:PORT` or `https://HOST:PORT` of each member.
    pub endpoints: Vec<String>,
    /// Needed for `https`: the store's roots and our client certificate.
    #[serde(default)]
    pub tls: Option<StoreTls>,
}

/// mTLS towards the store.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoreTls {
    /// PEM roots.
    pub ca: PathBuf,
    /// Our PEM certificate.
    pub certificate: PathBuf,
    /// Our PEM key.
    pub key: PathBuf,
}

/// What a control plane and a gateway share: which cluster, what it declares, whom it trusts.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistrySettings {
    /// The directory of Istio resources, watched.
    pub resources: PathBuf,
    /// The private key that signs this cluster's records.
    pub registry_key: PathBuf,
    /// The replicated store; without one the cluster stands alone.
    #[serde(default)]
    pub store: Option<StoreSettings>,
    /// The other clusters.
    #[serde(default)]
    pub peers: Vec<PeerSettings>,
    /// How long no gateway of a peer may be alive in the store before the peer is suspect, in seconds.
    #[serde(default = "suspect_after")]
    pub suspect_after_seconds: u64,
    /// How long a peer is remembered after both its signals were lost, in seconds.
    #[serde(default = "forget_after")]
    pub forget_after_seconds: u64,
}

/// The settings of `isthmus controlplane`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ControlPlaneProcess {
    /// Logs, metrics, readiness.
    pub telemetry: TelemetrySettings,
    /// Where `isthmus inspect` asks; a loopback address.
    pub admin: SocketAddr,
    /// Runtime threads.
    #[serde(default = "one")]
    pub workers: usize,
    /// Which cluster this is.
    pub cluster: ClusterSettings,
    /// Where proxies and gateways connect: xDS, certificates and reports. Istio's port is 15012.
    pub listen: SocketAddr,
    /// The directory with Istio's `cacerts` files.
    pub certificate_authority: PathBuf,
    /// The private key that signs workload tokens.
    pub token_key: PathBuf,
    /// What exists.
    pub registry: RegistrySettings,
    /// Limits and times.
    #[serde(default)]
    pub limits: controlplane::Settings,
}

/// How a process gets and renews its certificate.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnrolSettings {
    /// The control plane's `HOST:PORT`.
    pub control_plane: String,
    /// The PEM roots of the own trust domain.
    pub roots: PathBuf,
    /// The token that the first certificate is asked for with.
    pub token: PathBuf,
}

/// The settings of `isthmus gateway`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayProcess {
    /// Logs, metrics, readiness.
    pub telemetry: TelemetrySettings,
    /// Where `isthmus inspect` asks; a loopback address.
    pub admin: SocketAddr,
    /// Runtime threads; one suits one QUIC endpoint best.
    #[serde(default = "one")]
    pub workers: usize,
    /// Which cluster this is.
    pub cluster: ClusterSettings,
    /// Its own name among the cluster's gateways.
    pub name: String,
    /// How it gets its certificate.
    pub identity: EnrolSettings,
    /// What exists.
    pub registry: RegistrySettings,
    /// Addresses, limits and times.
    #[serde(default)]
    pub eastwest: eastwest::Settings,
    /// Serves Istio's Gateways as well; none if absent.
    #[serde(default)]
    pub ingress: Option<IngressSettings>,
}

/// Which workload a sidecar or an agent stands beside.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadSettings {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Where it runs: `REGION/ZONE/SUBZONE`, or the beginning of it; not known if empty.
    #[serde(default)]
    pub locality: String,
    /// The network of its addresses; not known if empty.
    #[serde(default)]
    pub network: String,
    /// The WorkloadGroup of its namespace that it registers itself with; none if empty.
    #[serde(default)]
    pub auto_register_group: String,
    /// How its health is found out, written as a WorkloadGroup's `probe`; it is told to the control plane.
    #[serde(default)]
    pub readiness_probe: Option<serde_json::Value>,
    /// How its traffic arrives: `REDIRECT`, or `NONE` when listeners are bound as a Sidecar resource says. Nothing is
    /// redirected to a router.
    #[serde(default = "redirect")]
    pub interception: String,
    /// What its proxy is.
    #[serde(default)]
    pub role: ProxyRole,
}

/// What a proxy is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyRole {
    /// It stands beside an application.
    #[default]
    Sidecar,
    /// It stands alone, and serves the Gateways whose selectors its labels meet.
    Router,
}

/// What serves Gateways within a gateway's process: a router, with an identity of its own.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IngressSettings {
    /// Which workload the router is; its role is always `router`. Gateways select it by its labels, and secrets are
    /// those of its namespace.
    pub workload: WorkloadSettings,
    /// How it gets its certificate.
    pub identity: EnrolSettings,
    /// How long the readiness of the process waits for it, in seconds. Default 10: a router that cannot serve does not
    /// keep the tunnels' gateway out of use.
    #[serde(default = "ten")]
    pub ready_within_seconds: u64,
    /// Limits and times.
    #[serde(default)]
    pub proxy: proxy::Settings,
}

/// The settings of `isthmus sidecar`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SidecarProcess {
    /// Logs, metrics, readiness.
    pub telemetry: TelemetrySettings,
    /// Where `isthmus inspect` asks; a loopback address.
    pub admin: SocketAddr,
    /// Runtime threads.
    #[serde(default = "one")]
    pub workers: usize,
    /// Which cluster this is.
    pub cluster: ClusterSettings,
    /// Which workload.
    pub workload: WorkloadSettings,
    /// How it gets its certificate.
    pub identity: EnrolSettings,
    /// Its DNS server; none if absent.
    #[serde(default)]
    pub dns: Option<dns::Settings>,
    /// State of the world instead of delta discovery.
    #[serde(default)]
    pub state_of_the_world: bool,
    /// Limits and times.
    #[serde(default)]
    pub proxy: proxy::Settings,
}

/// The settings of `isthmus agent`: those of a sidecar, and the Envoy to run.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentProcess {
    /// Logs, metrics, readiness of the agent itself.
    pub telemetry: TelemetrySettings,
    /// Which cluster this is.
    pub cluster: ClusterSettings,
    /// Which workload.
    pub workload: WorkloadSettings,
    /// How it gets its certificate.
    pub identity: EnrolSettings,
    /// Its DNS server; none if absent.
    #[serde(default)]
    pub dns: Option<dns::Settings>,
    /// State of the world instead of delta discovery.
    #[serde(default)]
    pub state_of_the_world: bool,
    /// The Envoy binary.
    pub envoy: PathBuf,
    /// Envoy's worker threads; one for each core if 0. What the control plane says (MeshConfig, ProxyConfig) if absent, and
    /// 2 if it says nothing.
    #[serde(default)]
    pub workers: Option<u32>,
    /// Variables of Envoy's environment, beside the agent's own and those that the control plane tells.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// How long the start of Envoy waits for what the control plane says of it, in seconds. Default 5.
    #[serde(default = "five")]
    pub start_within_seconds: u64,
    /// Where the bootstrap and the socket are kept.
    pub directory: PathBuf,
    /// Envoy's admin address; a loopback address.
    pub envoy_admin: SocketAddr,
    /// Where Envoy shows its statistics to Prometheus.
    pub envoy_metrics: SocketAddr,
}

/// Reads a settings file.
///
/// # Errors
/// If it cannot be read, or does not say what the process needs: with file, line, column and field.
pub fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("settings {}", path.display()))?;
    serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("settings {}: {error}", path.display()))
}

// === impl ClusterSettings ===

impl ClusterSettings {
    /// The validated cluster.
    ///
    /// # Errors
    /// If a name is not one.
    pub fn cluster(&self) -> anyhow::Result<Cluster> {
        Ok(Cluster {
            id: self.name.parse::<ClusterId>().context("cluster.name")?,
            uid: self.uid.parse::<ClusterUid>().context("cluster.uid")?,
            trust_domain: self.trust_domain.parse::<TrustDomain>().context("cluster.trustDomain")?,
        })
    }
}

// === impl WorkloadSettings ===

impl WorkloadSettings {
    /// The validated probe, if there is one.
    ///
    /// # Errors
    /// If it is not one.
    pub fn probe(&self) -> anyhow::Result<Option<resource::Probe>> {
        let Some(value) = &self.readiness_probe else { return Ok(None) };
        resource::parse_probe("workload", &value.to_string()).context("workload.readinessProbe")
    }

    /// The validated namespace.
    ///
    /// # Errors
    /// If it is not one.
    pub fn namespace(&self) -> anyhow::Result<Namespace> {
        self.namespace.parse().context("workload.namespace")
    }
}

fn suspect_after() -> u64 {
    15
}

fn forget_after() -> u64 {
    3600
}

fn one() -> usize {
    1
}

fn five() -> u64 {
    5
}

fn ten() -> u64 {
    10
}

fn redirect() -> String {
    "REDIRECT".to_owned()
}
