//! What one peer offers, out of what the store shows: every record is doubted.
//!
//! ```text
//! store ─▶ (signature, key, UID: the reader's wall) ─▶ Found ─▶ step ─▶ View
//! ```
//! A record counts if it is newer than all that was seen in its place. A signed tombstone removes; a bare deletion does
//! not. What does not fit is counted and ignored.

use crate::high_water::{HighWater, Position, Positioned, Stale};
use model::{ServiceExport, ServiceKey, TrustDomain};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What peers offer, by service.
pub type Exports = BTreeMap<ServiceKey, Arc<ServiceExport>>;

/// Which of a peer's prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Services for everybody.
    All,
    /// Services for this cluster; they go before those for everybody.
    Own,
    /// The gateways' liveness.
    Alive,
}

/// Where a peer's record lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A service, for everybody.
    ForAll(ServiceKey),
    /// A service, for this cluster.
    ForUs(ServiceKey),
    /// A gateway's liveness, by its name.
    Gateway(Arc<str>),
}

/// A record whose signature, key and UID are what they must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it lies.
    pub place: Place,
    /// Which of its owner's writes it is.
    pub position: Position,
    /// Tells two contents apart.
    pub digest: u64,
    /// What it says.
    pub says: Says,
}

/// What a peer's record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    /// This service is on offer.
    Service(Arc<ServiceExport>),
    /// What was on offer here is withdrawn.
    Withdrawn,
    /// The gateway runs, and takes QUIC from peers at each `host:port`.
    Alive(Vec<String>),
}

/// What stands under one key of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which place the key is, if it is one.
    pub place: Option<Place>,
    /// The record, or why it is none.
    pub record: Result<Record, &'static str>,
}

/// What the store shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// All that stands in the part now.
    Listed(Part, Vec<Found>),
    /// This was written.
    Put(Part, Found),
    /// Nothing stands there any more: a gateway's lease has ended, or somebody deleted a record, which says nothing.
    Deleted(Part, Option<Place>),
    /// The store does not answer: nothing that was said is less true for it.
    Lost(Part),
}

/// What is believed of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The peer's trust domain: the only one whose identities it may offer.
    pub trust_domain: TrustDomain,
    /// How many services it may offer.
    pub services: usize,
    /// How many gateways it may have.
    pub gateways: usize,
}

/// A peer as the store shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// What it offers.
    pub exports: Arc<Exports>,
    /// Its gateways that are, or were last, alive, each with its `host:port`s.
    pub gateways: BTreeMap<Arc<str>, Vec<String>>,
    /// How many of them are alive now.
    pub alive: usize,
    /// Whether everything has been read once.
    pub read: bool,
    /// Whether everything is being watched now.
    pub watched: bool,
    /// Refused records, by reason.
    pub rejected: BTreeMap<&'static str, u64>,
}

/// What one peer offers.
#[derive(Debug, Clone)]
pub struct Offers {
    settings: Settings,
    high_water: HighWater<Place>,
    /// What is on offer, or was withdrawn.
    services: BTreeMap<Place, Option<Arc<ServiceExport>>>,
    gateways: BTreeMap<Place, Gateway>,
    exports: Arc<Exports>,
    read: BTreeSet<Part>,
    watched: BTreeSet<Part>,
    rejected: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Clone)]
struct Gateway {
    addresses: Vec<String>,
    died_at: Option<Instant>,
}

/// Gateways that died within this time of each other are taken to have died of one cause.
const TOGETHER: Duration = Duration::from_mins(1);
/// How many addresses one gateway may have.
const MOST_ADDRESSES: usize = 16;

// === impl Place ===

impl Place {
    /// The part that it is of.
    pub fn part(&self) -> Part {
        match self {
            Self::ForAll(_) => Part::All,
            Self::ForUs(_) => Part::Own,
            Self::Gateway(_) => Part::Alive,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForAll(key) => write!(f, "{key} for all"),
            Self::ForUs(key) => write!(f, "{key} for us"),
            Self::Gateway(name) => write!(f, "gateway {name}"),
        }
    }
}

