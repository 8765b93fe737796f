//! Who runs where: every process of the demo has a loopback address of its own, so that ports stay Istio's.
//!
//! ```text
//! 127.R.0.1    the store
//! 127.R.C.1    cluster C's control plane      127.R.C.11, .12   its gateways
//! 127.R.C.101… its workloads                  127.R.C.201…      where those reach the mesh
//! ```

use crate::bookshop::{PORT, Title};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where an application itself listens, behind its sidecar.
pub const APPLICATION_PORT: u16 = 8080;
/// The namespace of the bookshop.
pub const NAMESPACE: &str = "bookinfo";

/// The addresses of one demo.
#[derive(Debug, Clone)]
pub struct Layout {
    range: u8,
    /// The clusters: west asks, east answers.
    pub clusters: [DemoCluster; 2],
}

/// One of the two clusters.
#[derive(Debug, Clone)]
pub struct DemoCluster {
    /// `west` or `east`.
    pub name: &'static str,
    /// Its trust domain.
    pub trust_domain: String,
    /// Its control plane's address.
    pub control_plane: IpAddr,
    /// Its gateways, by name.
    pub gateways: Vec<(String, IpAddr)>,
    /// Its workloads.
    pub workloads: Vec<Workload>,
}

/// An application and its sidecar.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Which service it is an instance of.
    pub title: Title,
    /// Its version.
    pub version: &'static str,
    /// The workload's address.
    pub address: IpAddr,
    /// Where its sidecar offers it the mesh.
    pub mesh: IpAddr,
}

// === impl Layout ===

impl Layout {
    /// The layout in 127.`range`.0.0/16.
    pub fn new(range: u8) -> Self {
        let at = |c: u8, host: u8| IpAddr::V4(Ipv4Addr::new(127, range, c, host));
        let workload = |c: u8, index: u8, title, version| Workload {
            title,
            version,
            address: at(c, 101 + index),
            mesh: at(c, 201 + index),
        };
        let cluster = |c: u8, name: &'static str, workloads| DemoCluster {
            name,
            trust_domain: format!("{name}.example"),
            control_plane: at(c, 1),
            gateways: (1..=2).map(|g| (format!("{name}-gateway-{g}"), at(c, 10 + g))).collect(),
            workloads,
        };
        let west = vec![workload(1, 0, Title::Productpage, "v1")];
        let east = vec![
            workload(2, 0, Title::Details, "v1"),
            workload(2, 1, Title::Ratings, "v1"),
            workload(2, 2, Title::Reviews, "v1"),
            workload(2, 3, Title::Reviews, "v2"),
            workload(2, 4, Title::Reviews, "v3"),
        ];
        Self { range, clusters: [cluster(1, "west", west), cluster(2, "east", east)] }
    }

    /// The first range, from 10 on, in which nobody listens where the store would.
    pub fn free() -> Option<Self> {
        (10..=250).map(Self::new).find(|layout| std::net::TcpListener::bind(layout.store()).is_ok())
    }

    /// Where the embedded store listens.
    pub fn store(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, self.range, 0, 1)), 2379)
    }

    /// The cluster that asks.
    pub fn west(&self) -> &DemoCluster {
        &self.clusters[0]
    }

    /// The cluster that answers.
    pub fn east(&self) -> &DemoCluster {
        &self.clusters[1]
    }

    /// Where productpage's sidecar offers it the mesh.
    pub fn west_mesh(&self) -> SocketAddr {
        self.west().workloads[0].mesh()
    }

    /// What a person opens in a browser.
    pub fn page(&self) -> String {
        format!("http://{}/productpage", self.west().workloads[0].application())
    }
}

// === impl DemoCluster ===

impl DemoCluster {
    /// The workloads of one service.
    pub fn of(&self, title: Title) -> impl Iterator<Item = &Workload> {
        self.workloads.iter().filter(move |workload| workload.title == title)
    }

    /// The addresses that its processes listen on.
    pub fn ports(&self) -> Vec<SocketAddr> {
        let gateways = self.gateways.iter().map(|(_, address)| SocketAddr::new(*address, 15443));
        let sidecars =
            self.workloads.iter().flat_map(|w| [SocketAddr::new(w.address, PORT), w.mesh(), w.application()]);
        gateways.chain(sidecars).chain([SocketAddr::new(self.control_plane, 15012)]).collect()
    }

    /// The titles that it has, each once.
    pub fn titles(&self) -> Vec<Title> {
        let mut titles: Vec<Title> = self.workloads.iter().map(|workload| workload.title).collect();
        titles.dedup();
        titles
    }
}

// === impl Workload ===

impl Workload {
    /// Such as `reviews-v2`.
    pub fn name(&self) -> String {
        format!("{}-{}", self.title.name(), self.version)
    }

    /// The service account: one a service, as in Istio's own example.
    pub fn service_account(&self) -> String {
        format!("bookinfo-{}", self.title.name())
    }

    /// Where the application listens.
    pub fn application(&self) -> SocketAddr {
        SocketAddr::new(self.address, APPLICATION_PORT)
    }

    /// Where its sidecar takes HTTP for the whole mesh.
    pub fn mesh(&self) -> SocketAddr {
        SocketAddr::new(self.mesh, PORT)
    }
}
