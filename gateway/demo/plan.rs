//! Which processes the demo starts, with the settings, keys and tokens that each needs, in files as a user's would be.

use super::layout::{DemoCluster, Layout, NAMESPACE, Workload};
use super::{Options, Side, resources};
use crate::bookshop::Title;
use crate::command::init::{self, ClusterFiles};
use crate::command::token;
use crate::settings::{
    AgentProcess, ControlPlaneProcess, EnrolSettings, GatewayProcess, ProxyRole, RegistrySettings, SidecarProcess,
    StoreProcess, StoreSettings, WorkloadSettings,
};
use crate::telemetry::{LogFormat, TelemetrySettings};
use anyhow::{Context, ensure};
use registry::PeerSettings;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use store::embedded;

const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);
const SYSTEM: &str = "isthmus-system";

/// The processes, in the order in which they are started.
pub struct Plan {
    /// Name, and the arguments of `isthmus`.
    pub processes: Vec<(String, Vec<String>)>,
    home: PathBuf,
    store: String,
}

/// One cluster while it is being planned.
struct Draft<'a> {
    cluster: &'a DemoCluster,
    files: &'a ClusterFiles,
    peers: Vec<PeerSettings>,
    home: PathBuf,
    store: &'a str,
    options: &'a Options,
}

// === impl Plan ===

impl Plan {
    /// Writes all files under `home`.
    ///
    /// # Errors
    /// If a file cannot be written, or `--store` is not understood.
    pub fn prepare(home: &Path, layout: &Layout, options: &Options) -> anyhow::Result<Self> {
        let mut processes = Vec::new();
        let store = match &options.store {
            Some(url) => endpoint(url)?,
            None => {
                processes.push(store_process(home, layout)?);
                format!("http://{}", layout.store())
            }
        };
        let files = layout
            .clusters
            .iter()
            .map(|cluster| init::create(&home.join(cluster.name), cluster.name, &cluster.trust_domain))
            .collect::<anyhow::Result<Vec<_>>>()?;
        for (index, cluster) in layout.clusters.iter().enumerate() {
            let peers = files.iter().enumerate().filter(|(other, _)| *other != index);
            let draft = Draft {
                cluster,
                files: &files[index],
                peers: peers.map(|(_, files)| files.peer.clone()).collect(),
                home: home.join(cluster.name),
                store: &store,
                options,
            };
            processes.extend(draft.processes()?);
        }
        Ok(Self { processes, home: home.to_owned(), store })
    }

    /// The directory of a cluster's Istio resources.
    pub fn resources(&self, cluster: &str) -> PathBuf {
        self.home.join(cluster).join("resources")
    }

    /// What runs where.
    pub fn describe(&self, layout: &Layout, home: &Path) -> String {
        let mut text = format!("{} processes; settings and logs in {}\n", self.processes.len(), home.display());
        text.push_str(&format!("  store                {}\n", self.store));
        for cluster in &layout.clusters {
            text.push_str(&format!("{} (trust domain {})\n", cluster.name, cluster.trust_domain));
            text.push_str(&format!("  control plane        {}:15012\n", cluster.control_plane));
            for (name, address) in &cluster.gateways {
                text.push_str(&format!("  {name:20} {address}:15443 TCP from sidecars, UDP (QUIC) from the peer\n"));
            }
            for workload in &cluster.workloads {
                text.push_str(&format!("  {:20} {}:9080, its sidecar\n", workload.name(), workload.address));
            }
        }
        text
    }

    /// Where to look while it stays up.
    pub fn addresses(&self, layout: &Layout) -> String {
        let mut text = format!("The page:  {}\nMetrics:\n", layout.page());
        for cluster in &layout.clusters {
            text.push_str(&format!(
                "  http://{}:15014/metrics  {} control plane\n",
                cluster.control_plane, cluster.name
            ));
            for (name, address) in &cluster.gateways {
                text.push_str(&format!("  http://{address}:15090/metrics  {name}\n"));
            }
            for workload in &cluster.workloads {
                text.push_str(&format!("  http://{}:15090/metrics  {}\n", workload.address, workload.name()));
            }
        }
        text.push_str(&format!(
            "Look inside:  isthmus inspect --admin {}:15000\nThe resources to edit:  {}",
            layout.west().control_plane,
            self.resources("east").display()
        ));
        text
    }
}

