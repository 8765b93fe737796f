//! Peers through a real store: the embedded server, its restart, and what an adversary may write into it.

mod support;

use identity::RegistryKey;
use model::{ClusterId, Group, PeerHealth, Port, Protocol, ServiceExport};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use store::{ClientSettings, Key, Payload, Position, Record, Store, embedded};
use support::{PATIENCE, Running, cluster, entry, key, peer, start};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// An embedded store on one address, which can be stopped and started again.
struct Server {
    address: SocketAddr,
    data: tempfile::TempDir,
    running: Option<(CancellationToken, JoinHandle<()>)>,
}

/// The peer `west` as it writes.
struct West {
    key: RegistryKey,
    store: Store,
}

impl Server {
    async fn start() -> Self {
        let data = tempfile::tempdir().expect("a directory");
        let mut server = Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), data, running: None };
        server.up().await;
        server
    }

    async fn up(&mut self) {
        let path: &Path = self.data.path();
        let settings = embedded::Settings { listen: self.address, data: path.to_owned(), ..Default::default() };
        let shutdown = CancellationToken::new();
        let server = embedded::Server::bind(settings, shutdown.clone()).await.expect("bound");
        self.address = server.address().expect("an address");
        let task = tokio::spawn(async move { server.run().await.expect("served") });
        self.running = Some((shutdown, task));
    }

    async fn down(&mut self) {
        let (shutdown, task) = self.running.take().expect("it runs");
        shutdown.cancel();
        tokio::time::timeout(PATIENCE, task).await.expect("it ends").expect("well");
    }

    async fn store(&self) -> Store {
        let endpoints = vec![format!("http://{}", self.address)];
        Store::connect(ClientSettings { endpoints, ..Default::default() }, None).await.expect("a client")
    }
}

impl West {
    async fn new(server: &Server) -> Self {
        Self { key: RegistryKey::generate(), store: server.store().await }
    }

    fn service_key(host: &str) -> Key {
        let shop = "shop".parse().expect("a namespace");
        Key::service("west".parse().expect("an id"), None, shop, host.parse().expect("a host"))
    }

    fn record(key: Key, sequence: u64, payload: Payload) -> Record {
        Record { key, uid: cluster("west").uid, position: Position { epoch: 1, sequence }, payload }
    }

    fn service(host: &str, sequence: u64, port: u16) -> Record {
        let group = Group {
            id: "v1".parse().expect("a group"),
            labels: BTreeMap::new(),
            locality: "r/z".parse().expect("a locality"),
            ready: 2,
            weight: 2,
            identities: BTreeSet::from(["spiffe://west.example/ns/shop/sa/web".parse().expect("an identity")]),
        };
        let ports = vec![Port { number: port, name: "http".into(), protocol: Protocol::Http, target: None }];
        let export = ServiceExport { key: key("shop", host), ports, groups: vec![group] };
        Self::record(Self::service_key(host), sequence, Payload::Service(export))
    }

    fn alive(gateway: &str, sequence: u64) -> Record {
        let key = Key::alive("west".parse().expect("an id"), gateway).expect("a name");
        let addresses = vec!["192.0.2.1:15443".to_owned()];
        Self::record(key, sequence, Payload::Alive { gateway: gateway.to_owned(), addresses })
    }

    async fn put(&self, record: &Record) {
        self.put_signed(record, &self.key).await;
    }

    async fn put_signed(&self, record: &Record, key: &RegistryKey) {
        let value = record.encode(key).expect("small enough");
        self.store.put(&record.key.to_string(), value).await.expect("written");
    }
}

async fn east(server: &Server, west: &West) -> Running {
    let directory = tempfile::tempdir().expect("a directory");
    start(directory, |settings| settings.peers.push(peer("west", &west.key)), Some(server.store().await))
}

fn west_id() -> ClusterId {
    "west".parse().expect("an id")
}

