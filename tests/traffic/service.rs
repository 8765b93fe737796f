//! The services that every case may use, and how they are declared.

use std::fmt::Write;
use std::net::IpAddr;

/// The namespace of everything.
pub const NAMESPACE: &str = "shop";
/// The namespace of the gateway.
pub const EDGE: &str = "edge";
/// What is added to a service's port where the application stands behind a sidecar.
pub const BEHIND: u16 = 20_000;

/// The port at which a caller's sidecar takes what is for the caller's own application.
pub const INGRESS: u16 = 8000;

/// A service.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    pub name: &'static str,
    pub port: u16,
    /// Its protocol, as a ServiceEntry writes it.
    pub protocol: &'static str,
    pub versions: &'static [&'static str],
}

/// One instance of a service.
#[derive(Debug, Clone)]
pub struct Instance {
    pub service: Service,
    pub version: &'static str,
    pub address: IpAddr,
}

/// All of them.
pub const SERVICES: [Service; 7] = [
    service("reviews", 9080, "HTTP", &["v1", "v2", "v3"]),
    service("ratings", 9080, "HTTP", &["v1", "v2"]),
    service("details", 9080, "HTTP", &["v1"]),
    service("productpage", 9080, "HTTP", &["v1"]),
    service("grpc", 9090, "GRPC", &["v1", "v2"]),
    service("db", 5000, "TCP", &["v1", "v2"]),
    service("secure", 9443, "TLS", &["v1", "v2"]),
];

/// The ports at which a caller's sidecar offers the mesh.
pub const PORTS: [(u16, &str); 4] = [(9080, "HTTP"), (9090, "GRPC"), (5000, "TCP"), (9443, "TLS")];

const fn service(name: &'static str, port: u16, protocol: &'static str, versions: &'static [&'static str]) -> Service {
    Service { name, port, protocol, versions }
}

/// Every instance, each at the address that `at` gives for its index.
pub fn instances(at: impl Fn(u8) -> IpAddr) -> Vec<Instance> {
    let all = SERVICES.iter().flat_map(|service| service.versions.iter().map(move |version| (*service, *version)));
    all.zip(0..).map(|((service, version), index)| Instance { service, version, address: at(index) }).collect()
}

/// The services with plain endpoints, as a cluster without sidecars beside them declares them.
pub fn plain(instances: &[Instance]) -> String {
    let entry = |service: &Service| {
        let mut text = service.entry(false);
        text.push_str("  endpoints:\n");
        for one in instances.iter().filter(|one| one.service.name == service.name) {
            let _ = writeln!(text, "  - {{address: {}, labels: {}}}", one.address, one.labels());
        }
        text
    };
    SERVICES.iter().map(entry).collect()
}

/// The services with a sidecar beside each instance, exported to every cluster.
pub fn behind_sidecars(instances: &[Instance]) -> String {
    let entry = |service: &Service| {
        let mut text = service.entry(true);
        let _ = writeln!(text, "  workloadSelector: {{labels: {{app: {}}}}}", service.name);
        instances
            .iter()
            .filter(|one| one.service.name == service.name)
            .for_each(|one| text.push_str(&one.behind_sidecar()));
        text
    };
    SERVICES.iter().map(entry).collect()
}

/// A caller's Sidecar resource: without root it binds the services' ports itself, at `mesh`. There it also takes what is
/// for the caller's own application, directly in the clear, or as the service `own-NAME` with the mesh's mTLS. Or what a
/// case says (`spec`), the workload being at `own`.
pub fn caller(name: &str, mesh: IpAddr, own: IpAddr, spec: Option<&str>) -> String {
    let mut text = header("Sidecar", name, "");
    let _ = writeln!(text, "  workloadSelector: {{labels: {{caller: {name}}}}}");
    if let Some(spec) = spec {
        let spec = spec.replace("$mesh", &mesh.to_string()).replace("$own", &own.to_string());
        spec.lines().for_each(|line| text.push_str(&format!("  {line}\n")));
        return text;
    }
    let _ = writeln!(
        text,
        "  ingress:\n  - {{port: {{number: {INGRESS}, name: in, protocol: HTTP}}, bind: {mesh}, defaultEndpoint: '0.0.0.0:{}'}}\n  egress:",
        INGRESS + BEHIND
    );
    for (number, protocol) in PORTS {
        let port = format!("{{number: {number}, name: p{number}, protocol: {protocol}}}");
        let _ = writeln!(text, "  - {{port: {port}, bind: {mesh}, captureMode: NONE, hosts: ['*/*']}}");
    }
    text.push_str(&header("ServiceEntry", &format!("own-{name}"), ""));
    let _ = write!(
        text,
        "  hosts: [own-{name}.{NAMESPACE}.svc.cluster.local]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
         ports: [{{number: 9080, name: http, protocol: HTTP, targetPort: {INGRESS}}}]\n  \
         workloadSelector: {{labels: {{caller: {name}}}}}\n"
    );
    text.push_str(&header("WorkloadEntry", &format!("own-{name}"), ""));
    let _ = writeln!(
        text,
        "  {{address: {mesh}, serviceAccount: client, locality: here/a/1, labels: {{app: client, caller: {name}}}}}"
    );
    // A case must not meet the configuration of the one before, which a connection that is kept may still have.
    text.push_str(&header("DestinationRule", &format!("own-{name}"), ""));
    let pool = "{http: {maxRequestsPerConnection: 1}}";
    let _ = writeln!(text, "  {{host: own-{name}, trafficPolicy: {{connectionPool: {pool}}}}}");
    text
}

fn header(kind: &str, name: &str, metadata: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: {kind}\n\
         metadata: {{name: {name}, namespace: {NAMESPACE}{metadata}}}\nspec:\n"
    )
}

// === impl Service ===

impl Service {
    /// The name by which it is called.
    pub fn host(&self) -> String {
        format!("{}.{NAMESPACE}.svc.cluster.local", self.name)
    }

    fn entry(&self, is_exported: bool) -> String {
        let export = if is_exported { ", annotations: {isthmus.io/export: '*'}" } else { "" };
        let (port, protocol) = (self.port, self.protocol);
        let mut text = header("ServiceEntry", self.name, export);
        let _ = write!(
            text,
            "  hosts: [{}]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
             ports: [{{number: {port}, name: p{port}, protocol: {protocol}}}]\n",
            self.host()
        );
        text
    }
}

// === impl Instance ===

impl Instance {
    /// Such as `reviews-v2`.
    pub fn name(&self) -> String {
        format!("{}-{}", self.service.name, self.version)
    }

    fn labels(&self) -> String {
        format!("{{app: {}, version: {}, track: {}}}", self.service.name, self.version, self.track())
    }

    /// A label that several versions share.
    pub fn track(&self) -> &'static str {
        if self.version == "v3" { "canary" } else { "stable" }
    }

    fn behind_sidecar(&self) -> String {
        let (name, labels, service) = (self.name(), self.labels(), self.service);
        let mut text = header("WorkloadEntry", &name, "");
        let _ = writeln!(text, "  {{address: {}, serviceAccount: {}, labels: {labels}}}", self.address, service.name);
        text.push_str(&header("Sidecar", &name, ""));
        let port = format!("{{number: {}, name: in, protocol: {}}}", service.port, service.protocol);
        let _ = write!(
            text,
            "  workloadSelector: {{labels: {labels}}}\n  ingress:\n  \
             - {{port: {port}, bind: {}, defaultEndpoint: '0.0.0.0:{}'}}\n",
            self.address,
            service.port + BEHIND
        );
        text
    }
}
