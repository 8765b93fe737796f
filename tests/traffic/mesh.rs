//! The two meshes: one in which instances are near the callers, one in which they are in the other cluster.

use crate::application;
use crate::case::Column;
use crate::cluster::{Cluster, Tasks, Workload, start_store};
use crate::ledger::Ledger;
use crate::local::Local;
use crate::marker;
use crate::service::{self, BEHIND, Instance};
use crate::stream;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A mesh that runs.
pub struct Mesh {
    pub callers: Vec<Caller>,
    /// The callers' cluster, which takes the cases' resources.
    pub cluster: Cluster,
    /// Where the marker's application is.
    pub marker: IpAddr,
    /// What stands outside of the mesh.
    pub local: Arc<Local>,
    instances: Vec<Instance>,
    tasks: Tasks,
}

/// A proxy that cases ask.
pub struct Caller {
    pub column: Column,
    /// Where it offers the mesh.
    pub mesh: IpAddr,
    pub envoy: Option<EnvoyLook>,
    pub local: Arc<Local>,
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
/// Which of an address's three last numbers stands for what.
const WEST: u8 = 1;
const EAST: u8 = 2;
const PLAIN: u8 = 3;

// === impl Range ===

impl Range {
    fn at(self, third: u8, fourth: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, self.0, third, fourth))
    }
}

// === impl Mesh ===

impl Mesh {
    /// One cluster, alone: the callers and plain instances.
    pub async fn near(
        home: &Path,
        range: Range,
        columns: &BTreeSet<Column>,
        envoy: &Path,
        ledger: &Arc<Ledger>,
    ) -> anyhow::Result<Self> {
        let mut tasks = Tasks::default();
        let cluster = Cluster::create(home, "near", range.at(WEST, 1))?;
        let instances = service::instances(|index| range.at(PLAIN, 1 + index));
        let marker = range.at(PLAIN, 200);
        cluster.write("services.yaml", &format!("{}{}", service::plain(&instances), marker::base(marker)))?;
        start_applications(&instances, 0, ledger).await?;
        start_marker(marker, ledger).await?;
        let local = Arc::new(Local::start(&home.join("near"), ledger).await?);
        let mut mesh = Self { callers: Vec::new(), cluster, marker, local, instances, tasks: Tasks::default() };
        mesh.cluster.start_control_plane(&mut tasks);
        if columns.contains(&Column::Sidecar) {
            let (workload, at) = mesh.caller("sidecar", range, 0)?;
            mesh.cluster.start_sidecar(&mut tasks, &workload)?;
            mesh.callers.push(Caller { column: Column::Sidecar, mesh: at, envoy: None, local: mesh.local.clone() });
        }
        if columns.contains(&Column::Envoy) {
            let (workload, at) = mesh.caller("envoy", range, 1)?;
            let log = mesh.cluster.start_envoy(&mut tasks, &workload, envoy)?;
            let look = EnvoyLook { admin: workload.admin(), log };
            mesh.callers.push(Caller { column: Column::Envoy, mesh: at, envoy: Some(look), local: mesh.local.clone() });
        }
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
        let marker = range.at(PLAIN, 200);
        east.write("services.yaml", &service::behind_sidecars(&instances))?;
        west.write("services.yaml", &marker::base(marker))?;
        start_applications(&instances, BEHIND, ledger).await?;
        start_marker(marker, ledger).await?;
        for (cluster, third) in [(&west, WEST), (&east, EAST)] {
            cluster.start_control_plane(&mut tasks);
            cluster.start_gateway(&mut tasks, range.at(third, 11))?;
        }
        for instance in &instances {
            east.start_sidecar(&mut tasks, &beside(instance))?;
        }
        let local = Arc::new(Local::start(&home.join("west"), ledger).await?);
        let mut mesh = Self { callers: Vec::new(), cluster: west, marker, local, instances, tasks: Tasks::default() };
        let (workload, at) = mesh.caller("remote", range, 0)?;
        mesh.cluster.start_sidecar(&mut tasks, &workload)?;
        mesh.callers.push(Caller { column: Column::Remote, mesh: at, envoy: None, local: mesh.local.clone() });
        mesh.tasks = tasks;
        Ok(mesh)
    }

    /// `text` with the instances' addresses in the places of their names.
    pub fn filled(&self, text: &str) -> String {
        let fill = |text: String, one: &Instance| text.replace(&format!("${}", one.name()), &one.address.to_string());
        self.instances.iter().fold(self.local.filled(text), fill)
    }

    /// Ends it.
    pub async fn stop(self) {
        self.tasks.stop().await;
    }

    /// Declares the caller `name`; its workload, and where it will offer the mesh.
    fn caller(&self, name: &str, range: Range, index: u8) -> anyhow::Result<(Workload, IpAddr)> {
        let mesh = range.at(WEST, 201 + index);
        self.cluster.write(&format!("{name}.yaml"), &service::caller(name, mesh))?;
        let labels = [("app", "client"), ("version", "v1"), ("caller", name)];
        let workload = Workload {
            name: name.to_owned(),
            account: ACCOUNT.to_owned(),
            address: range.at(WEST, 101 + index),
            labels: labels.map(|(key, value)| (key, value.to_owned())).into(),
        };
        Ok((workload, mesh))
    }
}

fn beside(instance: &Instance) -> Workload {
    let labels = [("app", instance.service.name), ("version", instance.version)];
    Workload {
        name: instance.name(),
        account: instance.service.name.to_owned(),
        address: instance.address,
        labels: labels.map(|(key, value)| (key, value.to_owned())).into(),
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
