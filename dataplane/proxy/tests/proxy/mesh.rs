//! A mesh of one process: certificates, what the control plane would tell, and sidecars that run.

use arc_swap::ArcSwap;
use config::{CaptureMode, DefaultEndpoint, EgressListener, IngressListener, Intent, Sidecar as Resource};
use dns::Zone;
use identity::{Bundles, Identity, WorkloadCertificate};
use isthmus_proxy::{Metrics, Owner, Parts, ProxyError, Settings, Sidecar};
use model::{
    Address, Catalog, Cluster, Endpoint, Location, NetworkId, Port, Protocol, Resolution, Service, ServiceKey,
    TrustBundle, WorkloadIdentity,
};
use prometheus_client::registry::Registry;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use xds::{Interception, Node, NodeKind, Rejection, Sink, Snapshot, type_url};

pub(crate) const HOST: &str = "echo.shop.svc.cluster.local";
/// How long anything may take that must happen.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A certificate authority.
pub(crate) struct Root {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A service as callers see it.
#[derive(Clone)]
pub(crate) struct Offer {
    pub(crate) host: &'static str,
    /// Its port, which is the port of the caller's listener too.
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    /// Where it is, and under which account with mTLS; in the clear without one.
    pub(crate) endpoints: Vec<(SocketAddr, Option<&'static str>)>,
}

/// What a workload takes: its port, what is spoken there, and where the application is.
pub(crate) type Ingress = (u16, Protocol, SocketAddr);

/// The own cluster.
pub(crate) struct Mesh {
    pub(crate) root: Root,
}

/// A sidecar that runs.
pub(crate) struct Running {
    sink: Box<dyn Sink>,
    held: Snapshot,
    metrics: Registry,
    ready: watch::Receiver<bool>,
    decisions: Box<dyn Fn() -> String + Send + Sync>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), ProxyError>>,
}

/// A caller's sidecar, a server's, and the application behind it.
pub(crate) struct Pair {
    pub(crate) mesh: Mesh,
    pub(crate) client: Running,
    pub(crate) server: Running,
    /// Where the caller's application asks.
    pub(crate) entry: SocketAddr,
    /// Where the server's sidecar listens.
    pub(crate) inbound: SocketAddr,
}

// === impl Root ===

impl Root {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).expect("a root").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub(crate) fn bundle(&self, domain: &str) -> TrustBundle {
        TrustBundle { trust_domain: text(domain), pem: self.pem.as_str().into() }
    }

    pub(crate) fn certificate(&self, identity: &str) -> WorkloadCertificate {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(identity.try_into().expect("ASCII"))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.is_ca = IsCa::ExplicitNoCa;
        params.not_before = (SystemTime::now() - Duration::from_mins(5)).into();
        params.not_after = (SystemTime::now() + Duration::from_hours(1)).into();
        let leaf = params.signed_by(&key, &self.issuer).expect("a leaf").pem();
        WorkloadCertificate::from_pem(&leaf, &key.serialize_pem()).expect("a good certificate")
    }
}

// === impl Mesh ===

impl Mesh {
    pub(crate) fn new() -> Self {
        Self { root: Root::new() }
    }

    /// A sidecar of this account that nothing was told yet.
    pub(crate) fn start(&self, account: &str, settings: Settings) -> Running {
        let certificate = self.root.certificate(&spiffe(account));
        start(certificate, &self.root.bundle("east.example"), account, settings)
    }

    /// Somebody of this account who is no sidecar.
    pub(crate) fn identity(&self, account: &str) -> Identity {
        let bundles = Bundles::new([&self.root.bundle("east.example")]).expect("a good bundle");
        Identity::new(self.root.certificate(&spiffe(account)), bundles)
    }

    /// What a caller's sidecar is told.
    pub(crate) fn outbound(&self, offers: &[Offer]) -> Snapshot {
        let egress = offers.iter().map(egress).collect();
        self.translated("caller", offers, vec![], egress, Intent::default())
    }

    /// What a server's sidecar is told.
    pub(crate) fn inbound(&self, ingress: &[Ingress]) -> Snapshot {
        self.inbound_under(ingress, "")
    }