// === impl Draft ===

impl Draft<'_> {
    fn processes(&self) -> anyhow::Result<Vec<(String, Vec<String>)>> {
        let consumer = (self.cluster.name == "east").then_some("west");
        resources::write(&self.home.join("resources"), self.cluster, consumer)?;
        let mut processes = vec![self.control_plane()?];
        for (name, address) in &self.cluster.gateways {
            processes.push(self.gateway(name, *address)?);
        }
        for workload in &self.cluster.workloads {
            processes.push(self.application(workload));
            processes.push(self.proxy(workload)?);
        }
        Ok(processes)
    }

    fn control_plane(&self) -> anyhow::Result<(String, Vec<String>)> {
        let address = self.cluster.control_plane;
        let name = format!("{}-controlplane", self.cluster.name);
        let settings = ControlPlaneProcess {
            telemetry: telemetry(address, 15014),
            admin: SocketAddr::new(address, 15000),
            workers: 1,
            cluster: self.files.cluster.clone(),
            listen: SocketAddr::new(address, 15012),
            certificate_authority: self.files.certificate_authority.clone(),
            token_key: self.files.token_key.clone(),
            registry: self.registry(),
            limits: controlplane::Settings::default(),
        };
        self.role("controlplane", &name, &settings)
    }

    fn gateway(&self, name: &str, address: IpAddr) -> anyhow::Result<(String, Vec<String>)> {
        let account = format!("gateway-{}", self.cluster.name);
        let settings = GatewayProcess {
            telemetry: telemetry(address, 15090),
            admin: SocketAddr::new(address, 15000),
            workers: 1,
            cluster: self.files.cluster.clone(),
            name: name.to_owned(),
            identity: self.enrol(name, SYSTEM, &account)?,
            registry: self.registry(),
            eastwest: eastwest::Settings {
                listen: SocketAddr::new(address, 15443),
                tunnel: SocketAddr::new(address, 15443),
                ..eastwest::Settings::default()
            },
            ingress: None,
        };
        self.role("gateway", name, &settings)
    }

    fn application(&self, workload: &Workload) -> (String, Vec<String>) {
        let args = [
            "bookshop",
            workload.title.name(),
            "--listen",
            &workload.application().to_string(),
            "--version",
            workload.version,
            "--cluster",
            self.cluster.name,
            "--mesh",
            &workload.mesh().to_string(),
        ];
        (workload.name(), args.map(str::to_owned).to_vec())
    }

    fn proxy(&self, workload: &Workload) -> anyhow::Result<(String, Vec<String>)> {
        let name = format!("{}-sidecar", workload.name());
        let identity = self.enrol(&name, NAMESPACE, &workload.service_account())?;
        let side = if workload.title == Title::Productpage { Side::Client } else { Side::Server };
        let replaced = matches!(workload.title, Title::Productpage | Title::Details);
        match &self.options.envoy {
            Some(envoy) if replaced && self.options.envoy_as == side => {
                let settings = AgentProcess {
                    telemetry: TelemetrySettings {
                        metrics: SocketAddr::new(workload.address, 15020),
                        ..telemetry(workload.address, 15020)
                    },
                    cluster: self.files.cluster.clone(),
                    workload: workload_settings(workload),
                    identity,
                    dns: Some(dns_settings(workload)),
                    state_of_the_world: self.options.state_of_the_world,
                    envoy: envoy.clone(),
                    directory: self.home.join(&name),
                    envoy_admin: SocketAddr::new(workload.address, 15000),
                    workers: None,
                    start_within_seconds: 5,
                    environment: BTreeMap::new(),
                    envoy_metrics: SocketAddr::new(workload.address, 15090),
                };
                self.role("agent", &name, &settings)
            }
            _ => {
                let settings = SidecarProcess {
                    telemetry: telemetry(workload.address, 15090),
                    admin: SocketAddr::new(workload.address, 15000),
                    workers: 1,
                    cluster: self.files.cluster.clone(),
                    workload: workload_settings(workload),
                    identity,
                    dns: Some(dns_settings(workload)),
                    state_of_the_world: self.options.state_of_the_world,
                    proxy: proxy::Settings::default(),
                };
                self.role("sidecar", &name, &settings)
            }
        }
    }

    fn registry(&self) -> RegistrySettings {
        RegistrySettings {
            resources: self.home.join("resources"),
            registry_key: self.files.registry_key.clone(),
            store: Some(StoreSettings { endpoints: vec![self.store.to_owned()], tls: None }),
            peers: self.peers.clone(),
            suspect_after_seconds: 15,
            forget_after_seconds: 3600,
        }
    }

    fn enrol(&self, name: &str, namespace: &str, service_account: &str) -> anyhow::Result<EnrolSettings> {
        let token = self.home.join(format!("{name}.token"));
        token::write(self.files, namespace, service_account, TOKEN_LIFE, &token)?;
        Ok(EnrolSettings {
            control_plane: format!("{}:15012", self.cluster.control_plane),
            roots: self.files.roots.clone(),
            token,
        })
    }

    fn role<T: Serialize>(&self, role: &str, name: &str, settings: &T) -> anyhow::Result<(String, Vec<String>)> {
        role_process(&self.home, role, name, settings)
    }
}

