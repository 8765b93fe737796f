//! The meshes: two in which instances are near the callers, ours and Envoy's, and one in which they are in the other
//! cluster. Each has a gateway at the edge, of the same kind as its caller.

use crate::application;
use crate::case::Column;
use crate::cluster::{Cluster, Tasks, Workload, start_store};
use crate::http_case::Target;
use crate::ledger::Ledger;
use crate::local::Local;
use crate::marker;
use crate::outside;
use crate::pki::Pki;
use crate::service::{self, BEHIND, EDGE, INGRESS, Instance, NAMESPACE};
use crate::stream;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A mesh that runs.
pub struct Mesh {
    pub callers: Vec<Caller>,
    outside: IpAddr,
    pki: Pki,
    /// The callers' cluster, which takes the cases' resources.
    pub cluster: Cluster,
    /// The instances' cluster, where that is another.
    there: Option<Cluster>,
    gateway: IpAddr,
    /// What stands outside of the mesh, for what callers address by themselves.
    pub local: Arc<Local>,
    instances: Vec<Instance>,
    range: Range,
    ledger: Arc<Ledger>,
    tasks: Tasks,
}

/// A proxy that cases ask.
pub struct Caller {
    pub column: Column,
    /// Where it offers the mesh.
    pub mesh: IpAddr,
    /// Where its workload is.
    pub own: IpAddr,
    /// Where the gateway of its mesh is.
    pub gateway: IpAddr,
    /// The Envoys that are part of it.
    pub envoys: Vec<EnvoyLook>,
    pub local: Arc<Local>,
}

/// A workload without a proxy yet.
pub struct Late {
    pub workload: Workload,
    /// Where its proxy will take requests.
    pub mesh: IpAddr,
}

/// Where Envoy can be looked into.
pub struct EnvoyLook {
    pub admin: SocketAddr,
    pub log: PathBuf,
}

/// The addresses 127.RANGE.0.0/16.
#[derive(Debug, Clone, Copy)]
pub struct Range(pub u8);

/// The account and the labels of the callers.
const ACCOUNT: &str = "client";
/// The WorkloadGroup of a workload that comes late.
pub const LATE: &str = "late";
/// The workload of a caller, as cases name it.
const OWN: &str = "own";
/// Which of an address's three last numbers stands for what.
const WEST: u8 = 1;
const EAST: u8 = 2;
const PLAIN: u8 = 3;
/// The last number of a gateway's address.
const GATEWAY: u8 = 11;

// === impl Range ===

impl Range {
    fn at(self, third: u8, fourth: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, self.0, third, fourth))
    }
}

// === impl Mesh ===

impl Mesh {
    /// One cluster, alone: the caller, the gateway and plain instances; both are Envoys if `envoy` is one.
    pub async fn near(home: &Path, range: Range, envoy: Option<&Path>, ledger: &Arc<Ledger>) -> anyhow::Result<Self> {
        let mut tasks = Tasks::default();
        let column = if envoy.is_some() { Column::Envoy } else { Column::Sidecar };
        let cluster = Cluster::create(&home.join(column.to_string()), "near", range.at(WEST, 1))?;
        let instances = service::instances(|index| range.at(PLAIN, 1 + index));
        let (marker, gateway) = (range.at(PLAIN, 200), range.at(WEST, GATEWAY));
        let base = format!("{}{}", service::plain(&instances), marker::base(marker, gateway));
        cluster.write("services.yaml", &base)?;
        start_applications(&instances, 0, ledger).await?;
        start_marker(marker, ledger).await?;
        let (outside, pki) = start_outside(range, &home.join(format!("pki-{column}")), ledger).await?;
        cluster.start_control_plane(&mut tasks);
        let local = Arc::new(Local::start(&home.join(column.to_string()), ledger).await?);
        let (callers, none) = (Vec::new(), Tasks::default());
        let (there, ledger) = (None, ledger.clone());
        let mut mesh =
            Self { callers, outside, pki, cluster, there, gateway, local, instances, range, ledger, tasks: none };
        let (workload, at) = mesh.caller(&column.to_string(), 1)?;
        let router = router(gateway);
        let mut envoys = Vec::new();
        match envoy {
            None => {
                mesh.cluster.start_sidecar(&mut tasks, &workload)?;
                mesh.cluster.start_gateway(&mut tasks, gateway, Some(&router))?;
            }
            Some(envoy) => {
                for workload in [&workload, &router] {
                    let log = mesh.cluster.start_envoy(&mut tasks, workload, envoy)?;
                    envoys.push(EnvoyLook { admin: workload.admin(), log });
                }
            }
        }
        let local = mesh.local.clone();
        mesh.add(Caller { column, mesh: at, own: workload.address, gateway, envoys, local }).await?;
        mesh.tasks = tasks;
        Ok(mesh)
    }

