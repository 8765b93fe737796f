//! Following a prefix: a full list, then every change in order, and a full list again after anything that may have
//! lost one.
//!
//! ```text
//! list at revision R ─▶ watch from R+1 ─▶ Snapshot ─▶ Put, Delete, … ─▶ (broken, silent, compacted, diverged) ─▶ Lost ─╮
//!        ▲─────────────────────────── pause, 10 ms to 5 s ─────────────────────────────────────────────────────────────╯
//! ```
//! `Lost` is about information: it says that nothing is known, not that anything is gone.

use crate::StoreError;
use crate::backoff::Backoff;
use crate::client::{ANSWER_BYTES, Entry, Listing, Store, classify};
use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::Stream;

/// How many changes may wait for the reader. While they do, the store's stream waits too.
const CHANGES: usize = 256;

/// What a reader of a prefix is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Everything below the prefix, as of a revision. What it lacks is not there; whether that means anything is the
    /// reader's to judge, by comparing with what it knew.
    Snapshot {
        /// The revision.
        revision: i64,
        /// The store's own id; another store has another.
        store: u64,
        /// All keys.
        entries: Vec<Entry>,
    },
    /// A key was written.
    Put(Entry),
    /// A key was deleted, or its lease ended.
    Delete {
        /// The key.
        key: String,
        /// When.
        revision: i64,
    },
    /// Nothing is known from here to the next Snapshot. Told once, however long it lasts.
    Lost(Loss),
}

/// Why nothing is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// The store is not reached, or refuses.
    #[error("{0}")]
    Unreachable(String),
    /// The store said nothing for longer than the settings allow, although it was asked.
    #[error("the store is silent")]
    Silent,
    /// The changes that came next are forgotten.
    #[error("the store has compacted what was not told yet")]
    Compacted,
    /// What was told contradicts itself or the store's list of keys. Counted as a divergence.
    #[error("the store's watch diverged: {0}")]
    Diverged(String),
}

/// The changes of a prefix. Ends when dropped.
#[derive(Debug)]
pub struct Changes(mpsc::Receiver<Change>);

struct Follower {
    store: Store,
    prefix: String,
    changes: mpsc::Sender<Change>,
}

/// What has been told since the last Snapshot.
struct Told {
    /// Every key with the revision of its last write.
    keys: BTreeMap<String, i64>,
    /// Everything up to here.
    revision: i64,
    store: u64,
}

enum End {
    Lost(Loss),
    /// The reader has gone.
    Dropped,
}

// === impl Store ===

impl Store {
    /// Follows all keys below `prefix`, through every failure of the store, until the result is dropped.
    pub fn watch_prefix(&self, prefix: &str) -> Changes {
        let (changes, receiver) = mpsc::channel(CHANGES);
        let follower = Follower { store: self.clone(), prefix: prefix.to_owned(), changes: changes.clone() };
        tokio::spawn(async move {
            tokio::select! {
                () = follower.run() => {}
                () = changes.closed() => {}
            }
        });
        Changes(receiver)
    }
}

// === impl Changes ===

impl Changes {
    /// The next change. None only while the runtime shuts down.
    pub async fn next(&mut self) -> Option<Change> {
        self.0.recv().await
    }
}

impl Stream for Changes {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        self.0.poll_recv(cx)
    }
}

// === impl Follower ===

impl Follower {
    async fn run(&self) {
        let settings = &self.store.settings;
        let mut pauses = Backoff::new(settings.shortest_pause, settings.longest_pause);
        let mut is_known = true;
        loop {
            let End::Lost(loss) = self.follow(&mut pauses, &mut is_known).await else { return };
            tracing::debug!(%loss, prefix = self.prefix, "following is begun anew");
            if std::mem::take(&mut is_known) && self.changes.send(Change::Lost(loss)).await.is_err() {
                return;
            }
            sleep(pauses.next()).await;
        }
    }

    /// One list and one watch.
    async fn follow(&self, pauses: &mut Backoff, is_known: &mut bool) -> End {
        let (listing, mut stream) = match self.begin().await {
            Ok(begun) => begun,
            Err(error) => return End::Lost(Loss::Unreachable(error.to_string())),
        };
        let mut told = Told::from(&listing);
        let Listing { revision, store, entries } = listing;
        if self.changes.send(Change::Snapshot { revision, store, entries }).await.is_err() {
            return End::Dropped;
        }
        *is_known = true;
        pauses.reset();
        let outcome = self.listen(&mut stream, &mut told).await;
        outcome.err().unwrap_or(End::Dropped)
    }