fn store_process(home: &Path, layout: &Layout) -> anyhow::Result<(String, Vec<String>)> {
    let settings = StoreProcess {
        telemetry: telemetry(layout.store().ip(), 15090),
        server: embedded::Settings {
            listen: layout.store(),
            data: home.join("store"),
            ..embedded::Settings::default()
        },
    };
    role_process(home, "store", "store", &settings)
}

fn role_process<T: Serialize>(
    home: &Path,
    role: &str,
    name: &str,
    settings: &T,
) -> anyhow::Result<(String, Vec<String>)> {
    let path = home.join(format!("{name}.yaml"));
    let text = serde_saphyr::to_string(settings).with_context(|| format!("settings of {name}"))?;
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    let args = vec![role.to_owned(), "--config".to_owned(), path.display().to_string()];
    Ok((name.to_owned(), args))
}

fn telemetry(address: IpAddr, port: u16) -> TelemetrySettings {
    TelemetrySettings {
        metrics: SocketAddr::new(address, port),
        readiness: Some(SocketAddr::new(address, 15021)),
        log_format: LogFormat::Text,
        log_filter: "info".to_owned(),
    }
}

fn dns_settings(workload: &Workload) -> dns::Settings {
    dns::Settings { listen: vec![SocketAddr::new(workload.address, 15053)], ..dns::Settings::default() }
}

fn workload_settings(workload: &Workload) -> WorkloadSettings {
    let labels = [("app", workload.title.name()), ("version", workload.version)];
    WorkloadSettings {
        network: String::new(),
        auto_register_group: String::new(),
        readiness_probe: None,
        name: workload.name(),
        namespace: NAMESPACE.to_owned(),
        service_account: workload.service_account(),
        addresses: vec![workload.address],
        locality: String::new(),
        labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect::<BTreeMap<_, _>>(),
        interception: "NONE".to_owned(),
        role: ProxyRole::Sidecar,
    }
}

/// `etcd://HOST:PORT` as the URL that the store's client takes.
fn endpoint(url: &str) -> anyhow::Result<String> {
    let address = url.strip_prefix("etcd://").unwrap_or_default();
    ensure!(
        address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()),
        "--store: {url:?} is not accepted: etcd://HOST:PORT is expected"
    );
    Ok(format!("http://{address}"))
}