    /// Two clusters: the caller in west, the instances behind their sidecars in east.
    pub async fn far(home: &Path, range: Range, ledger: &Arc<Ledger>) -> anyhow::Result<Self> {
        let mut tasks = Tasks::default();
        let store = start_store(&mut tasks, home, range.at(0, 1));
        let mut west = Cluster::create(home, "west", range.at(WEST, 1))?;
        let mut east = Cluster::create(home, "east", range.at(EAST, 1))?;
        west.peers.push(east.files.peer.clone());
        east.peers.push(west.files.peer.clone());
        (west.store, east.store) = (Some(store.clone()), Some(store));

        let instances = service::instances(|index| range.at(EAST, 101 + index));
        let (marker, gateway) = (range.at(PLAIN, 200), range.at(WEST, GATEWAY));
        east.write("services.yaml", &service::behind_sidecars(&instances))?;
        west.write("services.yaml", &marker::base(marker, gateway))?;
        start_applications(&instances, BEHIND, ledger).await?;
        start_marker(marker, ledger).await?;
        for (cluster, third) in [(&west, WEST), (&east, EAST)] {
            cluster.start_control_plane(&mut tasks);
            let router = (third == WEST).then(|| router(gateway));
            cluster.start_gateway(&mut tasks, range.at(third, GATEWAY), router.as_ref())?;
        }
        for instance in &instances {
            east.start_sidecar(&mut tasks, &beside(instance))?;
        }
        let (outside, pki) = start_outside(range, &home.join("pki-far"), ledger).await?;
        let local = Arc::new(Local::start(&home.join("west"), ledger).await?);
        let (callers, none) = (Vec::new(), Tasks::default());
        let (cluster, there, ledger) = (west, Some(east), ledger.clone());
        let mut mesh =
            Self { callers, outside, pki, cluster, there, gateway, local, instances, range, ledger, tasks: none };
        let (workload, at) = mesh.caller("remote", 1)?;
        mesh.cluster.start_sidecar(&mut tasks, &workload)?;
        let (column, own) = (Column::Remote, workload.address);
        let local = mesh.local.clone();
        mesh.add(Caller { column, mesh: at, own, gateway, envoys: Vec::new(), local }).await?;
        mesh.tasks = tasks;
        Ok(mesh)
    }

    /// `text` with the addresses of the instances and of the gateway in the places of their names.
    pub fn filled(&self, text: &str) -> String {
        let fill = |text: String, one: &Instance| text.replace(&format!("${}", one.name()), &one.address.to_string());
        let text = self.pki.filled(&self.local.filled(text)).replace("$outside", &self.outside.to_string());
        self.instances.iter().fold(text.replace("$gateway", &self.gateway.to_string()), fill)
    }

    /// Writes a case's resources into the instances' cluster, where that is another.
    pub fn write_there(&self, resources: &str) -> anyhow::Result<()> {
        self.there.as_ref().map_or(Ok(()), |there| there.write("case.yaml", resources))
    }

    /// Has the callers' Sidecar resources say `spec`, or the usual again.
    pub fn set_sidecars(&self, spec: Option<&str>) -> anyhow::Result<()> {
        for caller in &self.callers {
            let name = caller.column.to_string();
            self.cluster.write(&format!("{name}.yaml"), &service::caller(&name, caller.mesh, caller.own, spec))?;
        }
        Ok(())
    }

