//! What one peer offers, out of what the store shows: every record is doubted.
//!
//! A record counts if it is signed with the peer's registry key for exactly this key and UID, and is newer than all that
//! was seen under the key. A signed tombstone removes; a bare DELETE does not. What does not fit is counted and ignored.

use crate::event::PeerView;
use crate::merge::Exports;
use crate::settings::{Limits, PeerKeys};
use model::{ClusterId, ServiceExport};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{HighWater, Key, KeyKind, Payload, Record, RecordError, Stale};

/// Which of the peer's prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    /// Services for everybody.
    All,
    /// Services for this cluster; they go before those for everybody.
    Own,
    /// The gateways' liveness.
    Alive,
}

/// What one peer offers.
pub(crate) struct Offers {
    keys: PeerKeys,
    own: ClusterId,
    limits: Limits,
    high_water: HighWater,
    /// What is on offer, or was withdrawn.
    services: BTreeMap<Key, Option<Arc<ServiceExport>>>,
    gateways: BTreeMap<Key, GatewayState>,
    exports: Arc<Exports>,
    read: BTreeSet<Part>,
    watched: BTreeSet<Part>,
    rejected: BTreeMap<&'static str, u64>,
}

struct GatewayState {
    name: Arc<str>,
    addresses: Vec<String>,
    died_at: Option<Instant>,
}

/// Gateways that died within this time of each other are taken to have died of one cause.
const TOGETHER: Duration = Duration::from_mins(1);
/// How many addresses one gateway may have.
const MOST_ADDRESSES: usize = 16;

// === impl Offers ===

impl Offers {
    /// What the peer of `keys` offers to `own`: nothing yet.
    pub(crate) fn new(keys: PeerKeys, own: ClusterId, limits: Limits) -> Self {
        Self {
            keys,
            own,
            limits,
            high_water: HighWater::default(),
            services: BTreeMap::new(),
            gateways: BTreeMap::new(),
            exports: Arc::default(),
            read: BTreeSet::new(),
            watched: BTreeSet::new(),
            rejected: BTreeMap::new(),
        }
    }

    /// What there is to tell.
    pub(crate) fn view(&mut self) -> PeerView {
        self.collect();
        PeerView {
            exports: self.exports.clone(),
            gateways: self.gateways_to_use(),
            alive: self.gateways.values().filter(|gateway| gateway.died_at.is_none()).count(),
            read: self.read.len() == 3,
            watched: self.watched.len() == 3,
            rejected: self.rejected.clone(),
        }
    }

