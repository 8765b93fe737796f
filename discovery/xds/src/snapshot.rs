//! All the resources of one proxy at one moment.

use crate::{Resource, type_url};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One proxy's resources, by type and name. Immutable once shared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Type URL (one of [`type_url::ORDER`]) to the resources of that type by name.
    pub by_type: BTreeMap<&'static str, BTreeMap<Arc<str>, Resource>>,
}

const NOTHING: &BTreeMap<Arc<str>, Resource> = &BTreeMap::new();

// === impl Snapshot ===

impl Snapshot {
    /// Adds a resource, or replaces the one of the same name.
    pub fn insert(&mut self, type_url: &'static str, resource: Resource) {
        debug_assert!(type_url::known(type_url).is_some(), "{type_url} is not one of type_url::ORDER");
        self.by_type.entry(type_url).or_default().insert(resource.name.clone(), resource);
    }

    /// The resources of a type; an empty map when there are none.
    pub fn get(&self, type_url: &str) -> &BTreeMap<Arc<str>, Resource> {
        self.by_type.get(type_url).unwrap_or(NOTHING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_without_resources_is_an_empty_map() {
        let mut snapshot = Snapshot::default();
        assert!(snapshot.get(type_url::CLUSTER).is_empty());
        snapshot.insert(type_url::CLUSTER, Resource::from_body("a", vec![1].into()));
        snapshot.insert(type_url::CLUSTER, Resource::from_body("a", vec![2].into()));
        assert_eq!(snapshot.get(type_url::CLUSTER).len(), 1);
        assert_eq!(snapshot.get(type_url::CLUSTER)["a"].body, vec![2]);
    }
}
