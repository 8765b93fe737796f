//! The Watch service. A stream keeps no queue of events: when a commit is announced it reads the log from where it
//! stands, so that a slow client costs nothing but its place, and falls behind compaction at worst.
//!
//! ```text
//! commit ──revision──▶ stream task ── reads LOG from `next` ──▶ one response a watcher ──▶ client
//! ```

use super::disk::Tables;
use super::engine::Engine;
use super::fault::Fault;
use super::span::Span;
use super::view::Version;
use etcd_client::proto::{PbEvent, PbKeyValue, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse, PbWatchService};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// How many responses may wait for one client.
const RESPONSES: usize = 8;
/// How many versions, and how many of their bytes, are read at once.
const READ_VERSIONS: usize = 1000;
const READ_BYTES: usize = 1 << 20;
/// The most watches in one stream.
const WATCHES: usize = 1024;
/// etcd's id for a response that is about the whole stream.
const WHOLE_STREAM: i64 = -1;
/// Number of etcd's kv.proto, Event.EventType.DELETE.
const DELETE: i32 = 1;

/// Serves etcdserverpb.Watch.
pub(super) struct Watch(pub(super) Engine);

/// One watch of a stream.
#[derive(Clone)]
struct Watcher {
    span: Span,
    /// The first revision it has not been told of.
    next: i64,
    without_puts: bool,
    without_deletes: bool,
    prev_kv: bool,
    progress: bool,
    /// Whether it was told anything since the last progress tick.
    spoken: bool,
}

/// One gRPC stream with its watches.
struct Stream {
    engine: Engine,
    responses: mpsc::Sender<Result<PbWatchResponse, Status>>,
    watchers: BTreeMap<i64, Watcher>,
    next_id: i64,
}

/// What one read of the log found.
struct Found {
    events: Vec<(i64, Vec<PbEvent>)>,
    compacted: i64,
    /// The last revision looked at.
    covered: i64,
    /// The store's revision.
    revision: i64,
}

/// The client has gone.
struct Gone;

// === impl Watch ===

#[tonic::async_trait]
impl PbWatchService for Watch {
    type WatchStream = ReceiverStream<Result<PbWatchResponse, Status>>;

