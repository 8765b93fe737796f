//! What only the embedded server promises: its quota, its own compaction, and who may come from where.

use crate::suite::{PATIENCE, embedded_with, put, refused, revision, value};
use etcd_client::{
    AlarmAction, AlarmType, Client, CompactionOptions, DeleteOptions, LeaseGrantOptions, PutOptions, Txn, TxnOp,
    WatchOptions,
};
use isthmus_store::embedded::{Member, Server, Settings, Tls};
use isthmus_store::{ClientSettings, Store, StoreError, StoreTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_refuses_writes_and_recovers() {
    let target = embedded_with(Settings { quota_bytes: 100_000, ..Settings::default() }).await;
    let mut client = target.client().await;
    let words = "etcdserver: mvcc: database space exceeded";
    let refusal = loop {
        if let Err(refusal) = client.put("k", vec![0; 1000], None).await {
            break refusal;
        }
    };
    refused::<()>(Err(refusal), Code::ResourceExhausted, words);
    let txn = Txn::new().and_then([TxnOp::put("l", vec![0; 1000], None)]);
    refused(client.txn(txn).await, Code::ResourceExhausted, words);
    let large: Vec<TxnOp> = (0..100).map(|n| TxnOp::put(format!("m{n}"), vec![0; 1000], None)).collect();
    refused(client.txn(Txn::new().and_then(large.clone())).await, Code::ResourceExhausted, words);
    assert_eq!(client.get("k", None).await.expect("reads go on").count(), 1);
    client.delete("k", None).await.expect("deletes go on");
    let revision = revision(client.get("k", None).await.expect("a get").header());
    client.compact(revision, Some(CompactionOptions::new().with_physical())).await.expect("a compaction");
    put(&client, "k", "again").await;
    assert!(client.alarm(AlarmAction::Get, AlarmType::None, None).await.expect("alarms").alarms().is_empty());
    // What a transaction would add counts as a whole, before any of it is written.
    refused(client.txn(Txn::new().and_then(large)).await, Code::ResourceExhausted, words);
    target.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_versions_leave_nothing_behind() {
    let target = embedded_with(Settings::default()).await;
    let mut client = target.client().await;
    let in_use = async |client: &mut Client| client.status().await.expect("a status").raft_used_db_size();
    let empty = in_use(&mut client).await;
    for n in 0..1500 {
        put(&client, &format!("k{}", n % 100), "some value").await;
    }
    let last = put(&client, "other", "x").await;
    let full = in_use(&mut client).await;
    client.compact(last, Some(CompactionOptions::new().with_physical())).await.expect("a compaction");
    let less = in_use(&mut client).await;
    assert!(less < full / 10 && less > empty, "{empty} {full} {less}");
    client.delete("", Some(DeleteOptions::new().with_all_keys())).await.expect("a delete");
    let last = put(&client, "k", "x").await;
    client.compact(last, Some(CompactionOptions::new().with_physical())).await.expect("a compaction");
    client.delete("k", None).await.expect("a delete");
    let last = put(&client, "k", "x").await;
    client.compact(last, Some(CompactionOptions::new().with_physical())).await.expect("a compaction");
    assert_eq!(in_use(&mut client).await - empty, 2 + 1 + 96, "one version of one key is left");
    target.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_compacted_by_itself() {
    let target = embedded_with(Settings { compaction: Duration::from_millis(500), ..Settings::default() }).await;
    let mut client = target.client().await;
    let first = put(&client, "k", "1").await;
    put(&client, "k", "2").await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let options = WatchOptions::new().with_start_revision(first);
        let mut stream = client.watch("k", Some(options)).await.expect("a watch");
        stream.message().await.expect("no error").expect("created");
        let response = timeout(PATIENCE, stream.message()).await.expect("in time").expect("no error");
        if response.expect("a response").compact_revision() > first {
            break;
        }
        assert!(Instant::now() < deadline, "history is kept for ever");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(value(&client, "k").await.as_deref(), Some("2"));
    target.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_watch_misses_nothing() {
    let target = embedded_with(Settings::default()).await;
    let mut client = target.client().await;
    let mut stream = client.watch("", Some(WatchOptions::new().with_all_keys())).await.expect("a watch");
    stream.message().await.expect("no error").expect("created");
    // More than any buffer on the way holds, while nobody reads.
    for n in 0..60 {
        client.put(format!("k{n:03}"), vec![0; 500_000], None).await.expect("a put");
    }
    let mut told = Vec::new();
    while told.len() < 60 {
        let response = timeout(PATIENCE, stream.message()).await.expect("in time").expect("no error");
        for event in response.expect("a response").events() {
            told.push(event.kv().expect("a key").mod_revision());
        }
    }
    assert_eq!(told, (2..62).collect::<Vec<i64>>());
    target.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_watch_is_told_so() {
    let target = embedded_with(Settings { progress: Duration::from_millis(100), ..Settings::default() }).await;
    let mut client = target.client().await;
    let mut stream = client.watch("k", Some(WatchOptions::new().with_progress_notify())).await.expect("a watch");
    stream.message().await.expect("no error").expect("created");
    let last = put(&client, "other", "x").await;
    loop {
        let response = timeout(PATIENCE, stream.message()).await.expect("in time").expect("no error");
        let response = response.expect("a response");
        assert!(response.events().is_empty());
        if revision(response.header()) == last {
            break;
        }
    }
    target.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_and_keys_outlive_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = || Settings {
        listen: "127.0.0.1:0".parse().expect("an address"),
        data: folder.path().to_owned(),
        ..Settings::default()
    };
    for round in 0..2 {
        let shutdown = CancellationToken::new();
        let server = Server::bind(settings(), shutdown.clone()).await.expect("a server");
        let address = server.address().expect("an address").to_string();
        let task = tokio::spawn(server.run());
        let mut client = Client::connect([address], None).await.expect("a client");
        if round == 0 {
            client.lease_grant(60, Some(LeaseGrantOptions::new().with_id(5))).await.expect("a lease");
            client.put("k", "1", Some(PutOptions::new().with_lease(5))).await.expect("a put");
        } else {
            assert_eq!(client.lease_time_to_live(5, None).await.expect("a time").granted_ttl(), 60);
            client.lease_revoke(5).await.expect("a revocation");
            assert_eq!(value(&client, "k").await, None);
        }
        shutdown.cancel();
        timeout(PATIENCE, task).await.expect("in time").expect("a task").expect("served");
    }
}

#[tokio::test]
async fn it_is_not_exposed_without_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let listen = listen.parse().expect("an address");
        let settings = Settings { listen, data: folder.path().to_owned(), ..Settings::default() };
        let outcome = Server::bind(settings, CancellationToken::new()).await;
        assert!(matches!(outcome.err(), Some(StoreError::Exposed { .. })), "{listen}");
    }
}

/// A trust domain of its own, with its authority.
struct Domain {
    name: &'static str,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Domain {
    fn new(name: &'static str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self { name, authority: CertifiedIssuer::self_signed(params, key).expect("an authority") }
    }

    /// Certificate and key of a workload, PEM.
    fn issue(&self, domain: &str, path: &str, dns: Option<&str>) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        let id = format!("spiffe://{domain}/{path}");
        params.subject_alt_names = vec![SanType::URI(id.try_into().expect("a URI"))];
        params.subject_alt_names.extend(dns.map(|name| SanType::DnsName(name.try_into().expect("a name"))));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.authority).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    fn member(&self, folder: &Path) -> Member {
        let roots = folder.join(format!("{}.pem", self.name));
        std::fs::write(&roots, self.authority.pem()).expect("a file");
        Member { trust_domain: self.name.into(), roots }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_writes_its_own_cluster_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let (east, west) = (Domain::new("east.example"), Domain::new("west.example"));
    let (certificate, key) = east.issue("east.example", "ns/isthmus-system/sa/store", Some("store.example"));
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    };
    let clusters = BTreeMap::from([
        ("east".to_owned(), east.member(folder.path())),
        ("west".to_owned(), west.member(folder.path())),
    ]);
    let tls = Tls { certificate: write("server.pem", &certificate), key: write("server-key.pem", &key), clusters };
    let target = embedded_with(Settings { tls: Some(tls), ..Settings::default() }).await;
    let endpoint = target.endpoint.replace("http://", "https://");
    let connect = async |(certificate, key): (String, String)| {
        let tls = StoreTls { roots: east.authority.pem(), certificate, key, server_name: Some("store.example".into()) };
        let settings = ClientSettings {
            endpoints: vec![endpoint.clone()],
            attempt_timeout: Duration::from_secs(3),
            ..ClientSettings::default()
        };
        Store::connect(settings, Some(tls)).await.expect("a client")
    };
    let (own, foreign) = ("/isthmus/v1/clusters/west/leader", "/isthmus/v1/clusters/east/leader");
    let gateway = connect(west.issue("west.example", "ns/isthmus-system/sa/gateway-west", None)).await;
    gateway.put(own, vec![1]).await.expect("its own key");
    assert!(is_denied(&gateway.put(foreign, vec![1]).await));
    assert!(is_denied(&gateway.delete(foreign).await));
    assert!(is_denied(&gateway.create_if_absent(foreign, vec![1]).await));
    assert_eq!(gateway.get_prefix("/isthmus/").await.expect("everybody reads").entries.len(), 1);
    let lease = gateway.lease(Duration::from_mins(1)).await.expect("a lease");
    let control = connect(east.issue("east.example", "ns/isthmus-system/sa/controlplane-east", None)).await;
    control.put(foreign, vec![1]).await.expect("east's own key");
    assert!(is_denied(&control.put_leased("/isthmus/v1/clusters/east/alive/a", vec![1], lease.id()).await));
    // West's authority cannot make a gateway of east, neither by name nor by trust domain.
    for (domain, path) in [
        ("west.example", "ns/isthmus-system/sa/gateway-east"),
        ("west.example", "ns/bookinfo/sa/gateway-west"),
        ("west.example", "ns/isthmus-system/sa/reviews"),
    ] {
        let outcome = connect(west.issue(domain, path, None)).await.get(own).await;
        assert!(is_denied(&outcome), "{domain}/{path}: {outcome:?}");
    }
    let forged = connect(west.issue("east.example", "ns/isthmus-system/sa/gateway-east", None)).await;
    assert!(forged.get(own).await.is_err(), "a forged trust domain does not get through the handshake");
    target.stop().await;
}

fn is_denied<T>(outcome: &Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Refused { message, .. }) if message == "etcdserver: permission denied")
}
