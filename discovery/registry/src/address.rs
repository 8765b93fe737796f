//! Addresses for hosts that have none: which host has which slot of 240.240.0.0/16 and 2001:2::/48.
//!
//! A host begins at the slot that its name hashes to and takes the first free one from there on, so that replicas that
//! cannot see each other mostly choose alike. What the store says wins over what was chosen here; of two hosts that the
//! store gives one slot, the one whose name is first keeps it. A slot stays taken for `forgetAfter` after its host is gone.

use model::Host;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

/// One pair of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(u16);

/// A slot that is to be written to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) host: Host,
    pub(crate) slot: Slot,
    /// Whether the store has another slot for the host, which must go.
    pub(crate) replace: bool,
}

/// Who has what.
#[derive(Debug)]
pub(crate) struct Allocator {
    held: BTreeMap<Host, Held>,
    taken: BTreeMap<Slot, Host>,
    forget_after: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    slot: Slot,
    origin: Origin,
    unwanted_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The store has it.
    Stored,
    /// It was chosen here, and the store has nothing.
    Chosen,
    /// It was chosen here, because what the store has is another host's.
    Moved,
}

/// How many slots there are: the first and last addresses of the /16 stay free.
const SLOTS: u64 = 65_534;

// === impl Slot ===

impl Slot {
    /// The slot number `n`, counted around.
    fn at(n: u64) -> Self {
        Self((n % SLOTS) as u16 + 1)
    }

    /// The slot of both addresses, if they belong together.
    pub(crate) fn of(ipv4: Ipv4Addr, ipv6: Ipv6Addr) -> Option<Self> {
        let [240, 240, high, low] = ipv4.octets() else { return None };
        let slot = Self(u16::from_be_bytes([high, low]));
        (slot.0 != 0 && slot.0 != u16::MAX && slot.ipv6() == ipv6).then_some(slot)
    }

    /// Its address in 240.240.0.0/16 (reserved by RFC 1112, used by nobody).
    pub(crate) fn ipv4(self) -> Ipv4Addr {
        let [high, low] = self.0.to_be_bytes();
        Ipv4Addr::new(240, 240, high, low)
    }

    /// Its address in 2001:2::/48 (RFC 5180: benchmarking, never routed).
    pub(crate) fn ipv6(self) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0xf0f0, self.0)
    }
}

/// FNV-1a, 64 bits: the same on every machine and in every version.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

// === impl Allocator ===

impl Allocator {
    pub(crate) fn new(forget_after: Duration) -> Self {
        Self { held: BTreeMap::new(), taken: BTreeMap::new(), forget_after }
    }

    /// The slot of `host`, if it has one.
    pub(crate) fn slot(&self, host: &Host) -> Option<Slot> {
        self.held.get(host).map(|held| held.slot)
    }

    /// These hosts, and no others, need a slot.
    pub(crate) fn want(&mut self, hosts: &BTreeSet<Host>, now: Instant) {
        for (host, held) in &mut self.held {
            held.unwanted_since = held.unwanted_since.or(Some(now)).filter(|_| !hosts.contains(host));
        }
        for host in hosts {
            if !self.held.contains_key(host) {
                self.choose(host, Origin::Chosen);
            }
        }
    }

    /// The store gives `host` this slot. Whether anything is different now.
    pub(crate) fn observe(&mut self, host: &Host, slot: Slot, now: Instant) -> bool {
        let before = self.held.get(host).copied();
        if before.is_some_and(|held| held.slot == slot && held.origin == Origin::Stored) {
            return false;
        }
        match self.taken.get(&slot).filter(|owner| *owner != host).cloned() {
            // Both are in the store: the first name keeps the slot.
            Some(owner) if self.held[&owner].origin == Origin::Stored && owner < *host => {
                self.release(host);
                self.choose(host, Origin::Moved);
            }
            Some(owner) => {
                let origin = if self.held[&owner].origin == Origin::Stored { Origin::Moved } else { Origin::Chosen };
                self.release(&owner);
                self.release(host);
                self.hold(host, slot, Origin::Stored);
                self.choose(&owner, origin);
            }
            None => {
                self.release(host);
                self.hold(host, slot, Origin::Stored);
            }
        }
        // A host that nobody asked for here may be another replica's, or long gone: its time begins to run.
        let unwanted_since = before.map_or(Some(now), |held| held.unwanted_since);
        if let Some(held) = self.held.get_mut(host) {
            held.unwanted_since = unwanted_since;
        }
        true
    }

    /// The store has nothing for `host` any more: what was said stays, and is to be written again.
    pub(crate) fn vanished(&mut self, host: &Host) {
        if let Some(held) = self.held.get_mut(host) {
            held.origin = Origin::Chosen;
        }
    }

    /// What the store does not have as it is here.
    pub(crate) fn claims(&self) -> Vec<Claim> {
        let wanted = self.held.iter().filter(|(_, held)| held.unwanted_since.is_none());
        let claim = |(host, held): (&Host, &Held)| match held.origin {
            Origin::Stored => None,
            origin => Some(Claim { host: host.clone(), slot: held.slot, replace: origin == Origin::Moved }),
        };
        wanted.filter_map(claim).collect()
    }

    /// Frees the slots of the hosts that have been unwanted for long enough, and names those that the store has.
    pub(crate) fn forget(&mut self, now: Instant) -> Vec<Host> {
        let is_over = |held: &Held| {
            held.unwanted_since.is_some_and(|since| now.saturating_duration_since(since) > self.forget_after)
        };
        let over: Vec<(Host, Origin)> = self
            .held
            .iter()
            .filter(|(_, held)| is_over(held))
            .map(|(host, held)| (host.clone(), held.origin))
            .collect();
        for (host, _) in &over {
            self.release(host);
        }
        over.into_iter().filter(|(_, origin)| *origin != Origin::Chosen).map(|(host, _)| host).collect()
    }

