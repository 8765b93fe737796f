//! One client's subscription to one type: what it asked for, what it holds, and what it is to be told next.
//!
//! Pure, and the same for both variants of the protocol: requests and snapshots go in, responses come out.
//!
//! ```text
//! Request -> receive() -> Verdict (to be observed)      Snapshot, Phase -> next() -> Response, until None
//! ```

use crate::exchange::{Ask, Excess, MAX_NAME, Request, Response, Variant, Verdict};
use crate::snapshot::DiffItem;
use crate::{Resource, Resources, Snapshot, type_url};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Make before break: clusters and endpoints go only after the listeners and routes that no longer name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Everything new and changed, and removals that break nothing.
    Make,
    /// Removals of clusters and endpoints.
    Break,
}

/// State for one client and one type.
#[derive(Debug)]
pub(crate) struct Subscription {
    type_url: &'static str,
    variant: Variant,
    limits: Limits,
    /// Whether a request has been seen.
    open: bool,
    /// Whether an answer is due though nothing may have changed.
    due: bool,
    wildcard: bool,
    /// State of the world: a wildcard because no name was ever given.
    legacy: bool,
    /// The names asked for one by one.
    names: BTreeSet<Arc<str>>,
    /// What the client was sent: name to version, or to nothing when it was told that there is no such resource.
    sent: BTreeMap<Arc<str>, Option<Arc<str>>>,
    /// Names to send though their version was sent already.
    again: BTreeSet<Arc<str>>,
    /// Names in responses that were rejected: they go out again with the next change, not before.
    rejected: BTreeSet<Arc<str>>,
    /// Responses without a verdict yet, oldest first.
    pending: VecDeque<(u64, Vec<Arc<str>>)>,
    last_nonce: u64,
    /// The resources that were looked at last: what they have in common with the next is not looked at again.
    seen: Resources,
    /// The names of which the client may have to be told something.
    doubtful: BTreeSet<Arc<str>>,
}

/// What a client is to be told of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    /// What it is now.
    Body,
    /// That it is gone.
    Removal,
    /// That it was never there.
    Absence,
}

/// Bounds of one subscription.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Names asked for, and versions held at a reconnect.
    pub(crate) names: usize,
    /// A delta response is cut after the resource that reaches this many bytes.
    pub(crate) response_bytes: usize,
}

/// A client that leaves this many responses unanswered is taken to have accepted the oldest.
const MAX_PENDING: usize = 64;
const WILDCARD: &str = "*";

// === impl Subscription ===

impl Subscription {
    pub(crate) fn new(type_url: &'static str, variant: Variant, limits: Limits) -> Self {
        Self {
            type_url,
            variant,
            limits,
            open: false,
            due: false,
            wildcard: false,
            legacy: false,
            names: BTreeSet::new(),
            sent: BTreeMap::new(),
            again: BTreeSet::new(),
            rejected: BTreeSet::new(),
            pending: VecDeque::new(),
            last_nonce: 0,
            seen: Resources::new(),
            doubtful: BTreeSet::new(),
        }
    }

    /// Takes in one request. What it leads to is told by [`Subscription::next`].
    pub(crate) fn receive(&mut self, request: Request) -> Result<Verdict, Excess> {
        let nonce: Option<u64> = request.nonce.parse().ok();
        let from_scratch = !self.open || request.nonce.is_empty();
        let stale = !from_scratch && nonce != Some(self.last_nonce);
        let verdict = nonce.map_or(Verdict::Silent, |nonce| self.judge(nonce, request.error));
        match request.ask {
            Ask::All(names) if !stale => self.ask_all(names, from_scratch)?,
            Ask::All(_) => {}
            Ask::Change { subscribe, unsubscribe, held } => self.ask_change(subscribe, &unsubscribe, held)?,
        }
        Ok(verdict)
    }

    /// Notes that `names` must be sent again even if unchanged (Envoy: a changed cluster waits for its endpoints).
    pub(crate) fn repeat(&mut self, names: &[Arc<str>]) {
        self.again.extend(names.iter().cloned());
    }

    /// Whether the client has said of every response what became of it.
    pub(crate) fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether the client was sent `name`, or that there is none.
    pub(crate) fn was_sent(&self, name: &str) -> bool {
        self.sent.contains_key(name)
    }

    /// Notes that `new` takes the place of `old`. What was rejected gets another try if its type changed at all, because
    /// a client may have dropped the good together with the bad.
    pub(crate) fn moved(&mut self, new: &Snapshot, old: &Snapshot) {
        let there = new.get(self.type_url);
        if !self.rejected.is_empty() && there != old.get(self.type_url) {
            self.forget_rejected(there);
        }
    }

