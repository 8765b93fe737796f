//! The client against the embedded server: writes as a leader, elections, and following a prefix through everything
//! that goes wrong.

use isthmus_store::embedded::{Server, Settings};
use isthmus_store::{Change, Changes, ClientSettings, Creation, Key, Loss, Store, StoreError};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);
const PREFIX: &str = "/isthmus/v1/clusters/east/";

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(folder: &Path, listen: SocketAddr) -> Self {
        let settings = Settings { listen, data: folder.to_owned(), ..Settings::default() };
        let shutdown = CancellationToken::new();
        let server = Server::bind(settings, shutdown.clone()).await.expect("a server");
        let address = server.address().expect("an address");
        Self { address, shutdown, task: tokio::spawn(async move { server.run().await.expect("served") }) }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.task).await.expect("in time").expect("stops");
    }
}

async fn server() -> (Running, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let running = Running::start(folder.path(), "127.0.0.1:0".parse().expect("an address")).await;
    (running, folder)
}

fn settings(address: SocketAddr) -> ClientSettings {
    ClientSettings {
        endpoints: vec![format!("http://{address}")],
        longest_pause: Duration::from_millis(200),
        ..ClientSettings::default()
    }
}

async fn store(address: SocketAddr) -> Store {
    Store::connect(settings(address), None).await.expect("a client")
}

fn leader() -> Key {
    Key::leader("east".parse().expect("a name"))
}

async fn next(changes: &mut Changes) -> Change {
    timeout(PATIENCE, changes.next()).await.expect("in time").expect("a change")
}