    /// Gives `host` the first free slot from its own on; none if all are taken.
    fn choose(&mut self, host: &Host, origin: Origin) {
        let first = hash(host.as_str());
        let free = (0..SLOTS).map(|n| Slot::at((first % SLOTS) + n)).find(|slot| !self.taken.contains_key(slot));
        if let Some(slot) = free {
            self.hold(host, slot, origin);
        }
    }

    fn hold(&mut self, host: &Host, slot: Slot, origin: Origin) {
        self.held.insert(host.clone(), Held { slot, origin, unwanted_since: None });
        self.taken.insert(slot, host.clone());
    }

    fn release(&mut self, host: &Host) {
        if let Some(held) = self.held.remove(host) {
            self.taken.remove(&held.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn host(n: u32) -> Host {
        format!("h{n}.example").parse().expect("a host")
    }

    fn hosts(numbers: impl IntoIterator<Item = u32>) -> BTreeSet<Host> {
        numbers.into_iter().map(host).collect()
    }

    #[test]
    fn a_slot_is_its_two_addresses() {
        for n in [0, 1, 255, 256, SLOTS - 1] {
            let slot = Slot::at(n);
            assert_eq!(Slot::of(slot.ipv4(), slot.ipv6()), Some(slot));
        }
        let (first, second) = (Slot::at(1), Slot::at(2));
        assert_eq!(Slot::of(first.ipv4(), second.ipv6()), None);
        assert_eq!(Slot::of(Ipv4Addr::new(240, 240, 0, 0), first.ipv6()), None);
        assert_eq!(Slot::of(Ipv4Addr::new(10, 0, 0, 1), first.ipv6()), None);
    }

    #[test]
    fn replicas_that_cannot_see_each_other_choose_alike() {
        let now = Instant::now();
        let (mut one, mut other) = (Allocator::new(Duration::ZERO), Allocator::new(Duration::ZERO));
        one.want(&hosts(0..1_000), now);
        other.want(&hosts(0..1_000), now);
        assert!((0..1_000).all(|n| one.slot(&host(n)) == other.slot(&host(n)) && one.slot(&host(n)).is_some()));
    }

    #[test]
    fn the_store_wins_and_what_it_gave_away_moves() {
        let now = Instant::now();
        let mut allocator = Allocator::new(Duration::from_mins(1));
        allocator.want(&hosts([1, 2]), now);
        let (first, second) = (allocator.slot(&host(1)).expect("chosen"), allocator.slot(&host(2)).expect("chosen"));
        assert!(allocator.observe(&host(2), first, now));
        assert_eq!(allocator.slot(&host(2)), Some(first));
        assert_ne!(allocator.slot(&host(1)), Some(first));
        assert!(!allocator.observe(&host(2), first, now), "nothing new");
        let claims = allocator.claims();
        assert_eq!(claims.len(), 1);
        assert_eq!((&claims[0].host, claims[0].replace), (&host(1), false));

        // The store says the same slot for the other host too: the first name keeps it, the other is written anew.
        assert!(allocator.observe(&host(1), first, now));
        assert_eq!(allocator.slot(&host(1)), Some(first));
        let claims = allocator.claims();
        assert_eq!((claims.len(), &claims[0].host, claims[0].replace), (1, &host(2), true));
        assert_eq!(claims[0].slot, second);
    }

    #[test]
    fn a_slot_is_not_reused_before_it_is_forgotten() {
        let start = Instant::now();
        let mut allocator = Allocator::new(Duration::from_mins(1));
        allocator.want(&hosts([1]), start);
        let slot = allocator.slot(&host(1)).expect("chosen");
        allocator.observe(&host(1), slot, start);
        allocator.want(&hosts([]), start);
        assert_eq!(allocator.forget(start + Duration::from_mins(1)), []);
        assert_eq!(allocator.slot(&host(1)), Some(slot));
        assert_eq!(allocator.forget(start + Duration::from_secs(61)), [host(1)]);
        assert_eq!(allocator.slot(&host(1)), None);
    }

    #[test]
    fn when_all_are_taken_there_is_none() {
        let mut allocator = Allocator::new(Duration::ZERO);
        allocator.want(&hosts(0..65_540), Instant::now());
        assert_eq!((0..65_540).filter(|n| allocator.slot(&host(*n)).is_some()).count(), 65_534);
    }

    proptest! {
        #[test]
        fn no_two_hosts_share_a_slot(steps in proptest::collection::vec((0..4u8, 0..12u32, 0..8u64), 0..200)) {
            let mut now = Instant::now();
            let mut allocator = Allocator::new(Duration::from_secs(3));
            let mut wanted = BTreeSet::new();
            for (kind, n, slot) in steps {
                now += Duration::from_secs(1);
                match kind {
                    0 => drop(wanted.insert(host(n))),
                    1 => drop(wanted.remove(&host(n))),
                    2 => drop(allocator.observe(&host(n), Slot::at(slot), now)),
                    _ => allocator.vanished(&host(n)),
                }
                allocator.want(&wanted, now);
                allocator.forget(now);
                let slots: BTreeSet<_> = allocator.held.values().map(|held| held.slot).collect();
                prop_assert_eq!(slots.len(), allocator.held.len());
                prop_assert_eq!(allocator.taken.len(), allocator.held.len());
                prop_assert!(wanted.iter().all(|host| allocator.slot(host).is_some()));
            }
        }
    }
}
