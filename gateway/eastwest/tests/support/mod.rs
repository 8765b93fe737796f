//! Gateways of several clusters in one process, on loopback, with catalogs written by hand.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

#[path = "../../../tunnel/tests/support/authority.rs"]
pub mod authority;

use authority::Authority;
use identity::{Bundles, Expected, Identity, RegistryKey, anonymous_client_config, server_name};
use isthmus_eastwest::{Gateway, Parts, Settings};
use model::{
    Address, Audience, Catalog, Cluster, Endpoint, Group, GroupId, Host, Locality, Location, NetworkId, Peer, Port,
    Protocol, Resolution, Service, ServiceExport, ServiceImport, ServiceKey,
};
use prometheus_client::registry::Registry;
use rustls::ClientConnection;
use std::collections::BTreeMap;
use std::future::Future;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

pub const PATIENCE: Duration = Duration::from_secs(20);
pub const REVIEWS: &str = "reviews.bookinfo.svc.cluster.local";
pub const SNI: &str = "outbound_.9080_._.reviews.bookinfo.svc.cluster.local";
pub const PORT: u16 = 9080;

/// A cluster's gateway, and what it is told.
pub struct Site {
    pub cluster: Cluster,
    pub catalog: watch::Sender<Arc<Catalog>>,
    pub gateway: Gateway,
    pub shutdown: CancellationToken,
    pub registry_key: Arc<RegistryKey>,
    registry: Registry,
}

/// A workload: says its name to whoever connects, then sends back what it is sent.
pub struct Workload {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

/// How a TCP connection's reading ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

// === impl Site ===

impl Site {
    pub async fn start(own: &Authority, peers: &[&Authority]) -> Self {
        Self::with(own, peers, settings(), None).await
    }

    pub async fn with(own: &Authority, peers: &[&Authority], settings: Settings, store: Option<Store>) -> Self {
        let cluster = cluster(own);
        let (catalog, reader) = watch::channel(Arc::new(Catalog::new(cluster.clone())));
        let mut registry = Registry::default();
        let registry_key = Arc::new(RegistryKey::generate());
        let parts = Parts {
            cluster: cluster.clone(),
            name: "gateway-0".into(),
            identity: own.identity(&own.gateway(), peers),
            peers: peers.iter().map(|peer| (peer.cluster.clone(), peer.domain.clone())).collect(),
            catalog: reader,
            store,
            registry_key: registry_key.clone(),
            metrics: tunnel::Metrics::register(&mut registry),
        };
        let shutdown = CancellationToken::new();
        let nobody = || async { Err::<Channel, _>("there is no control plane") };
        let gateway = Gateway::start(settings, parts, nobody, shutdown.clone()).await.expect("ports");
        Self { cluster, catalog, gateway, shutdown, registry_key, registry }
    }

    /// Tells this gateway of a peer and of where its gateways are.
    pub fn learns_of(&self, peer: &Cluster, addresses: &[SocketAddr]) {
        let gateways = addresses
            .iter()
            .enumerate()
            .map(|(n, address)| (format!("gateway-{n}").into(), vec![address.to_string()]))
            .collect();
        let peer = Peer { cluster: peer.clone(), gateways, health: model::PeerHealth::Live };
        self.catalog.send_modify(|catalog| {
            Arc::make_mut(catalog).peers.insert(peer.cluster.id.clone(), Arc::new(peer));
        });
    }

    /// Learns of `peer`, and returns once a tunnel is up.
    pub async fn joins(&self, peer: &Site) {
        self.learns_of(&peer.cluster, &[peer.gateway.tunnel()]);
        eventually("a tunnel", || self.gateway.peers().path(&peer.cluster.id).connected == 1).await;
    }

    pub fn offers(&self, service: Service) {
        self.catalog.send_modify(|catalog| {
            Arc::make_mut(catalog).services.insert(service.key.clone(), Arc::new(service));
        });
    }

    /// A connection of a sidecar that has said hello.
    pub async fn dial(&self, hello: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.gateway.listen()).await.expect("listening");
        stream.write_all(hello).await.expect("open");
        stream
    }

    /// The name of the workload that answers this hello; or how the connection ended before.
    pub async fn ask(&self, hello: &[u8]) -> Result<u8, End> {
        // A refusal may come before the connection counts as made, or the hello as sent.
        let mut stream = TcpStream::connect(self.gateway.listen()).await.map_err(|error| reset(&error))?;
        stream.write_all(hello).await.map_err(|error| reset(&error))?;
        name(&mut stream).await
    }

    /// What was refused for `reason`, as the metrics tell.
    pub fn refused(&self, peer: &str, reason: &str, direction: &str) -> u64 {
        let labels = format!("{{peer=\"{peer}\",reason=\"{reason}\",direction=\"{direction}\"}} ");
        self.metric(&format!("isthmus_tunnel_refused_total{labels}"))
    }

    pub fn metric(&self, start: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("a String takes all");
        let value = text.lines().find_map(|line| line.strip_prefix(start));
        value.map_or(0, |value| value.parse().expect("a number"))
    }

    pub async fn stop(&self) {
        self.shutdown.cancel();
        in_time("the gateway's end", self.gateway.finished()).await;
    }
}

// === impl Workload ===

