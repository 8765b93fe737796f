//! A gateway as a member of the federation: what it writes into the store, and how it leaves.

mod support;

use isthmus_eastwest::Settings;
use std::time::Duration;
use store::embedded::{self, Server};
use store::{ClientSettings, Key, Payload, Record, Store};
use support::authority::Authority;
use support::{
    End, REVIEWS, SNI, Site, Workload, drain, eventually, hello, imported, in_time, key, loopback, name, service,
    settings, two_with,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A store for a test.
struct Keeping {
    store: Store,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    _folder: TempDir,
}

impl Keeping {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let settings =
            embedded::Settings { listen: loopback(), data: folder.path().to_owned(), ..embedded::Settings::default() };
        let shutdown = CancellationToken::new();
        let server = Server::bind(settings, shutdown.clone()).await.expect("a server");
        let endpoints = vec![format!("http://{}", server.address().expect("bound"))];
        let task = tokio::spawn(async move { server.run().await.expect("served") });
        let store = Store::connect(ClientSettings { endpoints, ..ClientSettings::default() }, None).await;
        Self { store: store.expect("a client"), shutdown, task, _folder: folder }
    }

    /// The record under `at` once `wanted` holds of it.
    async fn record(&self, site: &Site, at: &Key, wanted: impl Fn(Option<&Record>) -> bool) -> Option<Record> {
        let (path, key) = (at.to_string(), site.registry_key.public());
        let polling = async {
            loop {
                let entry = self.store.get(&path).await.expect("a store");
                let record = entry.map(|entry| Record::decode(&path, &entry.value, &site.cluster.uid, &key));
                let record = record.transpose().expect("a good record");
                if wanted(record.as_ref()) {
                    return record;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        in_time("a record", polling).await
    }

    async fn stop(self) {
        self.shutdown.cancel();
        in_time("the store's end", self.task).await.expect("no panic");
    }
}

#[tokio::test]
async fn a_gateway_publishes_what_is_exported_and_that_it_lives() {
    let (keeping, east) = (Keeping::start().await, Authority::new("east"));
    let settings = Settings { advertise: vec!["gateway.east.example:15443".to_owned()], ..settings() };
    let site = Site::with(&east, &[], settings, Some(keeping.store.clone())).await;
    let alive = Key::alive(east.cluster.clone(), "gateway-0").expect("a key");
    let record = keeping.record(&site, &alive, |record| record.is_some()).await.expect("alive");
    let expected =
        Payload::Alive { gateway: "gateway-0".to_owned(), addresses: vec!["gateway.east.example:15443".to_owned()] };
    assert_eq!(record.payload, expected);

    let workload = Workload::start(b'a').await;
    site.offers(service(REVIEWS, "west", vec![workload.endpoint(&east)]));
    site.offers(service("private.bookinfo", "", vec![workload.endpoint(&east)]));
    let at = |audience: &str, host: &str| {
        let audience = (!audience.is_empty()).then(|| audience.parse().expect("a name"));
        Key::service(east.cluster.clone(), audience, key(host).namespace, key(host).host)
    };
    let put = keeping.record(&site, &at("west", REVIEWS), |record| record.is_some()).await.expect("put");
    let Payload::Service(export) = &put.payload else { panic!("{put:?}") };
    assert_eq!((export.groups.len(), export.groups[0].ready), (1, 1));
    // For everybody now, and no more for west alone.
    site.offers(service(REVIEWS, "*", vec![workload.endpoint(&east)]));
    keeping.record(&site, &at("", REVIEWS), |record| record.is_some()).await;
    let is_tombstone = |record: Option<&Record>| record.is_some_and(|record| record.payload == Payload::Tombstone);
    let withdrawn = keeping.record(&site, &at("west", REVIEWS), is_tombstone).await.expect("withdrawn");
    assert!(withdrawn.position > put.position);
    site.offers(service(REVIEWS, "", vec![workload.endpoint(&east)]));
    keeping.record(&site, &at("", REVIEWS), is_tombstone).await;
    for audience in ["", "west"] {
        keeping.record(&site, &at(audience, "private.bookinfo"), |record| record.is_none()).await;
    }
    site.stop().await;
    keeping.record(&site, &alive, |record| record.is_none()).await;
    keeping.stop().await;
}

#[tokio::test]
async fn a_gateway_that_leaves_lets_connections_end() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    {
        // Long enough for a machine that does much else.
        let (west, east, root) = two_with(|| Settings { drain_ms: 4000, ..settings() }).await;
        let workload = Workload::start(b'a').await;
        east.offers(service(REVIEWS, "*", vec![workload.endpoint(&root)]));
        west.offers(imported(REVIEWS, &[(&east.cluster, 1)]));
        let hello = hello(SNI);
        let mut ending = west.dial(&hello).await;
        let mut endless = west.dial(&hello).await;
        for stream in [&mut ending, &mut endless] {
            assert_eq!(name(stream).await, Ok(b'a'));
            let mut back = vec![0; hello.len()];
            in_time("the echo", stream.read_exact(&mut back)).await.expect("carried");
        }
        east.shutdown.cancel();
        west.shutdown.cancel();
        // Nothing new is taken, what is open may go on for a while, and then is reset.
        let refused = async || match TcpStream::connect(west.gateway.listen()).await {
            Ok(mut stream) => name(&mut stream).await.is_err(),
            Err(_) => true,
        };
        assert!(in_time("an answer", refused()).await);
        let last = vec![7; 500_000];
        let mut back = vec![0; last.len()];
        let (mut reader, mut writer) = ending.split();
        let both = async {
            let writing = async {
                writer.write_all(&last).await?;
                writer.shutdown().await
            };
            tokio::try_join!(writing, reader.read_exact(&mut back))
        };
        in_time("the last bytes", both).await.expect("carried");
        assert!(back == last, "the bytes differ");
        assert_eq!(drain(&mut ending).await, (Vec::new(), End::Fin));
        assert_eq!(drain(&mut endless).await.1, End::Reset);
        tokio::join!(west.stop(), east.stop());
        drop(workload);
    }
    eventually("the end of all tasks", || tasks() <= before).await;
}