    /// The next response that brings the client to `new`; `None` when it is there, or when only the other phase is left.
    /// `old` is the snapshot sent before: its clusters live on in a state-of-the-world answer until [`Phase::Break`].
    pub(crate) fn next(&mut self, new: &Snapshot, old: &Snapshot, phase: Phase) -> Option<Response> {
        if !self.open || (phase == Phase::Break && !self.breaks_last()) {
            return None;
        }
        let there = new.get(self.type_url);
        self.again.retain(|name| there.contains_key(name));
        self.look(there);
        let gone = self.gone(there, phase);
        if phase == Phase::Break {
            return (!gone.is_empty()).then(|| self.respond(new, old, phase, gone, Vec::new()));
        }
        let fresh = self.owing(there, Owed::Body);
        if gone.is_empty() && fresh.is_empty() && !self.due && !self.again.iter().any(|name| self.wants(name)) {
            return None;
        }
        Some(self.respond(new, old, phase, gone, fresh))
    }

    /// Finds the names of which the client is to be told something: only those can be among them that differ from what
    /// was looked at last, and those that a request was about.
    fn look(&mut self, there: &Resources) {
        let seen = std::mem::replace(&mut self.seen, there.clone());
        self.doubtful.extend(seen.diff(there).map(|difference| {
            let (DiffItem::Add(name, _) | DiffItem::Remove(name, _) | DiffItem::Update { new: (name, _), .. }) =
                difference;
            name.clone()
        }));
        if self.variant == Variant::StateOfTheWorld && !type_url::is_wildcard(self.type_url) {
            for name in self.doubtful.iter().filter(|name| !there.contains_key(*name)) {
                self.sent.remove(name);
            }
        }
        let mut doubtful = std::mem::take(&mut self.doubtful);
        doubtful.retain(|name| self.owed(name, there).is_some());
        self.doubtful = doubtful;
    }

    /// What the client is to be told of `name`, if anything.
    fn owed(&self, name: &str, there: &Resources) -> Option<Owed> {
        let delta = self.variant == Variant::Delta;
        match (there.get(name), self.sent.get(name)) {
            (Some(resource), sent) => {
                let differs = sent.and_then(Option::as_ref).is_none_or(|sent| *sent != resource.version);
                (differs && self.wants(name)).then_some(Owed::Body)
            }
            (None, Some(Some(_))) => (delta || type_url::is_wildcard(self.type_url)).then_some(Owed::Removal),
            (None, Some(None)) => None,
            (None, None) => (delta && self.names.contains(name)).then_some(Owed::Absence),
        }
    }

    /// The names of which the client is to be told this.
    fn owing(&self, there: &Resources, owed: Owed) -> Vec<Arc<str>> {
        self.doubtful.iter().filter(|name| self.owed(name, there) == Some(owed)).cloned().collect()
    }

    fn respond(
        &mut self,
        new: &Snapshot,
        old: &Snapshot,
        phase: Phase,
        gone: Vec<Arc<str>>,
        mut fresh: Vec<Arc<str>>,
    ) -> Response {
        let there = new.get(self.type_url);
        let again: Vec<Arc<str>> = self.again.iter().filter(|name| self.wants(name)).cloned().collect();
        let resources = match self.variant {
            Variant::StateOfTheWorld if type_url::is_wildcard(self.type_url) => {
                self.everything(there, old.get(self.type_url), phase)
            }
            Variant::Delta if phase == Phase::Break => Vec::new(),
            _ => self.some(there, fresh.iter().chain(&again)),
        };
        for resource in &resources {
            self.again.remove(&resource.name);
            self.sent.insert(resource.name.clone(), Some(resource.version.clone()));
        }
        for name in &gone {
            self.note_gone(name);
        }
        self.due = false;
        self.last_nonce += 1;
        self.await_verdict(resources.iter().map(|resource| &resource.name).chain(&gone).cloned().collect());
        fresh.truncate(resources.len()); // a response that was cut holds the first of them
        let removed = if self.variant == Variant::Delta { gone } else { Vec::new() };
        Response { nonce: self.last_nonce.to_string(), resources, removed, fresh }
    }

    /// Names that are not there: those that were (in the phase that may remove them), and those newly asked for.
    fn gone(&self, there: &Resources, phase: Phase) -> Vec<Arc<str>> {
        let mut gone = Vec::new();
        if self.breaks_last() == (phase == Phase::Break) {
            gone = self.owing(there, Owed::Removal);
        }
        if phase == Phase::Make {
            gone.append(&mut self.owing(there, Owed::Absence));
        }
        gone
    }

