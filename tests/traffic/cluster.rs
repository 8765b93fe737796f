//! One cluster: its identity, its folder of resources, and its processes, each of them a task.

use anyhow::Context;
use isthmus::command::init::{self, ClusterFiles};
use isthmus::command::token;
use isthmus::role;
use isthmus::settings::{
    AgentProcess, ControlPlaneProcess, EnrolSettings, GatewayProcess, IngressSettings, RegistrySettings,
    SidecarProcess, StoreProcess, StoreSettings, WorkloadSettings,
};
use isthmus::telemetry::{LogFormat, TelemetrySettings};
use registry::PeerSettings;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::embedded;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);
/// The labels whose values tell the other cluster the parts of a service.
const EXPORTED: [&str; 2] = ["version", "track"];
const SYSTEM: &str = "isthmus-system";
/// How long all may take to end.
const LEAVING: Duration = Duration::from_secs(20);

/// A cluster.
pub struct Cluster {
    pub files: ClusterFiles,
    home: PathBuf,
    control_plane: IpAddr,
    /// The other clusters, and where all meet; a cluster without a store stands alone.
    pub peers: Vec<PeerSettings>,
    pub store: Option<String>,
}

/// A workload beside which a proxy stands.
pub struct Workload {
    pub name: String,
    pub namespace: &'static str,
    pub account: String,
    /// `sidecar` or `router`.
    pub role: &'static str,
    pub address: IpAddr,
    pub labels: Vec<(&'static str, String)>,
    /// The WorkloadGroup that it registers itself with; none if empty.
    pub group: &'static str,
}

/// The tasks that run.
#[derive(Default)]
pub struct Tasks {
    shutdown: CancellationToken,
    handles: Vec<JoinHandle<()>>,
}

// === impl Tasks ===

impl Tasks {
    /// Runs one more process; what ends it early is shown, because everything else would only see silence.
    pub fn start<F>(&mut self, name: &str, process: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (name, process) = (name.to_owned(), process(self.shutdown.clone()));
        self.handles.push(tokio::spawn(async move {
            if let Err(error) = process.await {
                eprintln!("{name} ended: {error:#}");
            }
        }));
    }

    /// Ends all.
    pub async fn stop(self) {
        self.shutdown.cancel();
        let all = futures_util::future::join_all(self.handles);
        if tokio::time::timeout(LEAVING, all).await.is_err() {
            eprintln!("not everything ended within {LEAVING:?}");
        }
    }
}

/// Starts the store that clusters meet in; its URL.
pub fn start_store(tasks: &mut Tasks, home: &Path, address: IpAddr) -> String {
    let listen = SocketAddr::new(address, 2379);
    let server = embedded::Settings { listen, data: home.join("store"), ..embedded::Settings::default() };
    let settings = StoreProcess { telemetry: telemetry(address), server };
    tasks.start("store", |until| role::store(settings, until));
    format!("http://{listen}")
}

// === impl Cluster ===

impl Cluster {
    /// Makes the identity of the cluster `name`, whose control plane will be at an address.
    pub fn create(home: &Path, name: &str, control_plane: IpAddr) -> anyhow::Result<Self> {
        let home = home.join(name);
        let files = init::create(&home, name, &format!("{name}.example"))?;
        fs::create_dir_all(home.join("resources"))?;
        Ok(Self { files, home, control_plane, peers: Vec::new(), store: None })
    }

