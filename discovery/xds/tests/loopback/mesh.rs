//! A server on loopback with a source that a test writes to, and clients that record what they are told.

use api::envoy::envoy::config::cluster::v3::Cluster;
use api::envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use api::envoy::envoy::config::listener::v3::Listener;
use api::envoy::envoy::config::route::v3::RouteConfiguration;
use isthmus_xds::{
    ClientSettings, Event, Interception, Mode, Node, NodeKind, Rejection, Resource, Server, ServerSettings, Sink,
    Snapshot, Source, type_url,
};
use model::WorkloadIdentity;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// A server and what it serves.
pub(crate) struct Mesh {
    pub(crate) address: SocketAddr,
    pub(crate) snapshots: watch::Sender<Arc<Snapshot>>,
    pub(crate) seen: Arc<Mutex<Seen>>,
    pub(crate) shutdown: CancellationToken,
}

/// What the source was told.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) events: Vec<Event>,
    pub(crate) closed: usize,
}

/// One call of the sink: type, changed names, removed names.
pub(crate) type Call = (String, Vec<String>, Vec<String>);

/// What a client was told, and holds.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) calls: Vec<Call>,
    pub(crate) held: BTreeMap<String, BTreeMap<String, Resource>>,
    /// Responses with a resource of this name are rejected.
    pub(crate) refuse: Option<String>,
}

/// A client: its log, and its end.
pub(crate) struct Client {
    pub(crate) log: Arc<Mutex<Log>>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

struct Table {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    seen: Arc<Mutex<Seen>>,
}

struct Recorder(Arc<Mutex<Log>>);

pub(crate) fn identity() -> WorkloadIdentity {
    "spiffe://td/ns/bookinfo/sa/reviews".parse().expect("valid")
}

pub(crate) fn node() -> Node {
    Node {
        id: "sidecar~127.0.0.1~reviews-1.bookinfo~bookinfo.svc.cluster.local".into(),
        kind: NodeKind::Sidecar,
        addresses: vec![[127, 0, 0, 1].into()],
        name: "reviews-1".into(),
        namespace: "bookinfo".parse().expect("valid"),
        cluster: "east".into(),
        network: String::new(),
        locality: model::Locality::default(),
        labels: BTreeMap::new(),
        service_account: "reviews".into(),
        interception: Interception::Redirect,
        own_ports: Vec::new(),
        software: isthmus_xds::Software::Isthmus,
        auto_register_group: String::new(),
        probes: false,
        version: "1.29.0".into(),
    }
}

/// A snapshot from `(type, name, content)`; equal content gives an equal version.
pub(crate) fn snapshot(entries: &[(&'static str, &str, &str)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (of, name, content) in entries {
        let (of_name, name, content) = (Arc::<str>::from(*name), name.to_string(), content.to_string());
        let resource = match *of {
            type_url::CLUSTER => {
                Resource::new(of_name, &Cluster { name, alt_stat_name: content, ..Cluster::default() })
            }
            type_url::ENDPOINT => {
                let body = ClusterLoadAssignment { cluster_name: name, ..ClusterLoadAssignment::default() };
                let mut body = body.encode_to_vec();
                body.extend([0xfa, 0x3e, content.len() as u8]); // an unknown field, 1007, holds the content
                body.extend(content.bytes());
                Resource::from_body(of_name, body.into())
            }
            type_url::LISTENER => {
                Resource::new(of_name, &Listener { name, stat_prefix: content, ..Listener::default() })
            }
            _ => Resource::new(
                of_name,
                &RouteConfiguration { name, internal_only_headers: vec![content], ..RouteConfiguration::default() },
            ),
        };
        snapshot.insert(of, resource);
    }
    snapshot
}

/// Waits until `check` holds; panics with `what` after ten seconds.
pub(crate) async fn until(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !check() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl Mesh {
    pub(crate) async fn start(first: Snapshot, settings: ServerSettings) -> Self {
        Self::start_for(first, settings, Some(identity())).await
    }

    /// A server that takes every client for `peer`.
    pub(crate) async fn start_for(first: Snapshot, settings: ServerSettings, peer: Option<WorkloadIdentity>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let (snapshots, receiver) = watch::channel(Arc::new(first));
        let (seen, shutdown) = (Arc::<Mutex<Seen>>::default(), CancellationToken::new());
        let source = Table { snapshots: receiver, seen: seen.clone() };
        let service = Server::new(source, settings).until(shutdown.clone()).into_service();
        let service = InterceptedService::new(service, move |mut request: Request<()>| {
            if let Some(peer) = &peer {
                request.extensions_mut().insert(peer.clone());
            }
            Ok(request)
        });
        let end = shutdown.clone().cancelled_owned();
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), end),
        );
        Self { address, snapshots, seen, shutdown }
    }

