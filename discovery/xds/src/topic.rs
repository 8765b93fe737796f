//! What a client knows of one type: what it asked for, and what it holds. Pure.

use crate::{Resource, type_url};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One type, from the client's side. What is held outlives a connection; what was asked does not.
#[derive(Debug)]
pub(crate) struct Topic {
    /// The type.
    pub(crate) type_url: &'static str,
    /// The names asked for in this connection; `None` before the first request.
    pub(crate) asked: Option<BTreeSet<Arc<str>>>,
    /// What the sink accepted: name to version.
    pub(crate) held: BTreeMap<Arc<str>, Arc<str>>,
    /// State of the world: the version of the last accepted response.
    pub(crate) version: String,
    /// The last response of this connection.
    pub(crate) nonce: String,
}

/// A change of what is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Whether this is the first request of the type in this connection.
    pub(crate) first: bool,
    /// New names.
    pub(crate) subscribe: Vec<Arc<str>>,
    /// Names no longer wanted.
    pub(crate) unsubscribe: Vec<Arc<str>>,
}

/// A response in the form common to both variants.
#[derive(Debug, Default)]
pub(crate) struct Update {
    /// New and changed resources.
    pub(crate) changed: Vec<Resource>,
    /// Names of resources that are gone.
    pub(crate) removed: Vec<Arc<str>>,
    /// State of the world: the version of the whole.
    pub(crate) version: String,
}

// === impl Topic ===

impl Topic {
    pub(crate) fn new(type_url: &'static str) -> Self {
        Self { type_url, asked: None, held: BTreeMap::new(), version: String::new(), nonce: String::new() }
    }

    /// A new connection: the server knows nothing of us.
    pub(crate) fn restart(&mut self) {
        self.asked = None;
        self.nonce.clear();
    }

    /// What must be asked so that `wanted` is subscribed to; a wildcard type is asked for once, without names.
    pub(crate) fn want(&mut self, wanted: BTreeSet<Arc<str>>) -> Option<Change> {
        let first = self.asked.is_none();
        if type_url::is_wildcard(self.type_url) {
            self.asked.get_or_insert_default();
            return first.then(|| Change { first, subscribe: Vec::new(), unsubscribe: Vec::new() });
        }
        if first && wanted.is_empty() {
            self.held.clear();
            return None;
        }
        let before = self.asked.replace(wanted).unwrap_or_default();
        let wanted = self.asked.as_ref().expect("set in the line above");
        let subscribe: Vec<_> = wanted.difference(&before).cloned().collect();
        let unsubscribe: Vec<_> = before.difference(wanted).cloned().collect();
        self.held.retain(|name, _| wanted.contains(name));
        let changes = first || !subscribe.is_empty() || !unsubscribe.is_empty();
        changes.then_some(Change { first, subscribe, unsubscribe })
    }

    /// Notes what the sink accepted.
    pub(crate) fn accept(&mut self, changed: Vec<(Arc<str>, Arc<str>)>, removed: &[Arc<str>], version: String) {
        for name in removed {
            self.held.remove(name);
        }
        self.held.extend(changed);
        self.version = version;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn only_changes_are_asked_for() {
        let mut topic = Topic::new(type_url::ENDPOINT);
        assert_eq!(topic.want(names(&[])), None);
        let change = topic.want(names(&["a", "b"])).expect("changed");
        assert!(change.first && change.subscribe.len() == 2);
        assert_eq!(topic.want(names(&["a", "b"])), None);
        let change = topic.want(names(&["b", "c"])).expect("changed");
        assert_eq!((change.subscribe, change.unsubscribe), (vec!["c".into()], vec!["a".into()]));
        topic.restart();
        assert!(topic.want(names(&["b"])).expect("a new connection").first);
    }

    #[test]
    fn what_is_no_longer_wanted_is_no_longer_held() {
        let mut topic = Topic::new(type_url::ENDPOINT);
        topic.want(names(&["a", "b"]));
        topic.accept(vec![("a".into(), "1".into()), ("b".into(), "1".into())], &[], String::new());
        topic.want(names(&["b"]));
        assert_eq!(topic.held.keys().cloned().collect::<BTreeSet<_>>(), names(&["b"]));
        topic.accept(vec![], &["b".into()], String::new());
        assert!(topic.held.is_empty());
    }
}
