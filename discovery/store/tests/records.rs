//! Records as an adversary, an older or a newer version may have written them.

use api::isthmus::record_body::Payload as Proto;
use api::isthmus::{GatewayAlive, Port as ProtoPort, RecordBody, ServiceRecord, SignedRecord, Tombstone};
use identity::RegistryKey;
use isthmus_store::{HighWater, Key, Payload, Position, RECORD_BYTES, Record, RecordError, Stale};
use model::{ClusterUid, Group, Port, Protocol, ServiceExport, ServiceKey};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

const KEY: &str = "/isthmus/v1/clusters/east/for/all/services/bookinfo/reviews.bookinfo.svc.cluster.local";

fn uid() -> ClusterUid {
    "east-1".parse().expect("a UID")
}

fn record(epoch: u64, sequence: u64) -> Record {
    let group = Group {
        id: "v1".parse().expect("a group"),
        labels: BTreeMap::from([("version".to_owned(), "v1".to_owned())]),
        locality: "eu/eu-1".parse().expect("a locality"),
        ready: 3,
        weight: 3,
        identities: BTreeSet::from(["spiffe://east.example/ns/bookinfo/sa/reviews".parse().expect("an identity")]),
    };
    let export = ServiceExport {
        key: ServiceKey {
            host: "reviews.bookinfo.svc.cluster.local".parse().expect("a host"),
            namespace: "bookinfo".parse().expect("a namespace"),
        },
        ports: vec![Port { number: 9080, name: "http".into(), protocol: Protocol::Http, target: None }],
        groups: vec![group],
    };
    let key = KEY.parse().expect("a key");
    Record { key, uid: uid(), position: Position { epoch, sequence }, payload: Payload::Service(export) }
}

fn body(payload: Proto) -> RecordBody {
    RecordBody { key: KEY.into(), cluster_uid: "east-1".into(), epoch: 1, sequence: 1, payload: Some(payload) }
}

/// Signs whatever it is given.
fn sign(body: &[u8], key: &RegistryKey) -> Vec<u8> {
    SignedRecord { body: body.to_vec(), signature: key.sign(body).to_vec() }.encode_to_vec()
}

fn decode(value: &[u8], key: &RegistryKey) -> Result<Record, RecordError> {
    Record::decode(KEY, value, &uid(), &key.public())
}

#[test]
fn every_payload_survives_the_round_trip() {
    let key = RegistryKey::generate();
    let parse = |text: &str| -> Key { text.parse().expect(text) };
    let payloads = [
        (parse(KEY), record(1, 1).payload),
        (parse(KEY), Payload::Tombstone),
        (
            parse("/isthmus/v1/clusters/east/alive/gw-0"),
            Payload::Alive {
                gateway: "gw-0".into(),
                addresses: vec!["192.0.2.1:15443".into(), "[2001:db8::1]:15443".into(), "gw.example.com:15443".into()],
            },
        ),
        (
            parse("/isthmus/v1/clusters/east/addresses/api.example.com"),
            Payload::Address {
                host: "api.example.com".parse().expect("a host"),
                ipv4: "240.240.0.7".parse().expect("an address"),
                ipv6: "2001:2::7".parse().expect("an address"),
            },
        ),
    ];
    for (at, payload) in payloads {
        let record = Record { key: at.clone(), payload, ..record(7, 9) };
        let value = record.encode(&key).expect("small enough");
        assert_eq!(Record::decode(&at.to_string(), &value, &uid(), &key.public()), Ok(record));
    }
}

#[test]
fn equal_records_have_equal_bytes() {
    let key = RegistryKey::generate();
    assert_eq!(record(1, 2).encode(&key), record(1, 2).encode(&key));
}

#[test]
fn only_the_owner_can_sign() {
    let (owner, other) = (RegistryKey::generate(), RegistryKey::generate());
    let value = record(1, 1).encode(&other).expect("small enough");
    assert_eq!(decode(&value, &owner), Err(RecordError::BadSignature));
    let mut value = record(1, 1).encode(&owner).expect("small enough");
    for at in [4, value.len() / 2, value.len() - 1] {
        value[at] ^= 1;
        assert!(decode(&value, &owner).is_err(), "bit flipped at {at}");
        value[at] ^= 1;
    }
    let unsigned = SignedRecord { body: body(Proto::Tombstone(Tombstone {})).encode_to_vec(), signature: Vec::new() };
    assert_eq!(decode(&unsigned.encode_to_vec(), &owner), Err(RecordError::BadSignature));
}

#[test]
fn a_value_copied_to_another_key_is_refused() {
    let key = RegistryKey::generate();
    let value = record(1, 1).encode(&key).expect("small enough");
    for elsewhere in [
        KEY.replace("reviews.", "ratings."),
        KEY.replace("clusters/east", "clusters/west"),
        KEY.replace("for/all", "for/west"),
    ] {
        let outcome = Record::decode(&elsewhere, &value, &uid(), &key.public());
        assert_eq!(outcome, Err(RecordError::WrongKey { written: KEY.into() }), "{elsewhere}");
    }
    let later: ClusterUid = "east-2".parse().expect("a UID");
    let outcome = Record::decode(KEY, &value, &later, &key.public());
    assert_eq!(outcome, Err(RecordError::WrongCluster("east-1".into())));
}

