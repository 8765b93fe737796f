//! What time and the two signals do to a peer's rows.

use super::*;
use federation::offers::Exports;
use model::{Path, PeerHealth, Port, Protocol, ServiceExport, ServiceKey};
use std::time::Duration;

struct Bench {
    writer: Writer,
    catalog: watch::Receiver<Arc<Catalog>>,
    status: watch::Receiver<Arc<Status>>,
    start: Instant,
}

fn cluster(id: &str) -> Cluster {
    Cluster {
        id: id.parse().expect("valid"),
        uid: format!("{id}-1").parse().expect("valid"),
        trust_domain: format!("{id}.example").parse().expect("valid"),
    }
}

fn bundle(id: &str) -> TrustBundle {
    TrustBundle { trust_domain: cluster(id).trust_domain, pem: "".into() }
}

fn west() -> ClusterId {
    "west".parse().expect("valid")
}

/// West offers one service, has one gateway, and is or is not heard of.
fn view(alive: bool, watched: bool) -> PeerView {
    let key = ServiceKey { host: "web.shop".parse().expect("valid"), namespace: "shop".parse().expect("valid") };
    let ports = vec![Port { number: 80, name: "http".into(), protocol: Protocol::Http, target: None }];
    let export = ServiceExport { key: key.clone(), ports, groups: Vec::new() };
    PeerView {
        exports: Arc::new(Exports::from([(key, Arc::new(export))])),
        gateways: BTreeMap::from([("gateway-0".into(), vec!["192.0.2.1:15443".into()])]),
        alive: usize::from(alive),
        read: true,
        watched,
        rejected: BTreeMap::new(),
    }
}

fn report(path: Path) -> GatewayEvent {
    GatewayEvent::Reported { name: "own".into(), addresses: vec![], paths: BTreeMap::from([(west(), path)]) }
}

impl Bench {
    fn new() -> Self {
        let start = Instant::now();
        let (catalog, catalog_reader) = watch::channel(Arc::new(Catalog::new(cluster("east"))));
        let (status, status_reader) = watch::channel(Arc::default());
        let outlets = Outlets {
            catalog,
            documents: watch::channel(Arc::default()).0,
            status,
            wishes: watch::channel(Arc::default()).0,
        };
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let registry_key = identity::RegistryKey::generate().public();
        let keys = PeerKeys { cluster: cluster("west"), bundle: bundle("west"), registry_key };
        let peers = BTreeMap::from([(west(), keys)]);
        let health = health::Settings::default();
        let mut writer = Writer::new(cluster("east"), bundle("east"), &peers, health, (metrics, outlets), start);
        writer.publish(start);
        Self { writer, catalog: catalog_reader, status: status_reader, start }
    }

    fn peer(&mut self, seconds: u64, alive: bool, watched: bool) {
        let now = self.start + Duration::from_secs(seconds);
        self.writer.apply(Event::Peer(west(), view(alive, watched)), now);
        self.writer.publish(now);
    }

    fn path(&mut self, seconds: u64, path: Path) {
        let now = self.start + Duration::from_secs(seconds);
        self.writer.gateway(report(path), now);
        self.writer.publish(now);
    }

    /// Health, whether its row is there, and whether its gateway's address is, as the clock stands then.
    fn at(&mut self, seconds: u64) -> (PeerHealth, bool, bool) {
        let now = self.start + Duration::from_secs(seconds);
        if self.writer.tick(now) {
            self.writer.publish(now);
        }
        self.writer.tell(now);
        let catalog = self.catalog.borrow().clone();
        let row = catalog.services.values().any(|service| service.imports.contains_key(&west()));
        let peer = &catalog.peers[&west()];
        (peer.health, row, !peer.gateways.is_empty())
    }
}

#[test]
fn a_lost_control_signal_alone_takes_nothing() {
    for watched in [true, false] {
        let mut bench = Bench::new();
        bench.peer(0, true, true);
        assert_eq!(bench.at(100), (PeerHealth::Live, true, true));
        bench.peer(100, false, watched);
        assert_eq!(bench.at(114), (PeerHealth::Live, true, true));
        assert_eq!(bench.at(115), (PeerHealth::Suspect, true, true));
        assert_eq!(bench.at(1_000_000), (PeerHealth::Suspect, true, true));
        bench.peer(1_000_001, true, true);
        assert_eq!(bench.at(1_000_002), (PeerHealth::Live, true, true));
    }
}

#[test]
fn both_lost_for_long_enough_forget_and_either_brings_back() {
    let mut bench = Bench::new();
    bench.peer(0, true, true);
    bench.path(5, Path::Unreachable);
    assert_eq!(bench.at(6), (PeerHealth::Unreachable, true, true));
    bench.peer(10, false, true);
    assert_eq!(bench.at(25), (PeerHealth::Stale, true, true));
    assert_eq!(bench.at(3_610), (PeerHealth::Stale, true, true));
    assert_eq!(bench.at(3_611), (PeerHealth::Stale, false, true));
    assert!(bench.status.borrow().peers[&west()].forgotten);
    bench.path(4_000, Path::Connected);
    assert_eq!(bench.at(4_000), (PeerHealth::Suspect, true, true), "the record was never withdrawn");
    bench.peer(4_001, true, true);
    assert_eq!(bench.at(4_001), (PeerHealth::Live, true, true));
}

#[test]
fn the_age_of_a_peers_records_grows_while_the_store_is_away() {
    let mut bench = Bench::new();
    bench.at(3);
    assert_eq!(bench.status.borrow().peers[&west()].age_seconds, None);
    bench.peer(10, true, true);
    bench.at(20);
    assert_eq!(bench.status.borrow().peers[&west()].age_seconds, Some(0));
    bench.peer(30, true, false);
    bench.at(42);
    assert_eq!(bench.status.borrow().peers[&west()].age_seconds, Some(12));
}

#[test]
fn a_catalog_that_says_the_same_is_not_sent_again() {
    let mut bench = Bench::new();
    bench.peer(0, true, true);
    bench.catalog.mark_unchanged();
    bench.peer(1, true, true);
    bench.peer(2, true, false);
    assert!(!bench.catalog.has_changed().expect("the writer lives"));
}