    /// The same under the policies of `resources`.
    pub(crate) fn inbound_under(&self, ingress: &[Ingress], resources: &str) -> Snapshot {
        let listener = |(port, protocol, application): &Ingress| IngressListener {
            port: *port,
            name: String::new(),
            protocol: *protocol,
            bind: Some(Ipv4Addr::LOCALHOST.into()),
            capture: CaptureMode::Default,
            default_endpoint: DefaultEndpoint::Socket(*application),
            tls: None,
            pool: None,
        };
        let documents = resource::parse("policies.yaml", resources).expect("documents").documents;
        let intent = Intent::from_documents(&documents).expect("an intent");
        self.translated("server", &[], ingress.iter().map(listener).collect(), vec![], intent)
    }

    /// The sidecars of `caller` and `server`, and the application behind the latter.
    pub(crate) async fn pair(self, protocol: Protocol, application: SocketAddr) -> Pair {
        self.pair_with(protocol, application, Settings::default()).await
    }

    pub(crate) async fn pair_with(self, protocol: Protocol, application: SocketAddr, settings: Settings) -> Pair {
        let (entry, inbound) = (reserved(), reserved());
        let mut server = self.start("server", settings.clone());
        server.feed(self.inbound(&[(inbound.port(), protocol, application)])).expect("accepted");
        server.is_ready().await;
        let mut client = self.start("caller", settings);
        let endpoints = vec![(inbound, Some("server"))];
        let offer = Offer { host: HOST, port: entry.port(), protocol, endpoints };
        client.feed(self.outbound(&[offer])).expect("accepted");
        client.is_ready().await;
        Pair { mesh: self, client, server, entry, inbound }
    }

    fn translated(
        &self,
        account: &str,
        offers: &[Offer],
        ingress: Vec<IngressListener>,
        egress: Vec<EgressListener>,
        intent: Intent,
    ) -> Snapshot {
        let sidecar = Resource {
            namespace: text("shop"),
            name: "default".into(),
            workload_selector: None,
            ingress,
            egress,
            outbound_policy: None,
            egress_proxy: None,
            inbound_pool: None,
        };
        let intent = Intent { sidecars: vec![sidecar], ..intent };
        let identity: WorkloadIdentity = text(&spiffe(account));
        translate::translate(&self.catalog(offers), &intent, &node(account), &identity)
    }

    /// What a router is told that serves what `intent` says.
    pub(crate) fn at_edge(&self, offers: &[Offer], intent: &Intent) -> Snapshot {
        let id = "router~127.0.0.1~edge-1.shop~shop.svc.cluster.local".to_owned();
        let node = Node { id, kind: NodeKind::Router, ..node("edge") };
        translate::translate(&self.catalog(offers), intent, &node, &text(&spiffe("edge")))
    }

    fn catalog(&self, offers: &[Offer]) -> Catalog {
        let cluster = Cluster { id: text("east"), uid: text("east-1"), trust_domain: text("east.example") };
        let mut catalog = Catalog::new(cluster);
        for service in offers.iter().map(service) {
            catalog.services.insert(service.key.clone(), Arc::new(service));
        }
        catalog.bundles.insert(text("east.example"), self.root.bundle("east.example"));
        catalog
    }
}

fn egress(offer: &Offer) -> EgressListener {
    EgressListener {
        port: Some(offer.port),
        name: String::new(),
        protocol: offer.protocol,
        bind: None,
        capture: CaptureMode::Default,
        hosts: vec![text("*/*")],
    }
}

fn service(offer: &Offer) -> Service {
    let endpoint = |(address, account): &(SocketAddr, Option<&'static str>)| Endpoint {
        address: Address::Ip(address.ip()),
        ports: [("p".to_owned(), address.port())].into(),
        labels: Arc::new([("app".to_owned(), "echo".to_owned()), ("version".to_owned(), "v1".to_owned())].into()),
        locality: text("eu/a"),
        network: NetworkId::default(),
        weight: 1,
        identity: account.map(|account| text(&spiffe(account))),
        workload: "echo-1".into(),
        mtls: account.is_some(),
    };
    Service {
        ports: vec![Port { number: offer.port, name: "p".into(), protocol: offer.protocol, target: None }],
        resolution: Resolution::Static,
        location: Location::Internal,
        endpoints: offer.endpoints.iter().map(endpoint).collect(),
        ..Service::new(ServiceKey { host: text(offer.host), namespace: text("shop") })
    }
}