#[test]
fn what_is_not_a_record_is_refused() {
    let key = RegistryKey::generate();
    let value = record(1, 1).encode(&key).expect("small enough");
    for length in 0..value.len() {
        assert!(decode(&value[..length], &key).is_err(), "cut to {length}");
    }
    assert_eq!(decode(&vec![0; RECORD_BYTES + 1], &key), Err(RecordError::TooLarge(RECORD_BYTES + 1)));
    assert!(decode(&[0xff; 100], &key).is_err());
    let empty = RecordBody { payload: None, ..body(Proto::Tombstone(Tombstone {})) };
    assert!(matches!(decode(&sign(&empty.encode_to_vec(), &key), &key), Err(RecordError::Malformed(_))));
    assert!(matches!(decode(&sign(b"\xff\xff", &key), &key), Err(RecordError::Malformed(_))));
}

#[test]
fn a_record_that_would_be_too_large_is_not_written() {
    let key = RegistryKey::generate();
    let mut large = record(1, 1);
    let Payload::Service(export) = &mut large.payload else { unreachable!("record() makes a service") };
    let group = export.groups[0].clone();
    export.groups =
        (0..250).map(|n| Group { id: format!("g{n}").parse().expect("a group"), ..group.clone() }).collect();
    assert!(matches!(large.encode(&key), Err(RecordError::TooLarge(_))));
}

#[test]
fn fields_of_a_newer_version_are_passed_over() {
    let key = RegistryKey::generate();
    let mut bytes = body(Proto::Tombstone(Tombstone {})).encode_to_vec();
    // Field 99, a string.
    bytes.extend([0x9a, 0x06, 0x03, b'n', b'e', b'w']);
    let mut value = sign(&bytes, &key);
    value.extend([0x9a, 0x06, 0x01, b'x']);
    assert_eq!(decode(&value, &key).map(|record| record.payload), Ok(Payload::Tombstone));
}

#[test]
fn signed_nonsense_is_refused() {
    let key = RegistryKey::generate();
    let port = |number| ProtoPort { number, name: "p".into(), protocol: "HTTP".into() };
    let service = |ports| ServiceRecord {
        host: "reviews.bookinfo.svc.cluster.local".into(),
        namespace: "bookinfo".into(),
        ports,
        groups: Vec::new(),
    };
    let other_host = ServiceRecord { host: "ratings.bookinfo.svc.cluster.local".into(), ..service(vec![port(80)]) };
    let unknown = ProtoPort { protocol: "SCTP".into(), ..port(80) };
    let heavy = api::isthmus::Group { id: "v1".into(), weight: u32::MAX, ..api::isthmus::Group::default() };
    let gateway = GatewayAlive { gateway: "gw".into(), addresses: Vec::new() };
    for (what, payload) in [
        ("port 0", Proto::Service(service(vec![port(0)]))),
        ("port 65536", Proto::Service(service(vec![port(65_536)]))),
        ("a port twice", Proto::Service(service(vec![port(80), port(80)]))),
        ("an unknown protocol", Proto::Service(service(vec![unknown]))),
        ("too many ports", Proto::Service(service((1..200).map(port).collect()))),
        ("a weight without bounds", Proto::Service(ServiceRecord { groups: vec![heavy], ..service(Vec::new()) })),
        ("another host than its key's", Proto::Service(other_host)),
        ("a sign of life under a service's key", Proto::Alive(gateway)),
    ] {
        let outcome = decode(&sign(&body(payload).encode_to_vec(), &key), &key);
        assert!(matches!(outcome, Err(RecordError::Invalid(_))), "{what}: {outcome:?}");
    }
}

#[test]
fn only_what_is_newer_is_admitted() {
    let mut seen = HighWater::default();
    seen.admit(&record(1_700_000_000, 5)).expect("the first");
    seen.admit(&record(1_700_000_000, 6)).expect("a newer");
    assert!(matches!(seen.admit(&record(1_700_000_000, 6)), Err(Stale::Known { .. })));
    assert!(matches!(seen.admit(&record(1_700_000_000, 5)), Err(Stale::Old { .. })));
    assert!(matches!(seen.admit(&record(1_600_000_000, 99)), Err(Stale::Old { .. })));
    let withdrawn = Record { payload: Payload::Tombstone, ..record(1_700_000_000, 6) };
    assert!(matches!(seen.admit(&withdrawn), Err(Stale::Equivocation { .. })));
    assert!(matches!(seen.admit(&record(1_700_000_000, u64::MAX)), Err(Stale::Jump { .. })));
    assert!(matches!(seen.admit(&record(u64::MAX, 1)), Err(Stale::Jump { .. })));
    seen.admit(&record(1_700_000_001, 0)).expect("a new epoch begins anew");
}

#[test]
fn the_mark_survives_a_restart() {
    let mut seen = HighWater::default();
    seen.admit(&record(10, 6)).expect("the first");
    let kept: Vec<(Key, Position)> = seen.positions().map(|(key, position)| (key.clone(), position)).collect();
    let mut again = HighWater::default();
    again.restore(kept);
    assert!(matches!(again.admit(&record(10, 6)), Err(Stale::Known { .. })));
    assert!(matches!(again.admit(&record(10, 5)), Err(Stale::Old { .. })));
    again.admit(&record(10, 7)).expect("a newer");
    assert_eq!(again.position(&KEY.parse().expect("a key")), Some(Position { epoch: 10, sequence: 7 }));
}
