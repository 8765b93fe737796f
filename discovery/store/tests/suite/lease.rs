//! Leases.

use super::{PATIENCE, put, refused, value};
use etcd_client::{Client, EventType, LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions, WatchOptions};
use std::time::{Duration, Instant};
use tonic::Code;

async fn leased(client: &mut Client, key: &str, lease: i64) {
    client.put(key, "x", Some(PutOptions::new().with_lease(lease))).await.expect("a put");
}

pub(crate) async fn a_revoked_lease_takes_its_keys(mut client: Client) {
    let lease = client.lease_grant(60, Some(LeaseGrantOptions::new().with_id(42))).await.expect("a lease");
    assert_eq!((lease.id(), lease.ttl()), (42, 60));
    leased(&mut client, "l/a", 42).await;
    leased(&mut client, "l/b", 42).await;
    let left = client.lease_time_to_live(42, Some(LeaseTimeToLiveOptions::new().with_keys())).await.expect("a time");
    assert!((55..=60).contains(&left.ttl()), "{left:?}");
    let mut keys = left.keys().to_vec();
    keys.sort();
    assert_eq!((left.granted_ttl(), keys), (60, vec![b"l/a".to_vec(), b"l/b".to_vec()]));
    assert!(client.leases().await.expect("leases").leases().iter().any(|lease| lease.id() == 42));
    let options = WatchOptions::new().with_prefix();
    let mut stream = client.watch("l/", Some(options)).await.expect("a watch");
    stream.message().await.expect("no error").expect("created");
    client.lease_revoke(42).await.expect("a revocation");
    let mut gone = Vec::new();
    while gone.len() < 2 {
        let response = stream.message().await.expect("no error").expect("a response");
        for event in response.events() {
            assert_eq!(event.event_type(), EventType::Delete);
            gone.push(event.kv().expect("a key").mod_revision());
        }
    }
    assert_eq!(gone[0], gone[1], "both go at one revision");
    assert_eq!(value(&client, "l/a").await, None);
    assert_eq!(client.lease_time_to_live(42, None).await.expect("a time").ttl(), -1);
}

pub(crate) async fn a_lease_ends_unless_it_is_kept_alive(mut client: Client) {
    // Two seconds is the least that etcd grants with its default election timeout.
    let kept = client.lease_grant(2, None).await.expect("a lease").id();
    let left = client.lease_grant(2, None).await.expect("a lease").id();
    leased(&mut client, "kept", kept).await;
    leased(&mut client, "left", left).await;
    let (mut keeper, mut answers) = client.lease_keep_alive(kept).await.expect("a keeper");
    let began = Instant::now();
    while value(&client, "left").await.is_some() {
        assert!(began.elapsed() < PATIENCE, "the lease does not end");
        keeper.keep_alive().await.expect("a request");
        let answer = answers.message().await.expect("no error").expect("an answer");
        assert_eq!((answer.id(), answer.ttl()), (kept, 2));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(1500), "it ended too early: {:?}", began.elapsed());
    assert!(value(&client, "kept").await.is_some());
    refused(client.lease_revoke(left).await, Code::NotFound, "etcdserver: requested lease not found");
}

pub(crate) async fn a_key_leaves_its_lease(mut client: Client) {
    let lease = client.lease_grant(60, None).await.expect("a lease").id();
    leased(&mut client, "stays", lease).await;
    leased(&mut client, "goes", lease).await;
    let got = client.get("stays", None).await.expect("a get");
    assert_eq!(got.kvs()[0].lease(), lease);
    put(&client, "stays", "without").await;
    client.lease_revoke(lease).await.expect("a revocation");
    assert_eq!(value(&client, "stays").await.as_deref(), Some("without"));
    assert_eq!(value(&client, "goes").await, None);
}

pub(crate) async fn wrong_leases_are_refused(mut client: Client) {
    let id = || Some(LeaseGrantOptions::new().with_id(77));
    client.lease_grant(60, id()).await.expect("a lease");
    refused(client.lease_grant(60, id()).await, Code::FailedPrecondition, "etcdserver: lease already exists");
    refused(client.lease_revoke(78).await, Code::NotFound, "etcdserver: requested lease not found");
    refused(client.lease_grant(9_000_000_001, None).await, Code::OutOfRange, "etcdserver: too large lease TTL");
    assert!(client.lease_keep_alive(78).await.is_err(), "an unknown lease is not kept alive");
}