    fn wanted<'a>(&'a self, there: &'a Resources) -> Box<dyn Iterator<Item = &'a Resource> + 'a> {
        if self.wildcard {
            return Box::new(there.values());
        }
        Box::new(self.names.iter().filter_map(|name| there.get(name)))
    }

    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    fn breaks_last(&self) -> bool {
        matches!(self.type_url, type_url::CLUSTER | type_url::ENDPOINT)
    }

    /// The whole set, with those that are about to go as long as they may not go yet.
    fn everything(&self, there: &Resources, before: &Resources, phase: Phase) -> Vec<Resource> {
        let mut all: Vec<Resource> = self.wanted(there).cloned().collect();
        if phase == Phase::Make && self.breaks_last() {
            let staying = |name: &&Arc<str>| !there.contains_key(*name) && self.wants(name);
            all.extend(self.sent.keys().filter(staying).filter_map(|name| before.get(name)).cloned());
        }
        all
    }

    /// The named resources, up to the limit of a response.
    fn some<'a>(&self, there: &Resources, names: impl Iterator<Item = &'a Arc<str>>) -> Vec<Resource> {
        let mut taken = BTreeSet::new();
        let mut bytes = 0;
        names
            .filter(|name| taken.insert(*name))
            .filter_map(|name| there.get(name))
            .take_while(|resource| {
                let room = bytes < self.limits.response_bytes || self.variant == Variant::StateOfTheWorld;
                bytes += resource.body.len() + resource.name.len() + 64;
                room
            })
            .cloned()
            .collect()
    }

    fn note_gone(&mut self, name: &Arc<str>) {
        if self.names.contains(name) {
            self.sent.insert(name.clone(), None);
        } else {
            self.sent.remove(name);
        }
    }

    fn await_verdict(&mut self, names: Vec<Arc<str>>) {
        if self.pending.len() == MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back((self.last_nonce, names));
    }

    /// Finds the response that a verdict is about; older ones without a verdict count as accepted.
    fn judge(&mut self, nonce: u64, error: Option<String>) -> Verdict {
        let Some(index) = self.pending.iter().position(|(pending, _)| *pending == nonce) else {
            return Verdict::Silent;
        };
        self.pending.drain(..index);
        let Some(((_, names), error)) = self.pending.pop_front().zip(error) else {
            return Verdict::Accepted;
        };
        self.rejected.extend(names);
        Verdict::Rejected(error)
    }

    /// Lets what was rejected count as not sent.
    fn forget_rejected(&mut self, there: &Resources) {
        for name in std::mem::take(&mut self.rejected) {
            if there.contains_key(&name) {
                self.again.insert(name);
            } else if self.wants(&name) {
                self.doubtful.insert(name.clone());
                self.sent.insert(name, Some("rejected".into()));
            }
        }
    }

    fn ask_all(&mut self, names: Vec<String>, from_scratch: bool) -> Result<(), Excess> {
        self.check(names.len(), names.iter())?;
        let full = type_url::is_wildcard(self.type_url);
        self.legacy = names.is_empty() && if from_scratch { full } else { self.legacy };
        self.be_wildcard(self.legacy || names.iter().any(|name| name == WILDCARD));
        let names = names.into_iter().filter(|name| name != WILDCARD).map(Into::into).collect();
        let before = std::mem::replace(&mut self.names, names);
        self.doubtful.extend(self.names.difference(&before).cloned());
        self.open = true;
        if from_scratch {
            self.due = full && (self.wildcard || !self.names.is_empty());
            self.sent.clear();
            self.seen = Resources::new();
        }
        self.drop_unwanted();
        Ok(())
    }

    fn ask_change(
        &mut self,
        subscribe: Vec<String>,
        unsubscribe: &[String],
        held: HashMap<String, String>,
    ) -> Result<(), Excess> {
        self.check(self.names.len() + subscribe.len(), subscribe.iter())?;
        let first = !std::mem::replace(&mut self.open, true);
        if first {
            self.check(held.len(), held.keys())?;
            self.be_wildcard(subscribe.is_empty() && type_url::is_wildcard(self.type_url));
            self.doubtful.extend(held.keys().map(|name| name.as_str().into()));
            self.sent = held.into_iter().map(|(name, version)| (name.into(), Some(version.into()))).collect();
        }
        for name in subscribe {
            self.subscribe(name, first);
        }
        self.due |= first && self.wildcard;
        for name in unsubscribe {
            self.unsubscribe(name);
        }
        if first || !unsubscribe.is_empty() {
            self.drop_unwanted();
        }
        Ok(())
    }

    fn subscribe(&mut self, name: String, first: bool) {
        if name == WILDCARD {
            self.due |= !self.wildcard;
            self.be_wildcard(true);
            return;
        }
        let name: Arc<str> = name.into();
        if !first && self.sent.get(&name).is_some_and(Option::is_none) {
            self.sent.remove(&name);
        }
        if !first {
            self.again.insert(name.clone());
        }
        self.doubtful.insert(name.clone());
        self.names.insert(name);
    }

    fn unsubscribe(&mut self, name: &str) {
        if name == WILDCARD {
            self.wildcard = false;
        } else if let Some(name) = self.names.take(name)
            && self.wildcard
        {
            // The client may have dropped it, but wants it as one of all.
            self.again.insert(name);
        }
    }

    /// Whether all is wanted; then all must be looked at.
    fn be_wildcard(&mut self, wildcard: bool) {
        if wildcard && !self.wildcard {
            self.seen = Resources::new();
        }
        self.wildcard = wildcard;
    }

    fn drop_unwanted(&mut self) {
        if !self.wildcard {
            self.sent.retain(|name, _| self.names.contains(name));
            self.rejected.retain(|name| self.names.contains(name));
        }
    }

    fn check<'a>(&self, count: usize, mut names: impl Iterator<Item = &'a String>) -> Result<(), Excess> {
        if count > self.limits.names {
            return Err(Excess::Names(count, self.limits.names));
        }
        names.find(|name| name.len() > MAX_NAME).map_or(Ok(()), |name| Err(Excess::Name(name.len())))
    }
}

#[cfg(test)]
mod tests;