impl Workload {
    /// A workload whose name is one byte.
    pub async fn start(name: u8) -> Self {
        let listener = TcpListener::bind(loopback()).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(echo(stream, name));
            }
        });
        Self { address, task }
    }

    pub fn endpoint(&self, own: &Authority) -> Endpoint {
        endpoint(self.address, own)
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn echo(mut stream: TcpStream, name: u8) -> std::io::Result<()> {
    stream.write_all(&[name]).await?;
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}

/// West with a tunnel to east, each told of the other.
pub async fn two() -> (Site, Site, Authority) {
    two_with(settings).await
}

pub async fn two_with(settings: fn() -> Settings) -> (Site, Site, Authority) {
    let (west, east) = (Authority::new("west"), Authority::new("east"));
    let source = Site::with(&west, &[&east], settings(), None).await;
    let destination = Site::with(&east, &[&west], settings(), None).await;
    destination.learns_of(&source.cluster, &[]);
    source.joins(&destination).await;
    (source, destination, east)
}

pub fn settings() -> Settings {
    Settings {
        listen: loopback(),
        tunnel: loopback(),
        first_byte_ms: 3000,
        hello_ms: 500,
        drain_ms: 500,
        ..Settings::default()
    }
}

pub fn cluster(authority: &Authority) -> Cluster {
    let uid = format!("{}-1", authority.cluster).parse().expect("a uid");
    Cluster { id: authority.cluster.clone(), uid, trust_domain: authority.domain.clone() }
}

pub fn key(host: &str) -> ServiceKey {
    ServiceKey { host: host.parse().expect("a host"), namespace: "bookinfo".parse().expect("a namespace") }
}

pub fn port(number: u16) -> Port {
    Port { number, name: "http".to_owned(), protocol: Protocol::Http, target: None }
}

/// A service of the own cluster.
pub fn service(host: &str, audience: &str, endpoints: Vec<Endpoint>) -> Service {
    Service {
        ports: vec![port(PORT)],
        resolution: Resolution::Static,
        location: Location::Internal,
        audience: if audience.is_empty() { Audience::Nobody } else { audience.parse().expect("an audience") },
        endpoints,
        ..Service::new(key(host))
    }
}

/// A service that only these clusters offer, each with the weight beside it.
pub fn imported(host: &str, from: &[(&Cluster, u32)]) -> Service {
    let imports = from.iter().map(|(cluster, weight)| {
        let group = Group {
            id: "v1-00000000".parse().expect("a group"),
            labels: BTreeMap::new(),
            locality: Locality::default(),
            ready: 1,
            weight: *weight,
            identities: std::collections::BTreeSet::new(),
        };
        let export = ServiceExport { key: key(host), ports: vec![port(PORT)], groups: vec![group] };
        (cluster.id.clone(), ServiceImport { cluster: cluster.id.clone(), export })
    });
    Service { imports: imports.collect(), ..service(host, "", Vec::new()) }
}

/// `service` as a peer offers it whose only group is `group`.
pub fn with_group(mut service: Service, group: &GroupId) -> Service {
    for import in service.imports.values_mut() {
        import.export.groups[0].id = group.clone();
    }
    service
}

pub fn endpoint(address: SocketAddr, own: &Authority) -> Endpoint {
    Endpoint {
        address: Address::Ip(address.ip()),
        ports: BTreeMap::from([("http".to_owned(), address.port())]),
        labels: Arc::default(),
        locality: Locality::default(),
        network: NetworkId::default(),
        weight: 1,
        identity: Some(own.member("bookinfo", "reviews")),
        workload: "reviews-v1".into(),
        mtls: true,
    }
}

/// A port on which nothing listens.
pub async fn closed_port() -> SocketAddr {
    TcpListener::bind(loopback()).await.expect("a port").local_addr().expect("bound")
}

/// The hello of a TLS client that asks for `name`.
pub fn hello(name: &str) -> Vec<u8> {
    let config = anonymous_client_config(Bundles::new(&[]).expect("no bundles"), Expected::Any, &[b"istio"]);
    let mut client = ClientConnection::new(config, server_name(name).expect("a name")).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("a hello");
    bytes
}

pub fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// The name of the workload at the other end; or how it ended before it was known.
pub async fn name(stream: &mut TcpStream) -> Result<u8, End> {
    let mut name = [0];
    match in_time("a name", stream.read(&mut name)).await {
        Ok(0) => Err(End::Fin),
        Ok(_) => Ok(name[0]),
        Err(error) => Err(reset(&error)),
    }
}

/// Reads to the end: the bytes, and whether it was an end in order.
pub async fn drain(stream: &mut TcpStream) -> (Vec<u8>, End) {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        match in_time("an end", stream.read(&mut buffer)).await {
            Ok(0) => return (bytes, End::Fin),
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
            Err(error) => return (bytes, reset(&error)),
        }
    }
}

fn reset(error: &std::io::Error) -> End {
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    End::Reset
}

/// Some workload of west's, as a TLS client.
pub fn workload(own: &Authority, others: &[&Authority]) -> Identity {
    own.identity(&own.member("bookinfo", "productpage"), others)
}

pub fn host(text: &str) -> Host {
    text.parse().expect("a host")
}

pub async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not come in time"))
}

/// Polls until `done`, for a while.
pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !done() {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
