//! The workloads that registered themselves, as the store has them: read by all of the cluster's control planes and
//! gateways, written by the control plane that each is connected to.
//!
//! ```text
//! connected here ─▶ record ─▶ store ─▶ every registry of the cluster ─▶ WorkloadEntry ─▶ endpoint
//! gone from here ─▶ record with the time ─▶ (grace) ─▶ tombstone
//! its control plane is gone without a word ─▶ (longer grace) ─▶ tombstone, by any other
//! ```
//! What the store merely lacks is kept for the longer grace: its owner writes it again.

use crate::event::Event;
use crate::registrations::{Id, Registrations};
use crate::{Controller, Settings};
use federation::election::next_epoch;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, SelectAll};
use identity::RegistryKey;
use model::Cluster;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use store::{Change, HighWater, Key, KeyKind, Payload, Position, Record, Stale, Store, StoreError, Workload};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Keeps what is known of registered workloads, here and in the store.
pub(crate) struct Registrar {
    cluster: Cluster,
    key: Arc<RegistryKey>,
    registrations: Registrations,
    controller: Option<Controller>,
    store: Option<Store>,
    high_water: HighWater,
    /// What the store says, or would say if there were one.
    known: BTreeMap<Id, Known>,
    /// The control planes that run; not known while the store is away.
    controllers: Option<BTreeSet<String>>,
    /// What is to be written.
    dirty: BTreeSet<Id>,
    /// Tombstones, and since when they stand.
    buried: BTreeMap<Id, Instant>,
    forget_after: Duration,
    told: Arc<Vec<Workload>>,
}

struct Known {
    workload: Workload,
    /// Since when nobody vouches for it, as far as is known here, and why.
    doubted: Option<(Instant, Doubt)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doubt {
    /// It is connected to no control plane.
    Left,
    /// Its control plane is gone without a word.
    Orphaned,
    /// The store lacks it.
    Lacking,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Workloads,
    Controllers,
}

type Changes = SelectAll<BoxStream<'static, (Part, Change)>>;

/// How often it is looked what has gone, and what must be written again.
const TICK: Duration = Duration::from_millis(500);
/// How long the store may take to write what there is.
const PATIENCE: Duration = Duration::from_secs(2);

// === impl Registrar ===

impl Registrar {
    pub(crate) fn new(settings: &Settings, registrations: Registrations, store: Option<Store>) -> Self {
        Self {
            cluster: settings.cluster.clone(),
            key: settings.registry_key.clone(),
            registrations,
            controller: settings.controller.clone(),
            store,
            high_water: HighWater::default(),
            known: BTreeMap::new(),
            controllers: None,
            dirty: BTreeSet::new(),
            buried: BTreeMap::new(),
            forget_after: settings.forget_after,
            told: Arc::default(),
        }
    }