fn port(catalog: &model::Catalog, host: &str) -> Option<u16> {
    let service = catalog.services.get(&key("shop", host))?;
    service.imports.get(&west_id()).map(|import| import.export.ports[0].number)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peers_service_comes_changes_and_goes() {
    let server = Server::start().await;
    let west = West::new(&server).await;
    west.put(&West::service("web.shop", 1, 80)).await;
    west.put(&West::alive("gateway-0", 1)).await;
    let running = east(&server, &west).await;
    running.registry.settled(PATIENCE).await;
    let catalog = running.until("the service", |c| port(c, "web.shop") == Some(80)).await;
    let service = &catalog.services[&key("shop", "web.shop")];
    assert_eq!((service.ports.len(), service.addresses.len(), service.endpoints.len()), (1, 2, 0));
    let catalog = running.until("the gateway", |c| c.peers[&west_id()].gateways.len() == 1).await;
    assert_eq!(catalog.peers[&west_id()].gateways["gateway-0"], ["192.0.2.1:15443"]);
    assert_eq!(catalog.peers[&west_id()].health, PeerHealth::Live);

    west.put(&West::service("web.shop", 2, 81)).await;
    running.until("the change", |c| port(c, "web.shop") == Some(81)).await;
    west.put(&West::record(West::service_key("web.shop"), 3, Payload::Tombstone)).await;
    running.until("the withdrawal", |c| c.services.is_empty()).await;
    running.stop().await;
    server_down(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_adversary_writes_changes_nothing() {
    let server = Server::start().await;
    let west = West::new(&server).await;
    let good = West::service("web.shop", 5, 80);
    west.put(&good).await;
    let running = east(&server, &west).await;
    running.until("the service", |c| port(c, "web.shop") == Some(80)).await;
    let before = running.catalog();

    west.put_signed(&West::service("web.shop", 6, 81), &RegistryKey::generate()).await;
    west.put(&West::service("web.shop", 4, 82)).await;
    // North's service under north's own key and signature, copied to where west's would be.
    let north = RegistryKey::generate();
    let mut stolen = West::service("web.shop", 9, 83);
    stolen.uid = cluster("north").uid;
    west.put_signed(&stolen, &north).await;
    let copied = West::service("other.shop", 9, 84).encode(&west.key).expect("small enough");
    west.store.put(&good.key.to_string(), copied).await.expect("written");
    west.store.put(&good.key.to_string(), b"nonsense".to_vec()).await.expect("written");
    west.store.delete(&good.key.to_string()).await.expect("deleted");
    let status =
        running.until_status("all are counted", |s| s.peers[&west_id()].rejected.values().sum::<u64>() >= 6).await;
    let rejected = &status.peers[&west_id()].rejected;
    let expected = [("bad_signature", 2), ("bare_delete", 1), ("malformed", 1), ("stale", 1), ("wrong_key", 1)];
    assert_eq!(rejected.iter().map(|(reason, n)| (*reason, *n)).collect::<Vec<_>>(), expected);
    assert_eq!(running.catalog().services, before.services);
    let metrics = running.metrics();
    let line = "isthmus_registry_rejected_records_total{cluster=\"west\",reason=\"stale\"} 1";
    assert!(metrics.contains(line), "{metrics}");

    west.put(&West::service("web.shop", 6, 85)).await;
    running.until("the next good record", |c| port(c, "web.shop") == Some(85)).await;
    running.stop().await;
    server_down(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_takes_nothing_with_it() {
    let mut server = Server::start().await;
    let west = West::new(&server).await;
    west.put(&West::service("web.shop", 1, 80)).await;
    west.put(&West::alive("gateway-0", 1)).await;
    let running = east(&server, &west).await;
    running.until_status("the store is read", |s| s.peers[&west_id()].watched).await;
    running.until("the service", |c| port(c, "web.shop") == Some(80)).await;
    let before = running.catalog();
    server.down().await;
    running.until_status("the loss", |s| !s.peers[&west_id()].watched).await;
    assert_eq!(running.catalog().services, before.services);
    assert_eq!(running.catalog().peers[&west_id()].gateways, before.peers[&west_id()].gateways);
    server.up().await;
    running.until_status("the store again", |s| s.peers[&west_id()].watched).await;
    west.put(&West::service("web.shop", 2, 81)).await;
    running.until("a change after the restart", |c| port(c, "web.shop") == Some(81)).await;
    assert_eq!(running.registry.status.borrow().peers[&west_id()].rejected, BTreeMap::new());
    running.stop().await;
    server_down(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_emptied_takes_nothing_with_it() {
    let mut server = Server::start().await;
    let west = West::new(&server).await;
    west.put(&West::service("web.shop", 1, 80)).await;
    let running = east(&server, &west).await;
    running.until("the service", |c| port(c, "web.shop") == Some(80)).await;
    server.down().await;
    server.data = tempfile::tempdir().expect("a directory");
    server.up().await;
    let counted = |s: &isthmus_registry::Status| s.peers[&west_id()].rejected.get("bare_delete") == Some(&1);
    running.until_status("the loss is counted", counted).await;
    assert_eq!(port(&running.catalog(), "web.shop"), Some(80));
    running.stop().await;
    server_down(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_falls_silent_keeps_its_address() {
    let server = Server::start().await;
    let west = West::new(&server).await;
    let alive = West::alive("gateway-0", 1);
    west.put(&alive).await;
    let running = east(&server, &west).await;
    running.until_status("it is alive", |s| s.peers[&west_id()].gateways_alive == 1).await;
    west.store.delete(&alive.key.to_string()).await.expect("deleted");
    running.until_status("it is silent", |s| s.peers[&west_id()].gateways_alive == 0).await;
    assert_eq!(running.catalog().peers[&west_id()].gateways.len(), 1);
    assert_eq!(running.catalog().peers[&west_id()].health, PeerHealth::Live, "for 15 s more");
    running.stop().await;
    server_down(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_agree_on_addresses() {
    let server = Server::start().await;
    let store = server.store().await;
    let registry_key = std::sync::Arc::new(RegistryKey::generate());
    let replica = |store: Option<Store>| {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("a.yaml"), entry("web", 80)).expect("written");
        let registry_key = registry_key.clone();
        start(directory, |settings| settings.registry_key = registry_key, store)
    };
    // Somebody was here before, and the host's own slot was taken then.
    let address = Key::address("east".parse().expect("an id"), "web.shop".parse().expect("a host"));
    let payload = Payload::Address {
        host: "web.shop".parse().expect("a host"),
        ipv4: "240.240.1.2".parse().expect("an address"),
        ipv6: "2001:2::f0f0:102".parse().expect("an address"),
    };
    let record =
        Record { key: address, uid: cluster("east").uid, position: Position { epoch: 1, sequence: 0 }, payload };
    let value = record.encode(&registry_key).expect("small enough");
    store.put(&record.key.to_string(), value).await.expect("written");
    let web = |c: &model::Catalog| c.services[&key("shop", "web.shop")].addresses[0].to_string();
    let (one, two) = (replica(Some(store.clone())), replica(Some(store.clone())));
    for running in [&one, &two] {
        running.until("the stored address", |c| web(c) == "240.240.1.2").await;
    }
    // A new host is claimed by one of them, and both have the same.
    for running in [&one, &two] {
        std::fs::write(running.directory.path().join("b.yaml"), entry("cart", 80)).expect("written");
    }
    let cart = |c: &model::Catalog| c.services.get(&key("shop", "cart.shop")).map(|s| s.addresses.clone());
    for running in [&one, &two] {
        running.until("the new host", |c| cart(c).is_some()).await;
    }
    assert_eq!(cart(&one.catalog()), cart(&two.catalog()));
    let prefix = format!("{}addresses/", store::cluster_prefix(&"east".parse().expect("an id")));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while store.get_prefix(&prefix).await.expect("listed").entries.len() < 2 {
        assert!(tokio::time::Instant::now() < deadline, "the claim is written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A replica without the store chooses alike, by hash.
    let alone = replica(None);
    std::fs::write(alone.directory.path().join("b.yaml"), entry("cart", 80)).expect("written");
    alone.until("the new host", |c| cart(c) == cart(&one.catalog())).await;
    for running in [one, two, alone] {
        running.stop().await;
    }
    server_down(server).await;
}

async fn server_down(mut server: Server) {
    server.down().await;
}