    /// Adds a caller, and the applications of its workload, of which its proxy takes requests if its Sidecar resource says
    /// so.
    async fn add(&mut self, caller: Caller) -> anyhow::Result<()> {
        let at = |port: u16| SocketAddr::new(caller.own, port + BEHIND);
        for port in [8080, INGRESS] {
            application::start(at(port), OWN.to_owned(), self.ledger.clone()).await?;
        }
        stream::start_plain(at(5000), OWN.to_owned()).await?;
        self.callers.push(caller);
        Ok(())
    }

    /// One more workload with its application, beside which a proxy may be started; it registers itself with [`LATE`].
    pub async fn late(&self) -> anyhow::Result<Late> {
        let (workload, mesh) = self.caller("late", 2)?;
        let workload = Workload { group: LATE, ..workload };
        let at = SocketAddr::new(workload.address, INGRESS + BEHIND);
        application::start(at, OWN.to_owned(), self.ledger.clone()).await?;
        Ok(Late { workload, mesh })
    }

    /// Ends it.
    pub async fn stop(self) {
        self.tasks.stop().await;
    }

    /// Declares the caller `name`, the `number`th; its workload, and where it will offer the mesh.
    fn caller(&self, name: &str, number: u8) -> anyhow::Result<(Workload, IpAddr)> {
        let (mesh, own) = (self.range.at(WEST, 200 + number), self.range.at(WEST, 100 + number));
        self.cluster.write(&format!("{name}.yaml"), &service::caller(name, mesh, own, None))?;
        let labels = [("app", "client"), ("version", "v1"), ("caller", name)];
        let workload = Workload {
            name: name.to_owned(),
            namespace: NAMESPACE,
            account: ACCOUNT.to_owned(),
            role: "sidecar",
            address: own,
            labels: labels.map(|(key, value)| (key, value.to_owned())).into(),
            group: "",
        };
        Ok((workload, mesh))
    }
}

// === impl Caller ===

impl Caller {
    /// Where `target` is asked for: `own` is the workload itself, and all else but the gateway its proxy knows; there the
    /// proxy also takes what is for the workload at the port that it has without a case's doing.
    pub fn place(&self, target: &Target) -> IpAddr {
        match target {
            _ if target.is_gateway() => self.gateway,
            _ if target.service == OWN && target.port != INGRESS => self.own,
            _ => self.mesh,
        }
    }
}

/// The servers outside of the mesh: where they are, and what they show.
async fn start_outside(range: Range, home: &Path, ledger: &Arc<Ledger>) -> anyhow::Result<(IpAddr, Pki)> {
    let (at, pki) = (range.at(PLAIN, 210), Pki::make(home)?);
    outside::start(at, &pki, ledger).await?;
    Ok((at, pki))
}

fn beside(instance: &Instance) -> Workload {
    let labels = [("app", instance.service.name), ("version", instance.version), ("track", instance.track())];
    Workload {
        name: instance.name(),
        namespace: NAMESPACE,
        role: "sidecar",
        account: instance.service.name.to_owned(),
        address: instance.address,
        labels: labels.map(|(key, value)| (key, value.to_owned())).into(),
        group: "",
    }
}

/// The gateway, as Istio's own is labelled, and as that of the Gateway API's Gateway gw.
fn router(address: IpAddr) -> Workload {
    Workload {
        name: "edge".to_owned(),
        namespace: EDGE,
        account: "edge".to_owned(),
        role: "router",
        address,
        labels: [("app", "edge"), ("istio", "ingressgateway"), ("gateway.networking.k8s.io/gateway-name", "gw")]
            .map(|(key, value)| (key, value.to_owned()))
            .into(),
        group: "",
    }
}

async fn start_applications(instances: &[Instance], behind: u16, ledger: &Arc<Ledger>) -> anyhow::Result<()> {
    for instance in instances {
        let (at, name) = (SocketAddr::new(instance.address, instance.service.port + behind), instance.name());
        match instance.service.protocol {
            "TCP" => stream::start_plain(at, name).await?,
            "TLS" => stream::start_tls(at, name).await?,
            _ => application::start(at, name, ledger.clone()).await?,
        }
    }
    Ok(())
}

async fn start_marker(address: IpAddr, ledger: &Arc<Ledger>) -> anyhow::Result<()> {
    let at = SocketAddr::new(address, 9080);
    Ok(application::start(at, marker::INSTANCE.to_owned(), ledger.clone()).await?)
}