// === impl Record ===

impl Positioned for Record {
    type Key = Place;

    fn key(&self) -> &Place {
        &self.place
    }

    fn position(&self) -> Position {
        self.position
    }

    fn digest(&self) -> u64 {
        self.digest
    }
}

// === impl Offers ===

impl Offers {
    /// What the peer of `settings` offers: nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            high_water: HighWater::default(),
            services: BTreeMap::new(),
            gateways: BTreeMap::new(),
            exports: Arc::default(),
            read: BTreeSet::new(),
            watched: BTreeSet::new(),
            rejected: BTreeMap::new(),
        }
    }

    /// Takes in what the store shows.
    pub fn step(&mut self, event: Event, now: Instant) {
        match event {
            Event::Listed(part, found) => self.listed(part, found, now),
            Event::Put(part, found) => self.accept(part, found, now),
            Event::Deleted(part, place) => self.deleted(part, place.as_ref(), now),
            Event::Lost(part) => drop(self.watched.remove(&part)),
        }
    }

    /// What there is to tell.
    pub fn view(&mut self) -> View {
        self.collect();
        View {
            exports: self.exports.clone(),
            gateways: self.gateways_to_use(),
            alive: self.gateways.values().filter(|gateway| gateway.died_at.is_none()).count(),
            read: self.read.len() == 3,
            watched: self.watched.len() == 3,
            rejected: self.rejected.clone(),
        }
    }

    /// How many services are remembered, on offer or withdrawn.
    pub fn remembered(&self) -> usize {
        self.services.len()
    }

    /// The newest position seen in `place`.
    pub fn position(&self, place: &Place) -> Option<Position> {
        self.high_water.position(place)
    }

    fn listed(&mut self, part: Part, found: Vec<Found>, now: Instant) {
        let present: BTreeSet<Place> = found.iter().filter_map(|found| found.place.clone()).collect();
        for found in found {
            self.accept(part, found, now);
        }
        for place in self.missing(part, &present) {
            self.deleted(part, Some(&place), now);
        }
        self.read.insert(part);
        self.watched.insert(part);
    }

    fn deleted(&mut self, part: Part, place: Option<&Place>, now: Instant) {
        if part != Part::Alive {
            return self.reject("bare_delete");
        }
        if let Some(gateway) = place.and_then(|place| self.gateways.get_mut(place)) {
            gateway.died_at = gateway.died_at.or(Some(now));
        }
    }

    fn accept(&mut self, part: Part, found: Found, now: Instant) {
        let admitted = found.record.and_then(|record| self.admit(part, record, now));
        if let Err(reason) = admitted {
            self.reject(reason);
        }
    }

    fn admit(&mut self, part: Part, record: Record, now: Instant) -> Result<(), &'static str> {
        if record.place.part() != part {
            return Err("wrong_key");
        }
        match record.says.clone() {
            Says::Service(export) if part != Part::Alive => {
                self.check(&export)?;
                self.offer(&record, Some(export))
            }
            Says::Withdrawn if part != Part::Alive => self.offer(&record, None),
            Says::Alive(addresses) if part == Part::Alive => self.alive(record, addresses, now),
            _ => Err("malformed"),
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
        if identities.all(|identity| identity.trust_domain == self.settings.trust_domain) {
            return Ok(());
        }
        Err("foreign_identity")
    }

    fn offer(&mut self, record: &Record, export: Option<Arc<ServiceExport>>) -> Result<(), &'static str> {
        let before = self.services.get(&record.place);
        let is_new = export.is_some() && before.is_none_or(Option::is_none);
        if is_new && self.services.values().flatten().count() >= self.settings.services {
            return Err("quota");
        }
        // What was withdrawn is remembered too, so that it cannot come back; it is bounded like the rest.
        if before.is_none() && self.services.len() >= 2 * self.settings.services {
            self.forget_one_withdrawn();
        }
        if admit(&mut self.high_water, record)? {
            self.services.insert(record.place.clone(), export);
        }
        Ok(())
    }

    fn alive(&mut self, record: Record, addresses: Vec<String>, now: Instant) -> Result<(), &'static str> {
        if addresses.len() > MOST_ADDRESSES || !addresses.iter().all(|address| is_address(address)) {
            return Err("malformed");
        }
        let is_over = |at: Instant| now.saturating_duration_since(at) >= TOGETHER;
        self.gateways.retain(|place, gateway| *place == record.place || !gateway.died_at.is_some_and(is_over));
        if !self.gateways.contains_key(&record.place) && self.gateways.len() >= self.settings.gateways {
            return Err("quota");
        }
        if admit(&mut self.high_water, &record)? || !self.gateways.contains_key(&record.place) {
            self.gateways.insert(record.place, Gateway { addresses, died_at: None });
        } else if let Some(gateway) = self.gateways.get_mut(&record.place) {
            gateway.died_at = None;
        }
        Ok(())
    }

    /// Those that are alive; if none is, those that died last, together: their loss may be the store's, not theirs.
    fn gateways_to_use(&self) -> BTreeMap<Arc<str>, Vec<String>> {
        let any_alive = self.gateways.values().any(|gateway| gateway.died_at.is_none());
        let last = self.gateways.values().filter_map(|gateway| gateway.died_at).max();
        let is_used = |gateway: &Gateway| match (gateway.died_at, last) {
            (None, _) => true,
            (Some(at), Some(last)) => !any_alive && last.saturating_duration_since(at) < TOGETHER,
            (Some(_), None) => false,
        };
        let name = |(place, gateway): (&Place, &Gateway)| match place {
            Place::Gateway(name) if is_used(gateway) => Some((name.clone(), gateway.addresses.clone())),
            _ => None,
        };
        self.gateways.iter().filter_map(name).collect()
    }

    /// The places of `part` that should be `present` in the store, and are not.
    fn missing(&self, part: Part, present: &BTreeSet<Place>) -> Vec<Place> {
        let offered = self.services.iter().filter(|(_, export)| export.is_some()).map(|(place, _)| place);
        let alive = self.gateways.iter().filter(|(_, gateway)| gateway.died_at.is_none()).map(|(place, _)| place);
        offered.chain(alive).filter(|place| place.part() == part && !present.contains(place)).cloned().collect()
    }

    /// What is offered, all in all.
    fn collect(&mut self) {
        let mut exports = Exports::new();
        // Places for everybody are ordered before those for us, which therefore win.
        for export in self.services.values().flatten() {
            exports.insert(export.key.clone(), export.clone());
        }
        if *self.exports != exports {
            self.exports = Arc::new(exports);
        }
    }

    fn forget_one_withdrawn(&mut self) {
        let withdrawn = self.services.iter().find(|(_, export)| export.is_none()).map(|(place, _)| place.clone());
        if let Some(place) = withdrawn {
            self.services.remove(&place);
            self.high_water.forget(&place);
        }
    }

    fn reject(&mut self, reason: &'static str) {
        *self.rejected.entry(reason).or_default() += 1;
    }
}

/// Whether the record says something new; the reason if it is not to be believed.
fn admit(high_water: &mut HighWater<Place>, record: &Record) -> Result<bool, &'static str> {
    match high_water.admit(record) {
        Ok(()) => Ok(true),
        Err(Stale::Known { .. }) => Ok(false),
        Err(Stale::Old { .. }) => Err("stale"),
        Err(Stale::Equivocation { .. }) => Err("equivocation"),
        Err(Stale::Jump { .. }) => Err("jump"),
    }
}

/// Whether this is `host:port`, with a port that one can send to.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    !host.is_empty() && text.len() <= 300 && port.parse::<u16>().is_ok_and(|port| port != 0)
}