    /// All that the store has under `part` now.
    pub(crate) fn snapshot<'a>(
        &mut self,
        part: Part,
        entries: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        now: Instant,
    ) {
        let mut present = BTreeSet::new();
        for (key, value) in entries {
            present.insert(key.to_owned());
            self.accept(part, key, value, now);
        }
        for key in self.missing(part, &present) {
            self.delete(part, &key, now);
        }
        self.read.insert(part);
        self.watched.insert(part);
    }

    /// The store has `value` under `key` now.
    pub(crate) fn put(&mut self, part: Part, key: &str, value: &[u8], now: Instant) {
        self.accept(part, key, value, now);
    }

    /// The store has nothing under `key` any more: a gateway's lease has ended, or somebody deleted a record, which
    /// says nothing.
    pub(crate) fn delete(&mut self, part: Part, key: &str, now: Instant) {
        if part != Part::Alive {
            return self.reject("bare_delete");
        }
        if let Some(gateway) = key.parse().ok().and_then(|key: Key| self.gateways.get_mut(&key)) {
            gateway.died_at = gateway.died_at.or(Some(now));
        }
    }

    /// The store does not answer: nothing that was said is less true for it.
    pub(crate) fn lost(&mut self, part: Part) {
        self.watched.remove(&part);
    }

    fn accept(&mut self, part: Part, key: &str, value: &[u8], now: Instant) {
        if let Err(reason) = self.admit(part, key, value, now) {
            self.reject(reason);
        }
    }

    fn admit(&mut self, part: Part, key: &str, value: &[u8], now: Instant) -> Result<(), &'static str> {
        let record = Record::decode(key, value, &self.keys.cluster.uid, &self.keys.registry_key)
            .map_err(|error| reason(&error))?;
        if record.key.cluster != self.keys.cluster.id || self.part_of(&record.key) != Some(part) {
            return Err("wrong_key");
        }
        match &record.payload {
            Payload::Service(export) => {
                self.check(export)?;
                self.offer(&record, Some(Arc::new(export.clone())))
            }
            Payload::Tombstone => self.offer(&record, None),
            Payload::Alive { gateway, addresses } => self.alive(&record, gateway, addresses, now),
            Payload::Address { .. } | Payload::Workload(_) | Payload::Controller { .. } => Err("malformed"),
        }
    }

    /// The part that a key is of, if it is meant for us.
    fn part_of(&self, key: &Key) -> Option<Part> {
        match &key.kind {
            KeyKind::Service { audience: None, .. } => Some(Part::All),
            KeyKind::Service { audience: Some(cluster), .. } => Some(Part::Own).filter(|_| *cluster == self.own),
            KeyKind::Alive { .. } => Some(Part::Alive),
            KeyKind::Address { .. } | KeyKind::Leader | KeyKind::Workload { .. } | KeyKind::Controller { .. } => None,
        }
    }

    /// What only we can know to be wrong in a well-formed record.
    fn check(&self, export: &ServiceExport) -> Result<(), &'static str> {
        let numbers: BTreeSet<u16> = export.ports.iter().map(|port| port.number).collect();
        let names: BTreeSet<&str> = export.ports.iter().map(|port| port.name.as_str()).collect();
        let is_unique = numbers.len() == export.ports.len() && names.len() == export.ports.len();
        if !is_unique || export.key.host.is_wildcard() {
            return Err("malformed");
        }
        let mut identities = export.groups.iter().flat_map(|group| &group.identities);
        // Else a peer could name a third cluster's workloads, or ours, as its own.
        if identities.all(|identity| identity.trust_domain == self.keys.cluster.trust_domain) {
            return Ok(());
        }
        Err("foreign_identity")
    }

    fn offer(&mut self, record: &Record, export: Option<Arc<ServiceExport>>) -> Result<(), &'static str> {
        let before = self.services.get(&record.key);
        let is_new = export.is_some() && before.is_none_or(Option::is_none);
        if is_new && self.services.values().flatten().count() >= self.limits.services_per_peer {
            return Err("quota");
        }
        // What was withdrawn is remembered too, so that it cannot come back; it is bounded like the rest.
        if before.is_none() && self.services.len() >= 2 * self.limits.services_per_peer {
            self.forget_one_withdrawn();
        }
        if admit(&mut self.high_water, record)? {
            self.services.insert(record.key.clone(), export);
        }
        Ok(())
    }

    fn alive(&mut self, record: &Record, name: &str, addresses: &[String], now: Instant) -> Result<(), &'static str> {
        if addresses.len() > MOST_ADDRESSES || !addresses.iter().all(|address| is_address(address)) {
            return Err("malformed");
        }
        let is_over = |at: Instant| now.saturating_duration_since(at) >= TOGETHER;
        self.gateways.retain(|key, gateway| *key == record.key || !gateway.died_at.is_some_and(is_over));
        if !self.gateways.contains_key(&record.key) && self.gateways.len() >= self.limits.gateways_per_peer {
            return Err("quota");
        }
        if admit(&mut self.high_water, record)? || !self.gateways.contains_key(&record.key) {
            let gateway = GatewayState { name: name.into(), addresses: addresses.to_vec(), died_at: None };
            self.gateways.insert(record.key.clone(), gateway);
        } else if let Some(gateway) = self.gateways.get_mut(&record.key) {
            gateway.died_at = None;
        }
        Ok(())
    }

    /// Those that are alive; if none is, those that died last, together: their loss may be the store's, not theirs.
    fn gateways_to_use(&self) -> BTreeMap<Arc<str>, Vec<String>> {
        let any_alive = self.gateways.values().any(|gateway| gateway.died_at.is_none());
        let last = self.gateways.values().filter_map(|gateway| gateway.died_at).max();
        let is_used = |gateway: &&GatewayState| match (gateway.died_at, last) {
            (None, _) => true,
            (Some(at), Some(last)) => !any_alive && last.saturating_duration_since(at) < TOGETHER,
            (Some(_), None) => false,
        };
        let used = self.gateways.values().filter(is_used);
        used.map(|gateway| (gateway.name.clone(), gateway.addresses.clone())).collect()
    }

    /// The keys that should be `present` in the store, and are not.
    fn missing(&self, part: Part, present: &BTreeSet<String>) -> Vec<String> {
        let offered = self.services.iter().filter(|(_, export)| export.is_some()).map(|(key, _)| key);
        let alive = self.gateways.iter().filter(|(_, gateway)| gateway.died_at.is_none()).map(|(key, _)| key);
        let of_part = offered.chain(alive).filter(|key| self.part_of(key) == Some(part));
        of_part.map(ToString::to_string).filter(|key| !present.contains(key)).collect()
    }

    /// What is offered, all in all.
    fn collect(&mut self) {
        let mut exports = Exports::new();
        // Keys for everybody are ordered before those for us, which therefore win.
        for export in self.services.values().flatten() {
            exports.insert(export.key.clone(), export.clone());
        }
        if *self.exports != exports {
            self.exports = Arc::new(exports);
        }
    }

    fn forget_one_withdrawn(&mut self) {
        let withdrawn = self.services.iter().find(|(_, export)| export.is_none()).map(|(key, _)| key.clone());
        if let Some(key) = withdrawn {
            self.services.remove(&key);
            self.high_water.forget(&key);
        }
    }

    fn reject(&mut self, reason: &'static str) {
        *self.rejected.entry(reason).or_default() += 1;
    }
}

/// Whether the record says something new; the reason if it is not to be believed.
fn admit(high_water: &mut HighWater, record: &Record) -> Result<bool, &'static str> {
    match high_water.admit(record) {
        Ok(()) => Ok(true),
        Err(Stale::Known { .. }) => Ok(false),
        Err(Stale::Old { .. }) => Err("stale"),
        Err(Stale::Equivocation { .. }) => Err("equivocation"),
        Err(Stale::Jump { .. }) => Err("jump"),
    }
}

fn reason(error: &RecordError) -> &'static str {
    match error {
        RecordError::TooLarge(_) => "too_large",
        RecordError::BadSignature => "bad_signature",
        RecordError::WrongKey { .. } => "wrong_key",
        RecordError::WrongCluster(_) => "wrong_cluster",
        RecordError::Malformed(_) | RecordError::Invalid(_) => "malformed",
    }
}

/// Whether this is `host:port`, with a port that one can send to.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    !host.is_empty() && text.len() <= 300 && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests;
