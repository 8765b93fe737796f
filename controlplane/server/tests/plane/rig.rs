//! What the tests are made of: a control plane over a directory, and proxies that record what they are told.

use api::envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use ca::{Authority, SelfSigned, TokenKey};
use identity::{Bundles, CaClient, Expected, Identity, RegistryKey, client_config, enroll, grpc, server_name};
use isthmus_controlplane::{ControlPlane, Metrics, Parts, Settings};
use model::{Cluster, TrustBundle, WorkloadIdentity};
use prost::Message;
use registry::Registry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use xds::{ClientSettings, Interception, Mode, Node, NodeKind, Rejection, Resource, Sink, type_url};

pub(crate) const DOMAIN: &str = "east.example";
const NAME: &str = "controlplane.isthmus-system.svc";
const DAY: Duration = Duration::from_hours(24);

/// A control plane and its world.
pub(crate) struct Plane {
    pub(crate) directory: TempDir,
    pub(crate) running: ControlPlane,
    pub(crate) registry: Registry,
    pub(crate) root: String,
    tokens: Arc<TokenKey>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) metrics: prometheus_client::registry::Registry,
}

/// What a proxy was told, and holds.
#[derive(Default)]
pub(crate) struct Told {
    /// Type URL, changed names, removed names.
    pub(crate) calls: Vec<(String, Vec<String>, Vec<String>)>,
    pub(crate) held: BTreeMap<(String, String), Resource>,
    /// Rejects the next response of this type.
    pub(crate) reject: Option<&'static str>,
}

/// A proxy that wants the endpoints of all upstreams, and the routes it was started with.
pub(crate) struct Proxy {
    pub(crate) told: Arc<Mutex<Told>>,
    pub(crate) shutdown: CancellationToken,
}

struct Recorder {
    told: Arc<Mutex<Told>>,
    routes: BTreeSet<Arc<str>>,
}

/// Waits until `check` holds; says what did not come.
pub(crate) async fn until(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !check() {
        assert!(Instant::now() < deadline, "it never came: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn node(namespace: &str, account: &str, interception: Interception) -> Node {
    Node {
        id: format!("sidecar~127.0.0.1~{account}-1.{namespace}~{namespace}.svc.cluster.local"),
        kind: NodeKind::Sidecar,
        addresses: vec![[127, 0, 0, 1].into()],
        name: format!("{account}-1"),
        namespace: namespace.parse().expect("valid"),
        cluster: "east".into(),
        network: String::new(),
        locality: model::Locality::default(),
        labels: BTreeMap::new(),
        service_account: account.into(),
        interception,
        own_ports: Vec::new(),
        software: xds::Software::Isthmus,
        auto_register_group: String::new(),
        probes: false,
        version: String::new(),
    }
}

pub(crate) fn service_entry(name: &str, address: &str, port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: {name}
  namespace: shop
spec:
  hosts: [{name}.shop.svc.cluster.local]
  addresses: [240.240.7.7]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - number: {port}
    name: http
    protocol: HTTP
  endpoints:
  - address: {address}
    serviceAccount: {name}
    labels:
      security.istio.io/tlsMode: istio
---
"
    )
}

pub(crate) fn upstream(name: &str, port: u16) -> String {
    format!("outbound|{port}||{name}.shop.svc.cluster.local")
}

// === impl Plane ===

impl Plane {
    /// A control plane of the cluster `east`, with these files.
    pub(crate) async fn start(files: &[(&str, &str)]) -> Self {
        Self::start_with(files, &Settings::default()).await
    }

    pub(crate) async fn start_with(files: &[(&str, &str)], settings: &Settings) -> Self {
        let directory = TempDir::new().expect("a folder");
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).expect("written");
        }
        let cluster = cluster();
        let made = SelfSigned::generate(&cluster.trust_domain).expect("made");
        let authority =
            Authority::from_pem(&made.certificate, &made.key, &made.certificate, "", DAY).expect("an authority");
        let tokens = TokenKey::from_pem(cluster.trust_domain.clone(), &TokenKey::generate().expect("made"));
        let tokens = Arc::new(tokens.expect("a key"));
        let mut metrics = prometheus_client::registry::Registry::default();
        let shutdown = CancellationToken::new();
        let registry = registry(&cluster, directory.path(), &made.certificate, &mut metrics, &shutdown);
        let parts =
            Parts { cluster, registry: registry.clone(), authority: Arc::new(authority), tokens: tokens.clone() };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let counted = Metrics::register(&mut metrics);
        let running = ControlPlane::start(listener, parts, settings, counted, &shutdown).expect("started");
        Self { directory, running, registry, root: made.certificate, tokens, shutdown, metrics }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.address()
    }

    /// Writes a file as a careful editor would.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let aside = self.directory.path().join(format!(".{name}.tmp"));
        std::fs::write(&aside, text).expect("written");
        std::fs::rename(aside, self.directory.path().join(name)).expect("renamed");
    }

    /// The identity of `account`, by token, over the wire.
    pub(crate) async fn enrol(&self, namespace: &str, account: &str) -> Identity {
        let bundle = TrustBundle { trust_domain: cluster().trust_domain, pem: self.root.as_str().into() };
        let bundles = Bundles::new([&bundle]).expect("roots");
        let ca = CaClient {
            address: self.address().to_string(),
            server_name: NAME.to_owned(),
            expected: Expected::one(controlplane()),
            ttl: DAY,
        };
        let namespace: model::Namespace = namespace.parse().expect("valid");
        let who = WorkloadIdentity::new(cluster().trust_domain, namespace.clone(), account).expect("valid");
        let token = self.tokens.mint(&namespace, account, Duration::from_mins(10)).expect("minted");
        let certificate = enroll(&ca, &bundles, &who, &token).await.expect("a certificate");
        Identity::new(certificate, bundles)
    }

    pub(crate) async fn channel(&self, identity: &Identity) -> Channel {
        channel(self.address(), identity).await.expect("connected")
    }

    /// A proxy that connects as `node` and tells what is known of its workload's health.
    pub(crate) fn telling(
        &self,
        identity: &Identity,
        node: Node,
        mode: Mode,
        health: tokio::sync::watch::Receiver<xds::Health>,
    ) -> Proxy {
        let proxy = Proxy { told: Arc::default(), shutdown: self.shutdown.child_token() };
        let sink = Recorder { told: proxy.told.clone(), routes: BTreeSet::new() };
        let (address, identity) = (self.address(), identity.clone());
        let connect = move || {
            let identity = identity.clone();
            async move { channel(address, &identity).await }
        };
        let settings = ClientSettings { mode, ..ClientSettings::default() };
        tokio::spawn(xds::run_with_health(connect, node, settings, sink, health, proxy.shutdown.clone()));
        proxy
    }

    /// A proxy that connects as `node` with the certificate of `identity`.
    pub(crate) fn proxy(&self, identity: &Identity, node: Node, mode: Mode, routes: &[&str]) -> Proxy {
        let proxy = Proxy { told: Arc::default(), shutdown: self.shutdown.child_token() };
        let sink = Recorder { told: proxy.told.clone(), routes: routes.iter().map(|name| (*name).into()).collect() };
        let (address, identity) = (self.address(), identity.clone());
        let connect = move || {
            let identity = identity.clone();
            async move { channel(address, &identity).await }
        };
        let settings = ClientSettings { mode, ..ClientSettings::default() };
        tokio::spawn(xds::run(connect, node, settings, sink, proxy.shutdown.clone()));
        proxy
    }

    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).expect("encodes");
        text
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.running.stopped()).await.expect("it stops");
    }
}

