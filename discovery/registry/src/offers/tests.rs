//! What is believed of a peer's records, and what is counted and ignored.

use super::*;
use identity::RegistryKey;
use model::{Cluster, Group, Port, Protocol, ServiceExport, TrustBundle};
use std::collections::BTreeMap;
use std::time::Duration;
use store::Position;

struct Peer {
    key: RegistryKey,
    cluster: Cluster,
    now: Instant,
}

fn cluster(id: &str) -> Cluster {
    Cluster {
        id: id.parse().expect("valid"),
        uid: format!("{id}-1").parse().expect("valid"),
        trust_domain: format!("{id}.example").parse().expect("valid"),
    }
}

fn export(host: &str, port: u16) -> ServiceExport {
    let key = ServiceKey { host: host.parse().expect("valid"), namespace: "shop".parse().expect("valid") };
    let group = Group {
        id: "any".parse().expect("valid"),
        labels: BTreeMap::new(),
        locality: model::Locality::default(),
        ready: 1,
        weight: 1,
        identities: ["spiffe://west.example/ns/shop/sa/web".parse().expect("valid")].into(),
    };
    let ports = vec![Port { number: port, name: "http".into(), protocol: Protocol::Http, target: None }];
    ServiceExport { key, ports, groups: vec![group] }
}

impl Peer {
    fn new() -> Self {
        Self { key: RegistryKey::generate(), cluster: cluster("west"), now: Instant::now() }
    }

    fn offers(&self, limits: &Limits) -> Offers {
        let trust_domain = self.cluster.trust_domain.clone();
        let bundle = TrustBundle { trust_domain, pem: "".into() };
        let keys = PeerKeys { cluster: self.cluster.clone(), bundle, registry_key: self.key.public() };
        Offers::new(keys, "east".parse().expect("valid"), limits)
    }

    fn key(audience: Option<&str>, host: &str) -> Key {
        let audience = audience.map(|id| id.parse().expect("valid"));
        let host = host.parse().expect("valid");
        Key::service("west".parse().expect("valid"), audience, "shop".parse().expect("valid"), host)
    }

    fn record(&self, key: Key, sequence: u64, payload: Payload) -> Record {
        Record { key, uid: self.cluster.uid.clone(), position: Position { epoch: 7, sequence }, payload }
    }

    fn service(&self, host: &str, sequence: u64, port: u16) -> Record {
        self.record(Self::key(None, host), sequence, Payload::Service(export(host, port)))
    }

    fn alive(&self, gateway: &str, sequence: u64, address: &str) -> Record {
        let key = Key::alive("west".parse().expect("valid"), gateway).expect("valid");
        let payload = Payload::Alive { gateway: gateway.to_owned(), addresses: vec![address.to_owned()] };
        self.record(key, sequence, payload)
    }

    fn put(&self, offers: &mut Offers, part: Part, record: &Record) {
        let value = record.encode(&self.key).expect("small enough");
        offers.put(part, &record.key.to_string(), &value, self.now);
    }
}

fn ports(offers: &mut Offers) -> Vec<u16> {
    offers.view().exports.values().map(|export| export.ports[0].number).collect()
}

fn rejected(offers: &mut Offers) -> Vec<(&'static str, u64)> {
    offers.view().rejected.into_iter().collect()
}

