//! What the tests of this folder share: a directory, a registry over it, and waiting for what must come.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use identity::RegistryKey;
use isthmus_registry::{Metrics, PeerSettings, Registry, Settings, Status};
use model::{Catalog, Cluster, ServiceKey, TrustBundle};
use prometheus_client::encoding::text::encode;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use tokio_util::sync::CancellationToken;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A registry that runs, and its directory.
pub struct Running {
    pub registry: Registry,
    pub directory: tempfile::TempDir,
    pub shutdown: CancellationToken,
    metrics: prometheus_client::registry::Registry,
}

pub fn cluster(id: &str) -> Cluster {
    Cluster {
        id: id.parse().expect("an id"),
        uid: format!("{id}-1").parse().expect("a uid"),
        trust_domain: format!("{id}.example").parse().expect("a trust domain"),
    }
}

/// The roots of a new certificate authority.
pub fn roots() -> String {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut parameters = rcgen::CertificateParams::default();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    parameters.self_signed(&key).expect("a certificate").pem()
}

pub fn peer(id: &str, key: &RegistryKey) -> PeerSettings {
    let cluster = cluster(id);
    PeerSettings {
        cluster: id.to_owned(),
        uid: cluster.uid.to_string(),
        trust_domain: cluster.trust_domain.to_string(),
        roots: roots(),
        registry_key: key.public().to_string(),
    }
}

pub fn settings(directory: &Path) -> Settings {
    let cluster = cluster("east");
    let bundle = TrustBundle { trust_domain: cluster.trust_domain.clone(), pem: roots().into() };
    Settings::new(cluster, Arc::new(RegistryKey::generate()), directory.to_owned(), bundle)
}

pub fn key(namespace: &str, host: &str) -> ServiceKey {
    ServiceKey { host: host.parse().expect("a host"), namespace: namespace.parse().expect("a namespace") }
}

/// A ServiceEntry `NAME.shop` with this port.
pub fn entry(name: &str, port: u32) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  hosts: [{name}.shop]\n  ports: [{{number: {port}, name: http, protocol: HTTP}}]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  endpoints: [{{address: 10.0.0.1, serviceAccount: web}}]\n"
    )
}

pub fn start(directory: tempfile::TempDir, change: impl FnOnce(&mut Settings), store: Option<Store>) -> Running {
    let mut settings = settings(directory.path());
    change(&mut settings);
    let (shutdown, mut metrics) = (CancellationToken::new(), prometheus_client::registry::Registry::default());
    let registered = Metrics::register(&mut metrics);
    let registry = Registry::start(settings, store, registered, &shutdown).expect("good settings");
    Running { registry, directory, shutdown, metrics }
}

impl Running {
    pub fn catalog(&self) -> Arc<Catalog> {
        self.registry.catalog.borrow().clone()
    }

    /// The names of the services, without their domain.
    pub fn names(&self) -> Vec<String> {
        let name = |key: &ServiceKey| key.host.as_str().split('.').next().unwrap_or_default().to_owned();
        self.catalog().services.keys().map(name).collect()
    }

    pub async fn until(&self, what: &str, test: impl Fn(&Catalog) -> bool) -> Arc<Catalog> {
        let mut catalog = self.registry.catalog.clone();
        let found = tokio::time::timeout(PATIENCE, catalog.wait_for(|catalog| test(catalog))).await;
        match found {
            Ok(catalog) => catalog.expect("the registry runs").clone(),
            Err(late) => panic!("{what}: {late}: {:#?}\n{:#?}", self.catalog(), self.registry.status.borrow()),
        }
    }

    pub async fn until_status(&self, what: &str, test: impl Fn(&Status) -> bool) -> Arc<Status> {
        let mut status = self.registry.status.clone();
        let found = tokio::time::timeout(PATIENCE, status.wait_for(|status| test(status))).await;
        match found {
            Ok(status) => status.expect("the registry runs").clone(),
            Err(late) => panic!("{what}: {late}: {:#?}", self.registry.status.borrow()),
        }
    }

    pub fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.metrics).expect("text");
        text
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.registry.stopped()).await.expect("all tasks end");
    }
}
