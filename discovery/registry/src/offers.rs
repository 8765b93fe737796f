//! The wall before what a peer offers: keys and values of the store in, verified records out to
//! [`federation::offers`], which decides what they mean.

use crate::event::PeerView;
use crate::settings::{Limits, PeerKeys};
use federation::offers::{self, Event, Found, Place, Says};
use model::{ClusterId, ServiceKey};
use std::sync::Arc;
use std::time::Instant;
use store::{Key, KeyKind, Payload, Record, RecordError};

pub(crate) use federation::offers::Part;

/// What one peer offers.
pub(crate) struct Offers {
    keys: PeerKeys,
    own: ClusterId,
    known: offers::Offers,
}

// === impl Offers ===

impl Offers {
    /// What the peer of `keys` offers to `own`: nothing yet.
    pub(crate) fn new(keys: PeerKeys, own: ClusterId, limits: &Limits) -> Self {
        let known = offers::Offers::new(offers::Settings {
            trust_domain: keys.cluster.trust_domain.clone(),
            services: limits.services_per_peer,
            gateways: limits.gateways_per_peer,
        });
        Self { keys, own, known }
    }

    /// What there is to tell.
    pub(crate) fn view(&mut self) -> PeerView {
        self.known.view()
    }

    /// All that the store has under `part` now.
    pub(crate) fn snapshot<'a>(
        &mut self,
        part: Part,
        entries: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        now: Instant,
    ) {
        let found = entries.into_iter().map(|(key, value)| self.read(key, value)).collect();
        self.known.step(Event::Listed(part, found), now);
    }

    /// The store has `value` under `key` now.
    pub(crate) fn put(&mut self, part: Part, key: &str, value: &[u8], now: Instant) {
        let found = self.read(key, value);
        self.known.step(Event::Put(part, found), now);
    }

    /// The store has nothing under `key` any more.
    pub(crate) fn delete(&mut self, part: Part, key: &str, now: Instant) {
        let place = self.place_of(key);
        self.known.step(Event::Deleted(part, place), now);
    }

    /// The store does not answer.
    pub(crate) fn lost(&mut self, part: Part, now: Instant) {
        self.known.step(Event::Lost(part), now);
    }

    fn place_of(&self, key: &str) -> Option<Place> {
        self.place(&key.parse().ok()?)
    }

    /// The place that a key is, if it is the peer's and meant for us.
    fn place(&self, key: &Key) -> Option<Place> {
        if key.cluster != self.keys.cluster.id {
            return None;
        }
        match &key.kind {
            KeyKind::Service { audience, namespace, host } => {
                let service = ServiceKey { host: host.clone(), namespace: namespace.clone() };
                match audience {
                    None => Some(Place::ForAll(service)),
                    Some(cluster) => (*cluster == self.own).then_some(Place::ForUs(service)),
                }
            }
            KeyKind::Alive { gateway } => Some(Place::Gateway(gateway.as_str().into())),
            KeyKind::Address { .. } | KeyKind::Leader | KeyKind::Workload { .. } | KeyKind::Controller { .. } => None,
        }
    }

    fn read(&self, key: &str, value: &[u8]) -> Found {
        Found { place: self.place_of(key), record: self.record(key, value) }
    }

    /// The record, if the peer has signed it for exactly this key.
    fn record(&self, key: &str, value: &[u8]) -> Result<offers::Record, &'static str> {
        let record = Record::decode(key, value, &self.keys.cluster.uid, &self.keys.registry_key)
            .map_err(|error| reason(&error))?;
        let place = self.place(&record.key).ok_or("wrong_key")?;
        let digest = record.payload.digest();
        let says = match record.payload {
            Payload::Service(export) => Says::Service(Arc::new(export)),
            Payload::Tombstone => Says::Withdrawn,
            Payload::Alive { addresses, .. } => Says::Alive(addresses),
            Payload::Address { .. } | Payload::Workload(_) | Payload::Controller { .. } => return Err("malformed"),
        };
        Ok(offers::Record { place, position: record.position, digest, says })
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

#[cfg(test)]
mod tests;