    /// Tells `events` which workloads are registered, and the store which are connected here, until `shutdown`.
    pub(crate) async fn run(mut self, events: mpsc::Sender<Event>, shutdown: CancellationToken) {
        let mut changes = self.watch();
        let registrations = self.registrations.clone();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some((part, change)) = changes.next() => self.apply(part, change, Instant::now()),
                () = registrations.changed() => {}
                _ = tick.tick() => {}
            }
            let now = Instant::now();
            self.follow(now);
            self.clean(now);
            if !self.tell(&events).await {
                return;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                // What is not written in time is tried again; meanwhile nothing here waits for the store.
                _ = tokio::time::timeout(PATIENCE, self.write(now)) => {}
            }
        }
    }

    fn watch(&self) -> Changes {
        let Some(store) = &self.store else { return SelectAll::new() };
        let part = |part: Part, tail: &str| {
            let prefix = format!("{}{tail}", store::cluster_prefix(&self.cluster.id));
            store.watch_prefix(&prefix).map(move |change| (part, change)).boxed()
        };
        [part(Part::Workloads, "workloads/"), part(Part::Controllers, "controllers/")].into_iter().collect()
    }

    /// Takes in what the store says; what does not verify says nothing.
    fn apply(&mut self, part: Part, change: Change, now: Instant) {
        match (part, change) {
            (Part::Workloads, Change::Snapshot { entries, .. }) => {
                let mut lacking: BTreeSet<Id> = self.known.keys().cloned().collect();
                for entry in entries {
                    if let Some(id) = self.read(&entry.key, &entry.value, now) {
                        lacking.remove(&id);
                    }
                }
                for id in lacking {
                    self.doubt(&id, Doubt::Lacking, now);
                }
            }
            (Part::Workloads, Change::Put(entry)) => {
                self.read(&entry.key, &entry.value, now);
            }
            (Part::Workloads, Change::Delete { key, .. }) => {
                if let Ok(Key { kind: KeyKind::Workload { namespace, name }, .. }) = key.parse() {
                    self.doubt(&(namespace, name), Doubt::Lacking, now);
                }
            }
            (Part::Controllers, Change::Snapshot { entries, .. }) => {
                let names = entries.iter().filter_map(|entry| self.controller_of(&entry.key, &entry.value));
                self.controllers = Some(names.collect());
            }
            (Part::Controllers, Change::Put(entry)) => {
                let name = self.controller_of(&entry.key, &entry.value);
                self.controllers.get_or_insert_default().extend(name);
            }
            (Part::Controllers, Change::Delete { key, .. }) => {
                if let (Ok(Key { kind: KeyKind::Controller { name }, .. }), Some(all)) =
                    (key.parse(), &mut self.controllers)
                {
                    all.remove(&name);
                }
            }
            (Part::Controllers, Change::Lost(_)) => self.controllers = None,
            (Part::Workloads, Change::Lost(_)) => {}
        }
    }

    fn controller_of(&self, key: &str, value: &[u8]) -> Option<String> {
        match Record::decode(key, value, &self.cluster.uid, &self.key.public()).ok()?.payload {
            Payload::Controller { name } => Some(name),
            _ => None,
        }
    }

    /// Takes in one record; whose it is, if it is to be believed.
    fn read(&mut self, key: &str, value: &[u8], now: Instant) -> Option<Id> {
        let record = match Record::decode(key, value, &self.cluster.uid, &self.key.public()) {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(key, %error, "a registered workload is not believed");
                return None;
            }
        };
        let KeyKind::Workload { namespace, name } = &record.key.kind else { return None };
        let id = (namespace.clone(), name.clone());
        match self.high_water.admit(&record) {
            Ok(()) => {}
            // The same again is no news, and proof that it is there.
            Err(Stale::Known { .. }) => {
                if let Some(known) = self.known.get_mut(&id) {
                    known.doubted = known.doubted.filter(|(_, doubt)| *doubt == Doubt::Left);
                }
                return Some(id);
            }
            // An echo of what was written here, and is written anew by now.
            Err(Stale::Old { .. }) if self.is_own(&record.payload) => return Some(id),
            Err(stale) => {
                tracing::warn!(key, %stale, "a registered workload is not believed");
                return None;
            }
        }
        if let Payload::Workload(workload) = record.payload {
            self.buried.remove(&id);
            self.store_says(&id, workload, now);
        } else {
            self.known.remove(&id);
            self.buried.insert(id.clone(), now);
        }
        Some(id)
    }

    fn is_own(&self, payload: &Payload) -> bool {
        let controller = self.registrations.controller();
        matches!(payload, Payload::Workload(workload) if controller == Some(workload.controller.as_str()))
    }

    fn store_says(&mut self, id: &Id, workload: Workload, now: Instant) {
        let is_own = self.registrations.controller() == Some(&workload.controller);
        let live = self.registrations.all().remove(id);
        let is_newer = |live: &Workload| !is_own && workload.connected_at > live.connected_at;
        if live.as_ref().is_some_and(is_newer) {
            tracing::info!(
                workload = workload.name,
                controller = workload.controller,
                "a workload connected elsewhere"
            );
            self.registrations.yield_to_another(id);
        }
        let doubted = (workload.disconnected_at != 0).then_some((now, Doubt::Left));
        self.known.insert(id.clone(), Known { workload, doubted });
    }

    fn doubt(&mut self, id: &Id, doubt: Doubt, now: Instant) {
        if let Some(known) = self.known.get_mut(id) {
            known.doubted.get_or_insert((now, doubt));
        }
    }

    /// Brings what is known in line with what is connected here.
    fn follow(&mut self, now: Instant) {
        let Some(own) = self.registrations.controller().map(str::to_owned) else { return };
        let live = self.registrations.all();
        for (id, mut workload) in live.clone() {
            let known = self.known.get(&id);
            // Until it says something new, what it last said of itself holds.
            if workload.health == store::WorkloadHealth::Unknown
                && let Some(known) = known.filter(|known| known.workload.health != store::WorkloadHealth::Unchecked)
            {
                workload.health = known.workload.health.clone();
            }
            let is_said = known.is_some_and(|known| known.workload == workload && known.doubted.is_none());
            if !is_said {
                self.known.insert(id.clone(), Known { workload, doubted: None });
                self.dirty.insert(id);
            }
        }
        for (id, known) in &mut self.known {
            let workload = &mut known.workload;
            if workload.controller == own && workload.disconnected_at == 0 && !live.contains_key(id) {
                workload.disconnected_at = milliseconds();
                known.doubted = Some((now, Doubt::Left));
                self.dirty.insert(id.clone());
            }
        }
    }

    /// Removes what nobody has vouched for for long enough.
    fn clean(&mut self, now: Instant) {
        if let Some(controllers) = &self.controllers {
            let own = self.registrations.controller();
            for known in self.known.values_mut() {
                let controller = &known.workload.controller;
                let is_gone = own != Some(controller.as_str()) && !controllers.contains(controller);
                match known.doubted {
                    None if is_gone => known.doubted = Some((now, Doubt::Orphaned)),
                    Some((_, Doubt::Orphaned)) if !is_gone => known.doubted = None,
                    _ => {}
                }
            }
        }
        let Some(controller) = self.controller.clone() else { return self.forget(now) };
        let live = self.registrations.all();
        let is_over = |known: &Known| {
            known.doubted.is_some_and(|(since, doubt)| {
                let patience = if doubt == Doubt::Left { controller.grace } else { controller.orphan };
                now.saturating_duration_since(since) >= patience
            })
        };
        let over: Vec<Id> = self
            .known
            .iter()
            .filter(|(id, known)| !live.contains_key(*id) && is_over(known))
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            tracing::info!(namespace = %id.0, workload = id.1, "a registered workload is gone");
            self.known.remove(&id);
            self.dirty.insert(id);
        }
    }

    /// What only reads lets go of what the store has lacked for long.
    fn forget(&mut self, now: Instant) {
        let forget_after = self.forget_after;
        self.known.retain(|_, known| {
            known.doubted.is_none_or(|(since, _)| now.saturating_duration_since(since) < forget_after)
        });
        self.buried.retain(|_, since| now.saturating_duration_since(*since) < forget_after);
    }

    async fn tell(&mut self, events: &mpsc::Sender<Event>) -> bool {
        let all: Vec<Workload> = self.known.values().map(|known| known.workload.clone()).collect();
        if *self.told == all {
            return true;
        }
        self.told = Arc::new(all);
        events.send(Event::Workloads(self.told.clone())).await.is_ok()
    }

    /// Writes what is to be written; what fails is tried again.
    async fn write(&mut self, now: Instant) {
        let Some(store) = self.store.clone() else { return self.dirty.clear() };
        for id in self.dirty.clone() {
            if let Some(record) = self.record(&id, now)
                && let Err(error) = self.put(&store, &record).await
            {
                tracing::debug!(%error, workload = id.1, "a registration is not written; it will be tried again");
                return;
            }
            self.dirty.remove(&id);
        }
        let is_old = |since: &Instant| now.saturating_duration_since(*since) >= self.forget_after;
        let old: Vec<Id> = self.buried.iter().filter(|(_, since)| is_old(since)).map(|(id, _)| id.clone()).collect();
        for id in old {
            let Ok(key) = Key::workload(self.cluster.id.clone(), id.0.clone(), &id.1) else { continue };
            if store.delete(&key.to_string()).await.is_err() {
                return;
            }
            self.high_water.forget(&key);
            self.buried.remove(&id);
        }
    }

    /// What is to be written of `id`. From now on anything older is no news, be it an echo of our own.
    fn record(&mut self, id: &Id, now: Instant) -> Option<Record> {
        // The names are of proxies that were admitted.
        let key = Key::workload(self.cluster.id.clone(), id.0.clone(), &id.1).ok()?;
        let payload = match self.known.get(id) {
            Some(known) => Payload::Workload(known.workload.clone()),
            None => Payload::Tombstone,
        };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, part) = (since.as_secs(), since.subsec_nanos().into());
        // Several control planes may write in the same second.
        let (mut position, seen) = (Position { epoch: seconds, sequence: part }, self.high_water.position(&key));
        if let Some(seen) = seen.filter(|seen| *seen >= position) {
            position.epoch = next_epoch(seen.epoch, seconds);
        }
        let record = Record { key, uid: self.cluster.uid.clone(), position, payload };
        if let Err(stale) = self.high_water.admit(&record) {
            tracing::warn!(%stale, workload = id.1, "a registration is known here alone");
            return None;
        }
        match record.payload {
            Payload::Tombstone => self.buried.insert(id.clone(), now),
            _ => self.buried.remove(id),
        };
        Some(record)
    }

    async fn put(&self, store: &Store, record: &Record) -> Result<(), StoreError> {
        match record.encode(&self.key) {
            Ok(value) => store.put(&record.key.to_string(), value).await.map(drop),
            Err(error) => {
                tracing::warn!(key = %record.key, %error, "a registration is known here alone");
                Ok(())
            }
        }
    }
}

fn milliseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