    async fn begin(&self) -> Result<(Listing, WatchStream), StoreError> {
        let listing = self.store.get_prefix(&self.prefix).await?;
        let options =
            WatchOptions::new().with_prefix().with_start_revision(listing.revision + 1).with_progress_notify();
        let options = &options;
        let stream = self.store.call("watch", |client| async move {
            let mut watch = client.watch_client().max_decoding_message_size(ANSWER_BYTES);
            watch.watch(self.prefix.as_str(), Some(options.clone())).await
        });
        Ok((listing, stream.await?))
    }

    /// Passes on what the stream says; asks when it is silent; compares now and then.
    async fn listen(&self, stream: &mut WatchStream, told: &mut Told) -> Result<(), End> {
        let settings = &self.store.settings;
        let mut heard = Instant::now();
        let mut audited = Instant::now();
        loop {
            match timeout(settings.silence / 3, stream.message()).await {
                Ok(Ok(Some(response))) => {
                    heard = Instant::now();
                    self.pass_on(&response, told).await?;
                }
                Ok(Ok(None)) => return Err(lost("the stream ended")),
                Ok(Err(error)) => return Err(lost(classify("watch", &error).to_string())),
                Err(_) if heard.elapsed() >= settings.silence => return Err(End::Lost(Loss::Silent)),
                Err(_) => match timeout(settings.attempt_timeout, stream.request_progress()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return Err(lost(classify("watch", &error).to_string())),
                    Err(_) => return Err(End::Lost(Loss::Silent)),
                },
            }
            if audited.elapsed() >= settings.audit {
                self.audit(told).await?;
                audited = Instant::now();
            }
        }
    }

    async fn pass_on(&self, response: &WatchResponse, told: &mut Told) -> Result<(), End> {
        if response.compact_revision() > 0 {
            return Err(End::Lost(Loss::Compacted));
        }
        if response.canceled() {
            return Err(lost(format!("the watch was cancelled: {}", response.cancel_reason())));
        }
        let header = response.header();
        let store = header.map_or(0, etcd_client::ResponseHeader::cluster_id);
        if store != told.store {
            return Err(diverged(format!("store {store} answers, {} was asked", told.store)));
        }
        let before = told.revision;
        for event in response.events() {
            let Some(kv) = event.kv() else { continue };
            let entry = Entry::from(kv);
            if entry.revision <= before || entry.revision < told.revision {
                return Err(diverged(format!("{} at revision {} after {}", entry.key, entry.revision, told.revision)));
            }
            told.revision = entry.revision;
            let change = match event.event_type() {
                EventType::Put => {
                    told.keys.insert(entry.key.clone(), entry.revision);
                    Change::Put(entry)
                }
                EventType::Delete => {
                    told.keys.remove(&entry.key);
                    Change::Delete { key: entry.key, revision: entry.revision }
                }
            };
            self.changes.send(change).await.map_err(|_| End::Dropped)?;
        }
        // Without events the header says how far we have been told; with events it may run ahead of them.
        if response.events().is_empty() && !response.created() {
            told.revision = told.revision.max(header.map_or(0, etcd_client::ResponseHeader::revision));
        }
        Ok(())
    }

    /// Compares what was told with the store's own list as of the same revision: events do get lost (etcd #15271,
    /// #17529, #19179).
    async fn audit(&self, told: &Told) -> Result<(), End> {
        // Unreachable or compacted: the stream itself will tell.
        let Ok(listing) = self.store.keys(&self.prefix, told.revision).await else { return Ok(()) };
        if Told::from(&listing).keys == told.keys {
            return Ok(());
        }
        Err(diverged(format!("its list at revision {} differs from what it told", told.revision)))
    }
}

fn lost(why: impl Into<String>) -> End {
    End::Lost(Loss::Unreachable(why.into()))
}

fn diverged(what: String) -> End {
    End::Lost(Loss::Diverged(what))
}

// === impl Told ===

impl From<&Listing> for Told {
    fn from(listing: &Listing) -> Self {
        let keys = listing.entries.iter().map(|entry| (entry.key.clone(), entry.revision)).collect();
        Self { keys, revision: listing.revision, store: listing.store }
    }
}
