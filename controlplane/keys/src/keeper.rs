//! Keeps keys fresh: each place is asked when it is wanted first, and then again and again; what can no longer be had is
//! kept for a while.

use crate::{Fetch, FetchError, Metrics, Settings};
use config::{FetchedKeys, JwtKeys};
use futures_util::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// One place.
#[derive(Debug)]
struct Kept {
    set: Option<String>,
    /// When it was had last.
    fetched: Instant,
    /// When it is asked next.
    due: Instant,
    pause: Duration,
}

/// How many are asked at once.
const AT_ONCE: usize = 8;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_mins(1);

/// Fetches what is `wanted`, and tells in `known` what there is, until `shutdown`.
pub async fn keep(
    settings: Settings,
    mut wanted: watch::Receiver<BTreeSet<JwtKeys>>,
    known: watch::Sender<FetchedKeys>,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let fetch = Fetch::new(settings.clone());
    let mut kept: BTreeMap<JwtKeys, Kept> = BTreeMap::new();
    loop {
        let now = Instant::now();
        choose(&mut kept, &wanted.borrow_and_update(), &settings, now);
        let due: Vec<JwtKeys> = kept.iter().filter(|(_, one)| one.due <= now).map(|(keys, _)| keys.clone()).collect();
        let asked = due.into_iter().map(|keys| async {
            let outcome = fetch.set(&keys).await;
            (keys, outcome)
        });
        let mut answers = futures_util::stream::iter(asked).buffer_unordered(AT_ONCE);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                answer = answers.next() => match answer {
                    Some((keys, outcome)) => {
                        metrics.count(outcome.is_ok());
                        if let Some(one) = kept.get_mut(&keys) {
                            one.take(&keys, outcome, &settings);
                        }
                        tell(&kept, &known, &metrics);
                    }
                    None => break,
                },
            }
        }
        drop(answers);
        tell(&kept, &known, &metrics);
        let next = kept.values().map(|one| one.due).min();
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = wanted.changed() => if changed.is_err() { return },
            () = at(next) => {}
        }
    }
}

/// Forgets what is no longer wanted, and begins with what is new.
fn choose(kept: &mut BTreeMap<JwtKeys, Kept>, wanted: &BTreeSet<JwtKeys>, settings: &Settings, now: Instant) {
    kept.retain(|keys, _| wanted.contains(keys));
    for keys in wanted {
        if kept.len() >= settings.max_places && !kept.contains_key(keys) {
            tracing::warn!(?keys, most = settings.max_places, "keys are not fetched: too many places are named");
            continue;
        }
        let new = || Kept { set: None, fetched: now, due: now, pause: FIRST_PAUSE };
        kept.entry(keys.clone()).or_insert_with(new);
    }
}

fn tell(kept: &BTreeMap<JwtKeys, Kept>, known: &watch::Sender<FetchedKeys>, metrics: &Metrics) {
    let sets = kept.iter().filter_map(|(keys, one)| Some((keys.clone(), one.set.clone()?))).collect();
    let all = FetchedKeys::new(sets);
    let unknown = kept.values().filter(|one| one.set.is_none()).count();
    metrics.unknown.set(i64::try_from(unknown).unwrap_or(i64::MAX));
    known.send_if_modified(|before| {
        let is_new = *before != all;
        *before = all;
        is_new
    });
}

// === impl Kept ===

impl Kept {
    fn take(&mut self, keys: &JwtKeys, outcome: Result<String, FetchError>, settings: &Settings) {
        let now = Instant::now();
        match outcome {
            Ok(set) => {
                if self.set.is_none() {
                    tracing::info!(?keys, "keys were fetched");
                }
                *self = Self { set: Some(set), fetched: now, due: now + settings.refresh(), pause: FIRST_PAUSE };
            }
            Err(error) => {
                tracing::warn!(?keys, %error, retry = ?self.pause, "keys cannot be fetched");
                self.due = now + self.pause;
                self.pause = (self.pause * 2).min(LAST_PAUSE).min(settings.refresh());
                if self.set.is_some() && now.duration_since(self.fetched) >= settings.stale() {
                    tracing::error!(?keys, "the last good keys are too old: tokens are refused");
                    self.set = None;
                }
            }
        }
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