#[test]
fn what_does_not_fit_is_counted_and_changes_nothing() {
    let peer = Peer::new();
    let good = peer.service("web.shop", 5, 80);
    let (key, stranger) = (good.key.to_string(), RegistryKey::generate());
    let encode = |record: &Record| record.encode(&peer.key).expect("small enough");
    let changed = |change: &dyn Fn(&mut Record)| {
        let mut record = peer.service("web.shop", 6, 81);
        change(&mut record);
        encode(&record)
    };
    let foreign = |record: &mut Record| {
        let Payload::Service(export) = &mut record.payload else { panic!("a service") };
        export.groups[0].identities = ["spiffe://east.example/ns/shop/sa/web".parse().expect("valid")].into();
    };
    let twice = |record: &mut Record| {
        let Payload::Service(export) = &mut record.payload else { panic!("a service") };
        export.ports.push(export.ports[0].clone());
    };
    let mut flipped = encode(&peer.service("web.shop", 6, 81));
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let cases: Vec<(&str, Part, String, Vec<u8>)> = vec![
        ("bad_signature", Part::All, key.clone(), flipped),
        ("bad_signature", Part::All, key.clone(), peer.service("web.shop", 6, 81).encode(&stranger).expect("small")),
        ("wrong_key", Part::All, key.clone(), encode(&peer.service("other.shop", 6, 81))),
        ("wrong_cluster", Part::All, key.clone(), changed(&|record| record.uid = "west-2".parse().expect("valid"))),
        ("stale", Part::All, key.clone(), changed(&|record| record.position.sequence = 4)),
        ("stale", Part::All, key.clone(), changed(&|record| record.position.epoch = 6)),
        ("equivocation", Part::All, key.clone(), changed(&|record| record.position.sequence = 5)),
        ("jump", Part::All, key.clone(), changed(&|record| record.position.sequence = u64::MAX)),
        ("foreign_identity", Part::All, key.clone(), changed(&foreign)),
        ("malformed", Part::All, key.clone(), changed(&twice)),
        ("malformed", Part::All, key.clone(), vec![]),
        ("malformed", Part::All, key.clone(), vec![0xff; 40]),
        ("too_large", Part::All, key.clone(), vec![0; 20_000]),
        ("wrong_key", Part::Own, Peer::key(Some("north"), "web.shop").to_string(), {
            encode(&peer.record(Peer::key(Some("north"), "web.shop"), 6, Payload::Service(export("web.shop", 81))))
        }),
    ];
    for (reason, part, key, value) in cases {
        let mut offers = peer.offers(&Limits::default());
        peer.put(&mut offers, Part::All, &good);
        offers.put(part, &key, &value, peer.now);
        let counted = rejected(&mut offers);
        // An empty value is an empty message, with a signature that is none.
        let is_expected = counted == [(reason, 1)] || (value.is_empty() && counted == [("bad_signature", 1)]);
        assert!(is_expected, "{reason}: {counted:?}");
        assert_eq!(ports(&mut offers), [80], "{reason}");
        peer.put(&mut offers, Part::All, &peer.service("web.shop", 7, 82));
        assert_eq!(ports(&mut offers), [82], "{reason}: the next good one counts");
    }
}

#[test]
fn only_a_tombstone_removes() {
    let peer = Peer::new();
    let mut offers = peer.offers(&Limits::default());
    let record = peer.service("web.shop", 1, 80);
    let value = record.encode(&peer.key).expect("small enough");
    let key = record.key.to_string();
    peer.put(&mut offers, Part::All, &record);
    offers.delete(Part::All, &key, peer.now);
    offers.snapshot(Part::All, [], peer.now);
    assert_eq!((ports(&mut offers), rejected(&mut offers)), (vec![80], vec![("bare_delete", 2)]));
    offers.snapshot(Part::All, [(key.as_str(), value.as_slice())], peer.now);
    assert_eq!(rejected(&mut offers), [("bare_delete", 2)], "the same again is no mistake");

    let tombstone = peer.record(record.key.clone(), 2, Payload::Tombstone);
    peer.put(&mut offers, Part::All, &tombstone);
    assert!(ports(&mut offers).is_empty());
    peer.put(&mut offers, Part::All, &record);
    assert!(ports(&mut offers).is_empty(), "what was withdrawn does not come back by a replay");
    peer.put(&mut offers, Part::All, &peer.service("web.shop", 3, 81));
    assert_eq!(ports(&mut offers), [81]);
}

