//! One peer's part of the store: its services for everybody and for this cluster, and its gateways' liveness.

use crate::Metrics;
use crate::event::Event;
use crate::offers::{Offers, Part};
use futures_util::stream::{BoxStream, SelectAll};
use futures_util::{FutureExt, StreamExt};
use model::ClusterId;
use std::collections::BTreeMap;
use std::time::Instant;
use store::{Change, Store};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How many changes are taken in before they are passed on together.
const BATCH: usize = 1_024;

type Changes = SelectAll<BoxStream<'static, (Part, Change)>>;

/// Sends what `peer` offers to `events` whenever it is different, until `shutdown`.
pub(crate) async fn run(
    (peer, own): (ClusterId, ClusterId),
    mut offers: Offers,
    store: Store,
    metrics: Metrics,
    events: mpsc::Sender<Event>,
    shutdown: CancellationToken,
) {
    let mut changes = watch(&store, &peer, &own);
    let mut rejected = BTreeMap::new();
    loop {
        let (part, change) = tokio::select! {
            () = shutdown.cancelled() => return,
            Some(change) = changes.next() => change,
        };
        apply(&mut offers, part, change);
        for _ in 0..BATCH {
            let Some(Some((part, change))) = changes.next().now_or_never() else { break };
            apply(&mut offers, part, change);
        }
        let view = offers.view();
        count(&metrics, &peer, &rejected, &view.rejected);
        rejected.clone_from(&view.rejected);
        if events.send(Event::Peer(peer.clone(), view)).await.is_err() {
            return;
        }
    }
}

fn watch(store: &Store, peer: &ClusterId, own: &ClusterId) -> Changes {
    let part = |part: Part, tail: &str| {
        let prefix = format!("{}{tail}", store::cluster_prefix(peer));
        store.watch_prefix(&prefix).map(move |change| (part, change)).boxed()
    };
    let parts = [part(Part::All, "for/all/"), part(Part::Own, &format!("for/{own}/")), part(Part::Alive, "alive/")];
    parts.into_iter().collect()
}

fn apply(offers: &mut Offers, part: Part, change: Change) {
    let now = Instant::now();
    match change {
        Change::Snapshot { entries, .. } => {
            offers.snapshot(part, entries.iter().map(|entry| (entry.key.as_str(), &entry.value[..])), now);
        }
        Change::Put(entry) => offers.put(part, &entry.key, &entry.value, now),
        Change::Delete { key, .. } => offers.delete(part, &key, now),
        Change::Lost(reason) => {
            tracing::debug!(?part, %reason, "the store is lost");
            offers.lost(part, now);
        }
    }
}

/// Counts what was refused since `before`.
fn count(
    metrics: &Metrics,
    peer: &ClusterId,
    before: &BTreeMap<&'static str, u64>,
    after: &BTreeMap<&'static str, u64>,
) {
    for (reason, total) in after {
        let new = total - before.get(reason).copied().unwrap_or_default();
        if new > 0 {
            metrics.reject(peer, reason, new);
            tracing::warn!(%peer, reason, count = new, "records of a peer are refused");
        }
    }
}
