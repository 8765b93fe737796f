//! One more application on each side, with every kind of port: `echo` in east, and a client in west.

use crate::fixture::Mesh;
use isthmus::settings::{self, SidecarProcess};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where the two of a range are.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    /// The echo's own address, behind its sidecar.
    pub echo: IpAddr,
    /// Where the client's sidecar offers it the mesh.
    pub mesh: IpAddr,
}

/// The host under which west knows the echo.
pub const HOST: &str = "echo.bookinfo.svc.cluster.local";
pub const HTTP: u16 = 9080;
pub const GRPC: u16 = 9090;
pub const TCP: u16 = 9100;
pub const TLS: u16 = 9443;
/// The application's ports are the service's and this.
pub const BEHIND: u16 = 10_000;

impl Pair {
    /// Puts both into a mesh that runs in 127.`range`.0.0/16.
    pub fn join(mesh: &mut Mesh, range: u8) -> Self {
        let at = |cluster: u8, host: u8| IpAddr::V4(Ipv4Addr::new(127, range, cluster, host));
        let pair = Self { echo: at(2, 150), mesh: at(1, 151) };
        let east = mesh.home().join("east/resources/echo.yaml");
        std::fs::write(east, pair.echo_resources()).expect("the file is written");
        let west = mesh.home().join("west/resources/client.yaml");
        std::fs::write(west, pair.client_resources()).expect("the file is written");
        mesh.add("echo-sidecar", sidecar(mesh, "east/details-v1-sidecar.yaml", "echo", pair.echo));
        mesh.add("client-sidecar", sidecar(mesh, "west/productpage-v1-sidecar.yaml", "client", at(1, 150)));
        pair
    }

    /// Where the client's sidecar listens for the service's port.
    pub fn at(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.mesh, port)
    }

    /// Where the application listens for the service's port.
    pub fn behind(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.echo, port + BEHIND)
    }

    fn echo_resources(self) -> String {
        let ports = [(HTTP, "http", "HTTP"), (GRPC, "grpc", "GRPC"), (TCP, "tcp", "TCP"), (TLS, "tls", "TLS")];
        let port = |(number, name, protocol): (u16, &str, &str)| {
            format!("{{number: {number}, name: {name}, protocol: {protocol}}}")
        };
        let ingress = ports.map(|one| {
            let (address, behind) = (self.echo, one.0 + BEHIND);
            format!("  - {{port: {}, bind: {address}, defaultEndpoint: '0.0.0.0:{behind}'}}\n", port(one))
        });
        format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: echo, namespace: bookinfo, annotations: {{isthmus.io/export: west}}}}
spec:
  hosts: [{HOST}]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{}]
  workloadSelector: {{labels: {{app: echo}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: echo, namespace: bookinfo}}
spec: {{address: {}, serviceAccount: bookinfo-details, labels: {{app: echo}}}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: echo, namespace: bookinfo}}
spec:
  workloadSelector: {{labels: {{app: echo}}}}
  ingress:
{}",
            ports.map(port).join(", "),
            self.echo,
            ingress.concat()
        )
    }

    fn client_resources(self) -> String {
        let listeners = [(HTTP, "HTTP"), (GRPC, "GRPC"), (TCP, "TCP"), (TLS, "TLS")].map(|(number, protocol)| {
            let port = format!("{{number: {number}, name: p{number}, protocol: {protocol}}}");
            format!("  - {{port: {port}, bind: {}, hosts: ['*/{HOST}']}}\n", self.mesh)
        });
        format!(
            "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: client, namespace: bookinfo}}
spec:
  workloadSelector: {{labels: {{app: client}}}}
  egress:
{}",
            listeners.concat()
        )
    }
}

/// The settings of a sidecar of the plan, for another workload of the same service account.
pub fn sidecar(mesh: &Mesh, like: &str, name: &str, address: IpAddr) -> SidecarProcess {
    let mut settings: SidecarProcess = settings::read(&mesh.home().join(like)).expect("settings");
    settings.workload.name = name.to_owned();
    settings.workload.addresses = vec![address];
    settings.workload.labels = [("app".to_owned(), name.to_owned())].into();
    settings.telemetry.metrics.set_ip(address);
    settings.telemetry.readiness = None;
    settings.admin.set_ip(address);
    settings.dns = None;
    settings
}