#[test]
fn what_is_for_us_goes_before_what_is_for_all() {
    let peer = Peer::new();
    let mut offers = peer.offers(&Limits::default());
    let own = Peer::key(Some("east"), "web.shop");
    peer.put(&mut offers, Part::Own, &peer.record(own.clone(), 1, Payload::Service(export("web.shop", 81))));
    peer.put(&mut offers, Part::All, &peer.service("web.shop", 1, 80));
    assert_eq!(ports(&mut offers), [81]);
    peer.put(&mut offers, Part::Own, &peer.record(own, 2, Payload::Tombstone));
    assert_eq!(ports(&mut offers), [80]);
}

#[test]
fn a_peer_has_a_quota() {
    let peer = Peer::new();
    let mut offers = peer.offers(&Limits { services_per_peer: 3, gateways_per_peer: 2, ..Limits::default() });
    for n in 0..5 {
        peer.put(&mut offers, Part::All, &peer.service(&format!("h{n}.shop"), 1, 80));
        peer.put(&mut offers, Part::Alive, &peer.alive(&format!("g{n}"), 1, "10.0.0.1:15443"));
    }
    assert_eq!((ports(&mut offers).len(), rejected(&mut offers)), (3, vec![("quota", 5)]));
    for n in 0..100 {
        let key = Peer::key(None, &format!("t{n}.shop"));
        peer.put(&mut offers, Part::All, &peer.record(key, 1, Payload::Tombstone));
    }
    assert!(offers.known.remembered() <= 6, "a flood of tombstones takes no room");
    peer.put(&mut offers, Part::All, &peer.record(Peer::key(None, "h0.shop"), 2, Payload::Tombstone));
    peer.put(&mut offers, Part::All, &peer.service("h4.shop", 1, 80));
    assert_eq!(ports(&mut offers).len(), 3);
}

#[test]
fn a_gateway_that_is_silent_keeps_its_address_unless_another_lives() {
    let peer = Peer::new();
    let mut offers = peer.offers(&Limits::default());
    let (one, two) = (peer.alive("one", 1, "10.0.0.1:15443"), peer.alive("two", 1, "west.example:15443"));
    peer.put(&mut offers, Part::Alive, &one);
    peer.put(&mut offers, Part::Alive, &two);
    let names = |offers: &mut Offers| offers.view().gateways.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!((names(&mut offers), offers.view().alive), (vec!["one".into(), "two".into()], 2));
    offers.delete(Part::Alive, &one.key.to_string(), peer.now);
    assert_eq!((names(&mut offers), offers.view().alive), (vec!["two".into()], 1));
    offers.snapshot(Part::Alive, [], peer.now + Duration::from_secs(5));
    assert_eq!((names(&mut offers), offers.view().alive), (vec!["one".into(), "two".into()], 0));
    assert!(rejected(&mut offers).is_empty(), "a lease that ends is no mistake");
    peer.put(&mut offers, Part::Alive, &two);
    assert_eq!((names(&mut offers), offers.view().alive), (vec!["two".into()], 1));

    for wrong in ["10.0.0.1", ":15443", "10.0.0.1:0", "10.0.0.1:99999", ""] {
        let mut offers = peer.offers(&Limits::default());
        peer.put(&mut offers, Part::Alive, &peer.alive("one", 1, wrong));
        assert_eq!(offers.view().alive, 0, "{wrong:?}");
    }
}

#[test]
fn a_lost_store_is_not_watched_and_takes_nothing_away() {
    let peer = Peer::new();
    let mut offers = peer.offers(&Limits::default());
    let record = peer.service("web.shop", 1, 80);
    let (key, value) = (record.key.to_string(), record.encode(&peer.key).expect("small enough"));
    offers.snapshot(Part::All, [(key.as_str(), value.as_slice())], peer.now);
    assert!(!offers.view().read);
    offers.snapshot(Part::Own, [], peer.now);
    offers.snapshot(Part::Alive, [], peer.now);
    assert!(offers.view().read && offers.view().watched);
    offers.lost(Part::Own, peer.now);
    assert!(offers.view().read && !offers.view().watched);
    assert_eq!(ports(&mut offers), [80]);
}