    pub(crate) fn publish(&self, snapshot: Snapshot) {
        self.snapshots.send_replace(Arc::new(snapshot));
    }

    pub(crate) fn nacks(&self) -> usize {
        let seen = self.seen.lock().expect("not poisoned");
        seen.events.iter().filter(|event| matches!(event, Event::Nack { .. })).count()
    }

    pub(crate) fn acks(&self) -> usize {
        let seen = self.seen.lock().expect("not poisoned");
        seen.events.iter().filter(|event| matches!(event, Event::Ack { .. })).count()
    }

    pub(crate) async fn channel(&self) -> Channel {
        connect(self.address).await.expect("the server listens")
    }

    pub(crate) fn client(&self, mode: Mode) -> Client {
        Client::start(Arc::new(Mutex::new(self.address)), mode)
    }
}

pub(crate) async fn connect(address: SocketAddr) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a valid URI");
    ClientSettings::default().tune(endpoint).connect().await
}

impl Client {
    /// A client of whatever server `address` names at the moment.
    pub(crate) fn start(address: Arc<Mutex<SocketAddr>>, mode: Mode) -> Self {
        let (log, shutdown) = (Arc::<Mutex<Log>>::default(), CancellationToken::new());
        let dial = move || {
            let address = *address.lock().expect("not poisoned");
            connect(address)
        };
        let task = tokio::spawn(isthmus_xds::run(dial, node(), mode, Recorder(log.clone()), shutdown.clone()));
        Self { log, shutdown, task }
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.log.lock().expect("not poisoned").calls.clone()
    }

    pub(crate) fn forget_calls(&self) {
        self.log.lock().expect("not poisoned").calls.clear();
    }

    pub(crate) fn refuse(&self, name: Option<&str>) {
        self.log.lock().expect("not poisoned").refuse = name.map(Into::into);
    }

    /// Whether the client holds exactly this.
    pub(crate) fn holds(&self, snapshot: &Snapshot) -> bool {
        let log = self.log.lock().expect("not poisoned");
        let empty = BTreeMap::new();
        type_url::ORDER.into_iter().all(|of| {
            let held = log.held.get(of).unwrap_or(&empty);
            let there = snapshot.get(of);
            held.len() == there.len() && there.iter().all(|(name, resource)| held.get(&**name) == Some(resource))
        })
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("the client ends without panic");
    }
}

impl Source for Table {
    fn open(&self, _: &Node, _: &WorkloadIdentity) -> Result<watch::Receiver<Arc<Snapshot>>, Status> {
        Ok(self.snapshots.clone())
    }

    fn observe(&self, _: &Node, event: Event) {
        self.seen.lock().expect("not poisoned").events.push(event);
    }

    fn closed(&self, _: &Node) {
        self.seen.lock().expect("not poisoned").closed += 1;
    }
}

impl Sink for Recorder {
    fn apply(&mut self, type_url: &str, changed: Vec<Resource>, removed: Vec<Arc<str>>) -> Result<(), Rejection> {
        let mut log = self.0.lock().expect("not poisoned");
        let names = changed.iter().map(|resource| resource.name.to_string()).collect();
        if let Some(refused) = log.refuse.clone().filter(|refused| changed.iter().any(|r| *r.name == **refused)) {
            return Err(Rejection { message: format!("{refused} is refused") });
        }
        log.calls.push((type_url.into(), names, removed.iter().map(ToString::to_string).collect()));
        let held = log.held.entry(type_url.into()).or_default();
        for name in &removed {
            held.remove(&**name);
        }
        held.extend(changed.into_iter().map(|resource| (resource.name.to_string(), resource)));
        // What hangs on a cluster or a listener goes with it.
        for (of, by) in [(type_url::ENDPOINT, type_url::CLUSTER), (type_url::ROUTE, type_url::LISTENER)] {
            let owners: BTreeSet<String> =
                log.held.get(by).into_iter().flatten().map(|(name, _)| name.clone()).collect();
            log.held.entry(of.into()).or_default().retain(|name, _| owners.contains(name));
        }
        Ok(())
    }

    /// Endpoints for every cluster, routes for every listener, by equal names.
    fn wanted(&self, type_url: &str) -> BTreeSet<Arc<str>> {
        let by = match type_url {
            type_url::ENDPOINT => type_url::CLUSTER,
            type_url::ROUTE => type_url::LISTENER,
            _ => return BTreeSet::new(),
        };
        let log = self.0.lock().expect("not poisoned");
        log.held.get(by).into_iter().flatten().map(|(name, _)| name.as_str().into()).collect()
    }
}
