//! The client against a store that misbehaves: it forgets events, repeats them, tells old ones, falls silent, or turns
//! into another store in mid-stream. The reader is told each time, and then what is really there.

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbEvent, PbKeyValue, PbKvServer,
    PbKvService, PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse, PbRangeStreamResponse, PbResponseHeader,
    PbTxnRequest, PbTxnResponse, PbWatchRequest, PbWatchResponse, PbWatchServer, PbWatchService,
};
use isthmus_store::{Change, ClientSettings, Loss, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::Empty;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

const PATIENCE: Duration = Duration::from_secs(20);
/// The revision of every list.
const LISTED: i64 = 10;
const STORE: u64 = 7;

/// What goes wrong in the first watch; later ones say nothing, as nothing happens.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// A key that is in every later list is never told of.
    Forgets,
    /// An event older than the list.
    Travels,
    /// One event twice.
    Repeats,
    /// Events in the wrong order.
    Reorders,
    /// Another store's id.
    Turns,
    /// Not even the watch's creation is told, and no question is answered.
    IsSilent,
}

#[derive(Clone)]
struct Fake {
    fault: Fault,
    lists: Arc<AtomicUsize>,
    watches: Arc<AtomicUsize>,
}

fn header(revision: i64) -> PbResponseHeader {
    PbResponseHeader { cluster_id: STORE, member_id: 1, revision, raft_term: 1 }
}

fn kv(key: &str, revision: i64) -> PbKeyValue {
    PbKeyValue {
        key: key.into(),
        value: b"x".to_vec(),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        lease: 0,
    }
}

fn events(revisions: &[i64]) -> PbWatchResponse {
    let event = |revision: &i64| PbEvent { r#type: 0, kv: Some(kv("p/event", *revision)), prev_kv: None };
    let newest = revisions.iter().copied().max().unwrap_or(LISTED);
    PbWatchResponse {
        header: Some(header(newest)),
        events: revisions.iter().map(event).collect(),
        ..PbWatchResponse::default()
    }
}

impl Fake {
    fn script(&self) -> Vec<PbWatchResponse> {
        let created = PbWatchResponse { header: Some(header(LISTED)), created: true, ..PbWatchResponse::default() };
        if self.watches.fetch_add(1, Ordering::SeqCst) > 0 {
            return vec![created];
        }
        match self.fault {
            Fault::Forgets => vec![created],
            Fault::Travels => vec![created, events(&[LISTED])],
            Fault::Repeats => vec![created, events(&[11]), events(&[11])],
            Fault::Reorders => vec![created, events(&[12, 11])],
            Fault::Turns => {
                let other =
                    Some(PbResponseHeader { cluster_id: STORE + 1, revision: 11, ..PbResponseHeader::default() });
                vec![created, PbWatchResponse { header: other, ..events(&[11]) }]
            }
            Fault::IsSilent => Vec::new(),
        }
    }
}

#[tonic::async_trait]
impl PbKvService for Fake {
    async fn range(&self, _: Request<PbRangeRequest>) -> Result<Response<PbRangeResponse>, Status> {
        let mut kvs = vec![kv("p/listed", 5)];
        if self.lists.fetch_add(1, Ordering::SeqCst) > 0 {
            kvs.push(kv("p/never-told", 9));
        }
        let count = i64::try_from(kvs.len()).expect("small");
        Ok(Response::new(PbRangeResponse { header: Some(header(LISTED)), kvs, more: false, count }))
    }

    type RangeStreamStream = Empty<Result<PbRangeStreamResponse, Status>>;

    async fn range_stream(&self, _: Request<PbRangeRequest>) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented("range_stream"))
    }

    async fn put(&self, _: Request<PbPutRequest>) -> Result<Response<PbPutResponse>, Status> {
        Err(Status::unimplemented("put"))
    }

    async fn delete_range(&self, _: Request<PbDeleteRequest>) -> Result<Response<PbDeleteResponse>, Status> {
        Err(Status::unimplemented("delete_range"))
    }

    async fn txn(&self, _: Request<PbTxnRequest>) -> Result<Response<PbTxnResponse>, Status> {
        Err(Status::unimplemented("txn"))
    }

    async fn compact(&self, _: Request<PbCompactionRequest>) -> Result<Response<PbCompactionResponse>, Status> {
        Err(Status::unimplemented("compact"))
    }
}

#[tonic::async_trait]
impl PbWatchService for Fake {
    type WatchStream = ReceiverStream<Result<PbWatchResponse, Status>>;

    async fn watch(&self, request: Request<Streaming<PbWatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let (responses, stream) = mpsc::channel(16);
        let (script, mut requests) = (self.script(), request.into_inner());
        tokio::spawn(async move {
            for response in script {
                if responses.send(Ok(response)).await.is_err() {
                    return;
                }
            }
            // Hears every question until the client leaves, and answers none.
            while let Ok(Some(_)) = requests.message().await {}
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Follows a store with this fault: the first loss, and the keys of the list after it.
async fn follow(fault: Fault) -> (Loss, Vec<String>) {
    let fake = Fake { fault, lists: Arc::default(), watches: Arc::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tonic::transport::Server::builder()
        .add_service(PbKvServer::new(fake.clone()))
        .add_service(PbWatchServer::new(fake))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let server = tokio::spawn(server);
    let settings = ClientSettings {
        endpoints: vec![format!("http://{address}")],
        audit: if matches!(fault, Fault::Forgets) { Duration::ZERO } else { PATIENCE },
        silence: if matches!(fault, Fault::IsSilent) { Duration::from_millis(300) } else { PATIENCE },
        ..ClientSettings::default()
    };
    let store = Store::connect(settings, None).await.expect("a client");
    let mut changes = store.watch_prefix("p/");
    let mut loss = None;
    let found = loop {
        match timeout(PATIENCE, changes.next()).await.expect("in time").expect("a change") {
            Change::Lost(why) => loss = Some(why),
            Change::Snapshot { entries, .. } => {
                if let Some(loss) = loss {
                    break (loss, entries.into_iter().map(|entry| entry.key).collect());
                }
            }
            Change::Put(_) | Change::Delete { .. } => {}
        }
    };
    server.abort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diverging_watch_is_left_for_a_new_list() {
    for fault in [Fault::Forgets, Fault::Travels, Fault::Repeats, Fault::Reorders, Fault::Turns] {
        let (loss, keys) = follow(fault).await;
        assert!(matches!(loss, Loss::Diverged(_)), "{fault:?}: {loss:?}");
        assert_eq!(keys, ["p/listed", "p/never-told"], "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_watch_is_left_for_a_new_list() {
    let (loss, keys) = follow(Fault::IsSilent).await;
    assert_eq!((loss, keys.len()), (Loss::Silent, 2));
}