    async fn watch(&self, request: Request<Streaming<PbWatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        self.0.access.caller(&request)?;
        let (responses, stream) = mpsc::channel(RESPONSES);
        let task = Stream { engine: self.0.clone(), responses, watchers: BTreeMap::new(), next_id: 0 };
        tokio::spawn(task.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

// === impl Stream ===

impl Stream {
    async fn run(mut self, mut requests: Streaming<PbWatchRequest>) {
        let shutdown = self.engine.shutdown.clone();
        let responses = self.responses.clone();
        let mut committed = self.engine.committed.clone();
        let mut ticks = tokio::time::interval(self.engine.settings.progress);
        ticks.reset();
        loop {
            let step = tokio::select! {
                () = shutdown.cancelled() => Err(Gone),
                () = responses.closed() => Err(Gone),
                request = requests.message() => match request {
                    Ok(Some(request)) => self.on_request(request).await,
                    Ok(None) | Err(_) => Err(Gone),
                },
                changed = committed.changed() => match changed {
                    Ok(()) => self.catch_up().await,
                    Err(_) => Err(Gone),
                },
                _ = ticks.tick() => self.on_tick().await,
            };
            if step.is_err() {
                return;
            }
        }
    }

    async fn on_request(&mut self, request: PbWatchRequest) -> Result<(), Gone> {
        match request.request_union {
            Some(PbWatchRequestUnion::CreateRequest(create)) => {
                let revision = self.engine.revision();
                let watcher = Watcher {
                    span: Span::new(if create.key.is_empty() { &[0] } else { &create.key }, &create.range_end),
                    next: if create.start_revision > 0 { create.start_revision } else { revision + 1 },
                    without_puts: create.filters.contains(&0),
                    without_deletes: create.filters.contains(&1),
                    prev_kv: create.prev_kv,
                    progress: create.progress_notify,
                    spoken: false,
                };
                self.create(create.watch_id, watcher, revision).await
            }
            Some(PbWatchRequestUnion::CancelRequest(cancel)) => {
                if self.watchers.remove(&cancel.watch_id).is_some() {
                    let header = self.engine.header(self.engine.revision());
                    let response = PbWatchResponse {
                        header: Some(header),
                        watch_id: cancel.watch_id,
                        canceled: true,
                        ..PbWatchResponse::default()
                    };
                    self.send(response).await?;
                }
                Ok(())
            }
            Some(PbWatchRequestUnion::ProgressRequest(_)) => {
                self.catch_up().await?;
                let Some(revision) = self.told() else { return Ok(()) };
                self.progress(WHOLE_STREAM, revision).await
            }
            None => Ok(()),
        }
    }

    async fn create(&mut self, wanted: i64, watcher: Watcher, revision: i64) -> Result<(), Gone> {
        let is_taken = wanted != 0 && self.watchers.contains_key(&wanted);
        if is_taken || self.watchers.len() >= WATCHES {
            let reason =
                if is_taken { "mvcc: duplicate watch ID" } else { "isthmus store: too many watches in a stream" };
            return self.send(self.refusal(-1, reason, revision)).await;
        }
        let id = if wanted == 0 { self.free_id() } else { wanted };
        self.watchers.insert(id, watcher);
        let header = Some(self.engine.header(revision));
        self.send(PbWatchResponse { header, watch_id: id, created: true, ..PbWatchResponse::default() }).await?;
        self.catch_up().await
    }

    fn refusal(&self, id: i64, reason: &str, revision: i64) -> PbWatchResponse {
        PbWatchResponse {
            header: Some(self.engine.header(revision)),
            watch_id: id,
            created: true,
            canceled: true,
            cancel_reason: reason.into(),
            ..PbWatchResponse::default()
        }
    }

    fn free_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    /// Tells every watcher all that is committed.
    async fn catch_up(&mut self) -> Result<(), Gone> {
        loop {
            let Some(from) = self.watchers.values().map(|watcher| watcher.next).min() else { return Ok(()) };
            if from > self.engine.revision() {
                return Ok(());
            }
            let watchers: Arc<BTreeMap<i64, Watcher>> = Arc::new(self.watchers.clone());
            let found = self.engine.read(move |tables| Found::read(tables, &watchers)).await;
            match found {
                Ok(found) => self.tell(found).await?,
                Err(fault) => {
                    // The client resumes from where it stands, here or at a store whose disk works.
                    let told = self.responses.send(Err(fault.into()));
                    self.engine.shutdown.run_until_cancelled(told).await;
                    return Err(Gone);
                }
            }
        }
    }

    async fn tell(&mut self, found: Found) -> Result<(), Gone> {
        self.cancel_compacted(found.compacted, found.revision).await?;
        for (id, events) in found.events {
            let Some(watcher) = self.watchers.get_mut(&id) else { continue };
            watcher.spoken = true;
            let header = Some(self.engine.header(found.covered));
            self.send(PbWatchResponse { header, watch_id: id, events, ..PbWatchResponse::default() }).await?;
        }
        for watcher in self.watchers.values_mut() {
            watcher.next = watcher.next.max(found.covered + 1);
        }
        Ok(())
    }

    async fn cancel_compacted(&mut self, compacted: i64, revision: i64) -> Result<(), Gone> {
        let late: Vec<i64> =
            self.watchers.iter().filter(|(_, watcher)| watcher.next < compacted).map(|(id, _)| *id).collect();
        for id in late {
            self.watchers.remove(&id);
            let response = PbWatchResponse {
                header: Some(self.engine.header(revision)),
                watch_id: id,
                canceled: true,
                compact_revision: compacted,
                cancel_reason: Fault::Compacted.to_string(),
                ..PbWatchResponse::default()
            };
            self.send(response).await?;
        }
        Ok(())
    }

    /// Up to where every watcher has been told. None while there is none.
    fn told(&self) -> Option<i64> {
        let next = self.watchers.values().map(|watcher| watcher.next).min()?;
        Some(self.engine.revision().min(next - 1))
    }

    async fn on_tick(&mut self) -> Result<(), Gone> {
        let revision = self.engine.revision();
        let mut silent = Vec::new();
        for (id, watcher) in &mut self.watchers {
            if watcher.progress && !std::mem::take(&mut watcher.spoken) {
                silent.push((*id, revision.min(watcher.next - 1)));
            }
        }
        for (id, told) in silent {
            self.progress(id, told).await?;
        }
        Ok(())
    }

    async fn progress(&self, id: i64, revision: i64) -> Result<(), Gone> {
        let header = Some(self.engine.header(revision));
        self.send(PbWatchResponse { header, watch_id: id, ..PbWatchResponse::default() }).await
    }

    async fn send(&self, response: PbWatchResponse) -> Result<(), Gone> {
        let sent = self.engine.shutdown.run_until_cancelled(self.responses.send(Ok(response))).await;
        sent.and_then(Result::ok).ok_or(Gone)
    }
}

// === impl Found ===

impl Found {
    /// Reads on from where the farthest behind of `watchers` stands.
    fn read(tables: &Tables, watchers: &BTreeMap<i64, Watcher>) -> Result<Self, Fault> {
        let (compacted, revision) = (tables.meta.compacted, tables.meta.revision);
        let standing = || watchers.iter().filter(|(_, watcher)| watcher.next >= compacted);
        let Some(from) = standing().map(|(_, watcher)| watcher.next).min() else {
            return Ok(Self { events: Vec::new(), compacted, covered: compacted.min(revision), revision });
        };
        let (versions, covered) = tables.view().written(from, revision, READ_VERSIONS, READ_BYTES)?;
        let mut events = Vec::new();
        for (id, watcher) in standing() {
            let mut own = Vec::new();
            for version in versions.iter().filter(|version| watcher.wants(version)) {
                own.push(event(tables, version, watcher.prev_kv)?);
            }
            if !own.is_empty() {
                events.push((*id, own));
            }
        }
        Ok(Self { events, compacted, covered, revision })
    }
}

fn event(tables: &Tables, version: &Version, with_previous: bool) -> Result<PbEvent, Fault> {
    let kv: &PbKeyValue = &version.kv;
    let prev_kv = if with_previous { tables.view().before(&kv.key, kv.mod_revision)? } else { None };
    Ok(PbEvent { r#type: if version.is_deletion() { DELETE } else { 0 }, kv: Some(kv.clone()), prev_kv })
}

// === impl Watcher ===

impl Watcher {
    fn wants(&self, version: &Version) -> bool {
        let is_filtered = if version.is_deletion() { self.without_deletes } else { self.without_puts };
        version.kv.mod_revision >= self.next && !is_filtered && self.span.contains(&version.kv.key)
    }
}