/// Applies changes until `wanted` holds of what a reader then knows.
async fn until(changes: &mut Changes, wanted: impl Fn(&BTreeMap<String, Vec<u8>>, &[Loss]) -> bool) -> Vec<Loss> {
    let (mut known, mut losses) = (BTreeMap::new(), Vec::new());
    loop {
        match next(changes).await {
            Change::Snapshot { entries, .. } => {
                known = entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
            }
            Change::Put(entry) => {
                known.insert(entry.key, entry.value);
            }
            Change::Delete { key, .. } => {
                known.remove(&key);
            }
            Change::Lost(loss) => losses.push(loss),
        }
        if wanted(&known, &losses) {
            return losses;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prefix_is_listed_in_pages_of_one_revision() {
    let (running, _folder) = server().await;
    let store = Store::connect(ClientSettings { page: 7, ..settings(running.address) }, None).await.expect("a client");
    for n in 0..30 {
        store.put(&format!("{PREFIX}alive/{n:02}"), vec![n]).await.expect("a put");
    }
    store.put("/isthmus/v1/clusters/east0", vec![]).await.expect("a put");
    let listing = store.get_prefix(PREFIX).await.expect("a list");
    let values: Vec<u8> = listing.entries.iter().map(|entry| entry.value[0]).collect();
    assert_eq!(values, (0..30).collect::<Vec<u8>>());
    assert_eq!(listing.revision, 32);
    assert_ne!(listing.store, 0);
    // Values far larger than records do not hide what lies beside them.
    for n in 0..14 {
        store.put(&format!("{PREFIX}large/{n:02}"), vec![0; 1_400_000]).await.expect("a put");
    }
    let store = Store::connect(settings(running.address), None).await.expect("a client");
    assert_eq!(store.get_prefix(PREFIX).await.expect("a list").entries.len(), 44);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_created_is_created_once() {
    let (running, _folder) = server().await;
    let store = store(running.address).await;
    let key = format!("{PREFIX}addresses/api.example.com");
    let Creation::Created(revision) = store.create_if_absent(&key, vec![1]).await.expect("created") else {
        panic!("nothing was there")
    };
    assert_eq!(store.create_if_absent(&key, vec![1]).await.expect("again"), Creation::Created(revision));
    let Creation::Exists(entry) = store.create_if_absent(&key, vec![2]).await.expect("an answer") else {
        panic!("it was there")
    };
    assert_eq!((entry.value, entry.create_revision), (vec![1], revision));
    store.delete(&key).await.expect("a delete");
    assert_eq!(store.get(&key).await.expect("a get"), None);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_leads_and_the_next_takes_over() {
    let (running, _folder) = server().await;
    let (one, two) = (store(running.address).await, store(running.address).await);
    let ttl = Duration::from_secs(2);
    let first = timeout(PATIENCE, one.campaign(&leader(), "gw-0", ttl)).await.expect("elected");
    one.put_as_leader(&first, "k", vec![1]).await.expect("a leader's write");
    let waiting = tokio::spawn({
        let two = two.clone();
        async move { two.campaign(&leader(), "gw-1", ttl).await }
    });
    // Longer than the lease lasts: it is kept alive.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(!waiting.is_finished() && !first.is_lost());
    one.put_as_leader(&first, "k", vec![2]).await.expect("a leader's write");
    let key = first.key().to_owned();
    first.resign().await.expect("a resignation");
    let second = timeout(PATIENCE, waiting).await.expect("elected").expect("a task");
    assert_eq!(one.get(&key).await.expect("a get").expect("a leader").value, b"gw-1");
    // A leader that dies without a word is followed when its lease ends, and its late writes are refused.
    drop(second);
    let third = timeout(PATIENCE, one.campaign(&leader(), "gw-2", ttl)).await.expect("elected");
    one.delete(&key).await.expect("somebody deletes the leader key");
    let refused = one.put_as_leader(&third, "k", vec![3]).await;
    assert!(matches!(refused, Err(StoreError::NotLeader(_))), "{refused:?}");
    assert!(third.is_lost());
    assert_eq!(one.get("k").await.expect("a get").expect("a key").value, [2]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_lost_when_the_store_is_away_too_long() {
    let (running, _folder) = server().await;
    let store = store(running.address).await;
    let leadership = store.campaign(&leader(), "gw-0", Duration::from_secs(1)).await;
    running.stop().await;
    timeout(PATIENCE, leadership.lost()).await.expect("it is told");
    let refused = store.put_as_leader(&leadership, "k", vec![]).await;
    assert!(refused.as_ref().is_err_and(StoreError::is_retryable), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_hears_everything_across_a_restart() {
    let (running, folder) = server().await;
    let address = running.address;
    let store = store(address).await;
    store.put(&format!("{PREFIX}a"), vec![1]).await.expect("a put");
    let mut changes = store.watch_prefix(PREFIX);
    let Change::Snapshot { entries, .. } = next(&mut changes).await else { panic!("a list comes first") };
    assert_eq!(entries.len(), 1);
    let revision = store.put(&format!("{PREFIX}b"), vec![2]).await.expect("a put");
    let Change::Put(entry) = next(&mut changes).await else { panic!("a write") };
    assert_eq!((entry.value, entry.revision), (vec![2], revision));
    store.delete(&format!("{PREFIX}a")).await.expect("a delete");
    assert_eq!(next(&mut changes).await, Change::Delete { key: format!("{PREFIX}a"), revision: revision + 1 });
    running.stop().await;
    let Change::Lost(Loss::Unreachable(_)) = next(&mut changes).await else { panic!("the loss is told") };
    let running = Running::start(folder.path(), address).await;
    let Change::Snapshot { entries, .. } = next(&mut changes).await else { panic!("the loss is told once") };
    assert_eq!(entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), [format!("{PREFIX}b")]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_survives_compaction_during_churn() {
    let (running, _folder) = server().await;
    let store = store(running.address).await;
    let mut changes = store.watch_prefix(PREFIX);
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            let mut etcd = etcd_client::Client::connect(["http://".to_owned() + &running.address.to_string()], None)
                .await
                .expect("a client");
            for n in 0..300_u32 {
                let key = format!("{PREFIX}k{}", n % 20);
                let revision = match n % 7 {
                    6 => store.delete(&key).await.map(|()| 0),
                    _ => store.put(&key, n.to_be_bytes().to_vec()).await,
                };
                if let Ok(revision) = revision
                    && n % 10 == 9
                    && revision > 0
                {
                    etcd.compact(revision, None).await.expect("a compaction");
                }
            }
            store.put(&format!("{PREFIX}end"), vec![]).await.expect("a put");
            running
        }
    });
    let (mut known, end) = (BTreeMap::new(), format!("{PREFIX}end"));
    while !known.contains_key(&end) {
        match next(&mut changes).await {
            Change::Snapshot { entries, .. } => {
                known = entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
            }
            Change::Put(entry) => {
                known.insert(entry.key, entry.value);
            }
            Change::Delete { key, .. } => {
                known.remove(&key);
            }
            Change::Lost(_) => {}
        }
    }
    let listing = store.get_prefix(PREFIX).await.expect("a list");
    let expected: BTreeMap<_, _> = listing.entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
    assert_eq!(known, expected);
    writer.await.expect("a writer").stop().await;
}

/// A wire to `target` that goes dead while `alive` is false: connections stay, bytes do not.
async fn wire(target: SocketAddr, alive: watch::Receiver<bool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(target).await else { continue };
            let (near, far) = (Arc::new(near), Arc::new(far));
            tokio::spawn(carry(near.clone(), far.clone(), alive.clone()));
            tokio::spawn(carry(far, near, alive.clone()));
        }
    });
    address
}

async fn carry(from: Arc<TcpStream>, to: Arc<TcpStream>, mut alive: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if alive.wait_for(|alive| *alive).await.is_err() || from.readable().await.is_err() {
            return;
        }
        if !*alive.borrow() {
            continue;
        }
        let read = match from.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        };
        let mut sent = 0;
        while sent < read {
            if to.writable().await.is_err() {
                return;
            }
            match to.try_write(&buffer[sent..read]) {
                Ok(written) => sent += written,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_wire_is_noticed_and_left() {
    let (running, _folder) = server().await;
    let (alive, seen) = watch::channel(true);
    let address = wire(running.address, seen).await;
    let hasty = ClientSettings {
        silence: Duration::from_secs(1),
        attempt_timeout: Duration::from_millis(500),
        ..settings(address)
    };
    let reader = Store::connect(hasty, None).await.expect("a client");
    let mut changes = reader.watch_prefix(PREFIX);
    let Change::Snapshot { .. } = next(&mut changes).await else { panic!("a list comes first") };
    // Quiet, but alive: asked, the store answers, and nothing is lost.
    assert!(timeout(Duration::from_millis(1500), changes.next()).await.is_err());
    alive.send_replace(false);
    let direct = store(running.address).await;
    direct.put(&format!("{PREFIX}a"), vec![1]).await.expect("a put");
    let Change::Lost(loss) = next(&mut changes).await else { panic!("the silence is noticed") };
    assert!(matches!(loss, Loss::Silent | Loss::Unreachable(_)), "{loss:?}");
    let slow = Instant::now();
    let outcome = reader.put("k", vec![]).await;
    assert!(outcome.is_err_and(|error| error.is_retryable()));
    assert!(slow.elapsed() < Duration::from_secs(5), "every call ends");
    alive.send_replace(true);
    until(&mut changes, |known, _| known.contains_key(&format!("{PREFIX}a"))).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_endpoints_is_enough() {
    let (running, _folder) = server().await;
    let dead = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let endpoints = vec![format!("http://{dead}"), format!("http://{}", running.address)];
    // Each begins with any of the two.
    for client in 0..10 {
        let settings = ClientSettings { endpoints: endpoints.clone(), ..settings(dead) };
        let store = Store::connect(settings, None).await.expect("a client");
        for n in 0..10 {
            store.put(&format!("{PREFIX}{client}{n}"), vec![n]).await.expect("a put");
        }
        assert_eq!(store.get_prefix(PREFIX).await.expect("a list").entries.len(), 10 * (client + 1));
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swapped_store_is_listed_anew() {
    let (running, _folder) = server().await;
    let address = running.address;
    let store = store(address).await;
    store.put(&format!("{PREFIX}a"), vec![1]).await.expect("a put");
    let mut changes = store.watch_prefix(PREFIX);
    let Change::Snapshot { store: before, .. } = next(&mut changes).await else { panic!("a list comes first") };
    running.stop().await;
    let empty = tempfile::tempdir().expect("a folder");
    let running = Running::start(empty.path(), address).await;
    let Change::Lost(_) = next(&mut changes).await else { panic!("the loss is told") };
    let Change::Snapshot { store: after, entries, revision } = next(&mut changes).await else { panic!("a list") };
    assert_ne!(before, after, "the reader can tell that it is another store");
    assert_eq!((entries.len(), revision), (0, 1));
    running.stop().await;
}

#[tokio::test]
async fn what_cannot_be_an_endpoint_is_refused() {
    for endpoints in [vec![], vec!["http://".to_owned()], vec!["http://a b".to_owned()]] {
        let settings = ClientSettings { endpoints: endpoints.clone(), ..ClientSettings::default() };
        let outcome = Store::connect(settings, None).await;
        assert!(matches!(outcome, Err(StoreError::Settings { .. })), "{endpoints:?}");
    }
}