fn node(account: &str) -> Node {
    Node {
        id: format!("sidecar~127.0.0.1~{account}-1.shop~shop.svc.cluster.local"),
        kind: NodeKind::Sidecar,
        addresses: vec![Ipv4Addr::LOCALHOST.into()],
        name: format!("{account}-1"),
        namespace: text("shop"),
        cluster: "east".into(),
        network: String::new(),
        locality: model::Locality::default(),
        labels: BTreeMap::new(),
        service_account: account.into(),
        interception: Interception::None,
        own_ports: Vec::new(),
        software: xds::Software::Isthmus,
        auto_register_group: String::new(),
        probes: false,
        version: String::new(),
    }
}

/// A sidecar that shows `certificate`, and knows the roots of its own trust domain only.
pub(crate) fn start(certificate: WorkloadCertificate, own: &TrustBundle, account: &str, settings: Settings) -> Running {
    let mut metrics = Registry::default();
    let owner = Owner {
        workload: format!("{account}-1"),
        namespace: "shop".into(),
        app: account.into(),
        version: "v1".into(),
        cluster: "east".into(),
        principal: certificate.identity.to_string(),
    };
    let parts = Parts {
        identity: Identity::new(certificate, Bundles::new([own]).expect("a good bundle")),
        own_bundle: own.clone(),
        owner,
        namespace: text("shop"),
        metrics: Metrics::register(&mut metrics),
        zone: Arc::new(ArcSwap::from_pointee(Zone::default())),
    };
    let (sidecar, sink) = Sidecar::new(settings, parts);
    let (ready, shutdown) = (sidecar.ready(), CancellationToken::new());
    let decisions = Box::new(sidecar.decisions());
    let task = tokio::spawn(sidecar.run(shutdown.clone()));
    Running { sink: Box::new(sink), held: Snapshot::default(), metrics, ready, decisions, shutdown, task }
}

// === impl Running ===

impl Running {
    /// Tells it everything, as the control plane would: what changed, and what is gone.
    pub(crate) fn feed(&mut self, snapshot: Snapshot) -> Result<(), Rejection> {
        for kind in type_url::ORDER {
            let (old, new) = (self.held.get(kind), snapshot.get(kind));
            let changed = new.values().filter(|resource| old.get(&resource.name) != Some(resource)).cloned().collect();
            let removed = old.keys().filter(|name| !new.contains_key(*name)).cloned().collect();
            self.sink.apply(kind, changed, removed)?;
        }
        self.held = snapshot;
        Ok(())
    }

    /// Tells it the resources of one type only.
    pub(crate) fn apply_only(&mut self, kind: &str, snapshot: &Snapshot) -> Result<(), Rejection> {
        self.sink.apply(kind, snapshot.get(kind).values().cloned().collect(), vec![])
    }

    pub(crate) fn says_ready(&self) -> bool {
        *self.ready.borrow()
    }

    pub(crate) async fn is_ready(&mut self) {
        timeout(LIMIT, self.ready.wait_for(|ready| *ready)).await.expect("ready in time").expect("it runs");
    }

    /// What would be done with a request of each name.
    pub(crate) fn decisions(&self) -> String {
        (self.decisions)()
    }

    /// The sum of the metric's samples that bear these labels; whole numbers only.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).expect("a string takes all");
        let bears = |line: &&str| labels.iter().all(|(key, value)| line.contains(&format!("{key}=\"{value}\"")));
        let is_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let samples = text.lines().filter(is_it).filter(bears);
        samples.filter_map(|line| line.rsplit(' ').next()?.trim_end_matches(".0").parse::<u64>().ok()).sum()
    }

    /// Shuts it down; it must have ended within `limit`.
    pub(crate) async fn end(self, limit: Duration) {
        self.shutdown.cancel();
        timeout(limit, self.task).await.expect("ended in time").expect("no panic").expect("no error");
    }
}

pub(crate) fn spiffe(account: &str) -> String {
    format!("spiffe://east.example/ns/shop/sa/{account}")
}

pub(crate) fn text<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("valid")
}

/// A port of loopback that nobody listens on, and nobody else is given while the tests run: it stays bound.
pub(crate) fn reserved() -> SocketAddr {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("an option");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    let address = socket.local_addr().expect("bound").as_socket().expect("IPv4");
    std::mem::forget(socket);
    address
}

/// Polls until `done`.
pub(crate) async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !done().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}: not within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