fn cluster() -> Cluster {
    let valid = "valid";
    Cluster {
        id: "east".parse().expect(valid),
        uid: "east-1".parse().expect(valid),
        trust_domain: DOMAIN.parse().expect(valid),
    }
}

fn controlplane() -> WorkloadIdentity {
    format!("spiffe://{DOMAIN}/ns/isthmus-system/sa/controlplane").parse().expect("valid")
}

fn registry(
    cluster: &Cluster,
    directory: &Path,
    root: &str,
    metrics: &mut prometheus_client::registry::Registry,
    shutdown: &CancellationToken,
) -> Registry {
    let bundle = TrustBundle { trust_domain: cluster.trust_domain.clone(), pem: root.into() };
    let key = Arc::new(RegistryKey::generate());
    let mut settings = registry::Settings::new(cluster.clone(), key, directory.to_owned(), bundle);
    settings.controller = Some(registry::Controller {
        name: "plane".to_owned(),
        grace: Duration::from_millis(200),
        orphan: DAY,
        most: 10,
    });
    let counted = registry::Metrics::register(metrics);
    Registry::start(settings, None, counted, shutdown).expect("started")
}

async fn channel(address: SocketAddr, identity: &Identity) -> Result<Channel, identity::IdentityError> {
    let tls = client_config(identity, Expected::one(controlplane()), &[b"h2"]);
    grpc::connect(&address.to_string(), tls, server_name(NAME)?).await
}

// === impl Proxy ===

impl Proxy {
    pub(crate) fn holds(&self, type_url: &str, name: &str) -> bool {
        self.told().held.contains_key(&(type_url.to_owned(), name.to_owned()))
    }

    pub(crate) fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().expect("no test panics in it")
    }

    /// The held resource, decoded.
    pub(crate) fn get<M: Message + Default>(&self, type_url: &str, name: &str) -> M {
        let told = self.told();
        let resource = told.held.get(&(type_url.to_owned(), name.to_owned())).expect("held");
        M::decode(&resource.body[..]).expect("decodes")
    }

    /// How many endpoints it holds of an upstream; none if it holds no assignment.
    pub(crate) fn endpoints(&self, upstream: &str) -> Option<usize> {
        if !self.holds(type_url::ENDPOINT, upstream) {
            return None;
        }
        let assignment: ClusterLoadAssignment = self.get(type_url::ENDPOINT, upstream);
        Some(assignment.endpoints.iter().map(|locality| locality.lb_endpoints.len()).sum())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Sink for Recorder {
    fn apply(&mut self, of: &str, changed: Vec<Resource>, removed: Vec<Arc<str>>) -> Result<(), Rejection> {
        let mut told = self.told.lock().expect("no test panics in it");
        if told.reject.take_if(|reject| *reject == of).is_some() {
            return Err(Rejection { message: "not today".to_owned() });
        }
        let names = changed.iter().map(|resource| resource.name.to_string()).collect();
        told.calls.push((of.to_owned(), names, removed.iter().map(ToString::to_string).collect()));
        for name in removed {
            told.held.remove(&(of.to_owned(), name.to_string()));
        }
        for resource in changed {
            told.held.insert((of.to_owned(), resource.name.to_string()), resource);
        }
        Ok(())
    }

    fn wanted(&self, of: &str) -> BTreeSet<Arc<str>> {
        let told = self.told.lock().expect("no test panics in it");
        let upstreams = told.held.keys().filter(|(held, _)| held == type_url::CLUSTER);
        match of {
            type_url::ENDPOINT => upstreams
                .map(|(_, name)| name.as_str())
                .filter(|name| name.starts_with("outbound|"))
                .map(Into::into)
                .collect(),
            type_url::ROUTE => self.routes.clone(),
            type_url::SECRET => ["ROOTCA".into()].into(),
            _ => BTreeSet::new(),
        }
    }
}