    /// Writes a file of resources in one step: a half-written file would be taken for a mistake.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        if fs::read_to_string(self.resources().join(name)).is_ok_and(|before| before == text) {
            return Ok(());
        }
        let (aside, path) = (self.home.join("resources").join(format!(".{name}.tmp")), self.resources().join(name));
        fs::write(&aside, text).with_context(|| format!("write {}", aside.display()))?;
        fs::rename(&aside, &path).with_context(|| format!("rename to {}", path.display()))
    }

    /// Starts the control plane.
    pub fn start_control_plane(&self, tasks: &mut Tasks) {
        let settings = ControlPlaneProcess {
            telemetry: telemetry(self.control_plane),
            admin: SocketAddr::new(self.control_plane, 15000),
            workers: 1,
            cluster: self.files.cluster.clone(),
            listen: SocketAddr::new(self.control_plane, 15012),
            certificate_authority: self.files.certificate_authority.clone(),
            token_key: self.files.token_key.clone(),
            registry: self.registry(),
            limits: prompt(),
        };
        tasks.start(&self.role("control plane"), |until| role::control_plane(settings, until));
    }

    /// Starts a gateway, which serves Gateways as `router` if there is one.
    pub fn start_gateway(&self, tasks: &mut Tasks, address: IpAddr, router: Option<&Workload>) -> anyhow::Result<()> {
        let (name, at) = (self.role("gateway"), SocketAddr::new(address, 15443));
        let ingress = router.map(|router| {
            let identity = self.enrol(&router.name, router.namespace, &router.account)?;
            Ok::<_, anyhow::Error>(IngressSettings {
                workload: router.settings(),
                identity,
                ready_within_seconds: 60,
                proxy: proxy::Settings::default(),
            })
        });
        let settings = GatewayProcess {
            telemetry: telemetry(address),
            admin: SocketAddr::new(address, 15000),
            workers: 1,
            cluster: self.files.cluster.clone(),
            name: "gateway".to_owned(),
            identity: self.enrol("gateway", SYSTEM, &format!("gateway-{}", self.files.cluster.name))?,
            registry: self.registry(),
            eastwest: eastwest::Settings {
                listen: at,
                tunnel: at,
                export_labels: EXPORTED.map(str::to_owned).into(),
                ..eastwest::Settings::default()
            },
            ingress: ingress.transpose()?,
        };
        tasks.start(&name, |until| role::gateway(settings, until));
        Ok(())
    }

    /// Starts our sidecar beside a workload.
    pub fn start_sidecar(&self, tasks: &mut Tasks, workload: &Workload) -> anyhow::Result<()> {
        let settings = SidecarProcess {
            telemetry: telemetry(workload.address),
            admin: SocketAddr::new(workload.address, 15000),
            workers: 1,
            cluster: self.files.cluster.clone(),
            workload: workload.settings(),
            identity: self.enrol(&workload.name, workload.namespace, &workload.account)?,
            dns: None,
            state_of_the_world: false,
            proxy: proxy::Settings::default(),
        };
        tasks.start(&self.role(&workload.name), |until| role::sidecar(settings, until));
        Ok(())
    }

    /// Starts Envoy beside a workload; the file of its log.
    pub fn start_envoy(&self, tasks: &mut Tasks, workload: &Workload, envoy: &Path) -> anyhow::Result<PathBuf> {
        let log = self.home.join(format!("{}.log", workload.name));
        let settings = AgentProcess {
            telemetry: TelemetrySettings {
                metrics: SocketAddr::new(workload.address, 15020),
                ..telemetry(workload.address)
            },
            cluster: self.files.cluster.clone(),
            workload: workload.settings(),
            identity: self.enrol(&workload.name, workload.namespace, &workload.account)?,
            dns: None,
            state_of_the_world: false,
            envoy: self.logging(envoy, &log)?,
            directory: self.home.join(&workload.name),
            envoy_admin: workload.admin(),
            workers: None,
            start_within_seconds: 5,
            environment: BTreeMap::new(),
            envoy_metrics: SocketAddr::new(workload.address, 15090),
        };
        tasks.start(&self.role(&workload.name), |until| role::agent(settings, until));
        Ok(log)
    }

    /// Envoy with its log in a file: what it says of a rejection is wanted beside the case that it rejected.
    fn logging(&self, envoy: &Path, log: &Path) -> anyhow::Result<PathBuf> {
        let script = self.home.join("envoy.sh");
        // Should the test be killed, Envoy goes with it (util-linux has the launcher).
        let launched = format!("setpriv --pdeathsig KILL '{}'", envoy.display());
        let text = format!("#!/bin/sh\nexec {launched} \"$@\" >>'{}' 2>&1\n", log.display());
        fs::write(&script, text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700))?;
        Ok(script)
    }

    fn resources(&self) -> PathBuf {
        self.home.join("resources")
    }

    fn role(&self, name: &str) -> String {
        format!("{}'s {name}", self.files.cluster.name)
    }

    fn registry(&self) -> RegistrySettings {
        let store = self.store.as_ref().map(|url| StoreSettings { endpoints: vec![url.clone()], tls: None });
        RegistrySettings {
            resources: self.resources(),
            registry_key: self.files.registry_key.clone(),
            store,
            peers: self.peers.clone(),
            suspect_after_seconds: 15,
            forget_after_seconds: 3600,
        }
    }

    fn enrol(&self, name: &str, namespace: &str, account: &str) -> anyhow::Result<EnrolSettings> {
        let token = self.home.join(format!("{name}.token"));
        token::write(&self.files, namespace, account, TOKEN_LIFE, &token)?;
        let control_plane = format!("{}:15012", self.control_plane);
        Ok(EnrolSettings { control_plane, roots: self.files.roots.clone(), token })
    }
}

// === impl Workload ===

impl Workload {
    /// Where its proxy's admin surface is.
    pub fn admin(&self) -> SocketAddr {
        SocketAddr::new(self.address, 15000)
    }

    fn settings(&self) -> WorkloadSettings {
        let labels: BTreeMap<&str, &str> = self.labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let settings = json!({
            "name": self.name, "namespace": self.namespace, "serviceAccount": self.account,
            "addresses": [self.address], "labels": labels, "interception": "NONE", "role": self.role,
            "locality": "here/a/1", "autoRegisterGroup": self.group,
        });
        serde_json::from_value(settings).expect("the settings of a workload")
    }
}

/// What a control plane does that waits hardly at all for more: cases and changes come one by one.
fn prompt() -> controlplane::Settings {
    let mut settings = controlplane::Settings::default();
    settings.debounce.configuration_quiet_ms = 10;
    // The issuer of the cases' tokens is on this machine.
    settings.keys.allow.push("127.0.0.0/8".parse().expect("a network"));
    settings
}

fn telemetry(address: IpAddr) -> TelemetrySettings {
    TelemetrySettings {
        metrics: SocketAddr::new(address, 15090),
        readiness: None,
        log_format: LogFormat::Text,
        log_filter: "info".to_owned(),
    }
}
