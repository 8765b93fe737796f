//! All the resources of one proxy at one moment.

use crate::{Resource, type_url};
use std::sync::Arc;

pub(crate) use imbl::ordmap::DiffItem;

/// The resources of one type, by name. A clone shares what it has in common with its origin, and two that share are
/// compared by where they differ: a change of one among thousands costs as much as of one among ten.
pub type Resources = imbl::OrdMap<Arc<str>, Resource>;

/// One proxy's resources, by type and name. Immutable once shared; cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// In the order of [`type_url::ORDER`].
    by_type: [Resources; type_url::ORDER.len()],
    /// What there is of a type that we do not speak.
    nothing: Resources,
}

// === impl Snapshot ===

impl Snapshot {
    /// Adds a resource, or replaces the one of the same name; one that is equal stays, with all that is shared.
    pub fn insert(&mut self, type_url: &'static str, resource: Resource) {
        let Some(at) = place(type_url) else {
            debug_assert!(false, "{type_url} is not one of type_url::ORDER");
            return;
        };
        let of_type = &mut self.by_type[at];
        if of_type.get(&resource.name) != Some(&resource) {
            of_type.insert(resource.name.clone(), resource);
        }
    }

    /// Takes away the resource of this name; if there is none, all that is shared stays so.
    pub fn remove(&mut self, type_url: &str, name: &str) {
        if let Some(of_type) = place(type_url).map(|at| &mut self.by_type[at])
            && of_type.contains_key(name)
        {
            of_type.remove(name);
        }
    }

    /// The resources of a type; an empty map when there are none.
    pub fn get(&self, type_url: &str) -> &Resources {
        place(type_url).map_or(&self.nothing, |at| &self.by_type[at])
    }

    /// The same resources, which share with `like` all that is the same there: proxies that are told nearly the same
    /// need hardly more memory than one. Types that are as they were in `before` stay so. What it costs depends on the
    /// differences alone, if the two share much already.
    #[must_use]
    pub fn sharing(&self, like: &Self, before: &Self) -> Self {
        let mut shared = self.clone();
        for (at, of_type) in shared.by_type.iter_mut().enumerate() {
            if !of_type.ptr_eq(&before.by_type[at]) {
                *of_type = based_on(&like.by_type[at], of_type);
            }
        }
        shared
    }

    /// All resources, with their types, in the order in which they are pushed.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Resource)> {
        type_url::ORDER.into_iter().flat_map(|of| self.get(of).values().map(move |resource| (of, resource)))
    }
}

/// `base` with what makes it `wanted`.
fn based_on(base: &Resources, wanted: &Resources) -> Resources {
    let mut made = base.clone();
    for difference in base.diff(wanted) {
        match difference {
            DiffItem::Add(name, resource) | DiffItem::Update { new: (name, resource), .. } => {
                made.insert(name.clone(), resource.clone());
            }
            DiffItem::Remove(name, _) => {
                made.remove(name);
            }
        }
    }
    made
}

fn place(type_url: &str) -> Option<usize> {
    type_url::ORDER.iter().position(|known| *known == type_url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_without_resources_is_an_empty_map() {
        let mut snapshot = Snapshot::default();
        assert!(snapshot.get(type_url::CLUSTER).is_empty());
        assert!(snapshot.get("something else").is_empty());
        snapshot.insert(type_url::CLUSTER, Resource::from_body("a", vec![1].into()));
        snapshot.insert(type_url::CLUSTER, Resource::from_body("a", vec![2].into()));
        assert_eq!(snapshot.get(type_url::CLUSTER).len(), 1);
        assert_eq!(snapshot.get(type_url::CLUSTER)["a"].body, vec![2]);
    }

    #[test]
    fn snapshots_that_were_made_apart_share_what_they_have_in_common() {
        let made = |own: &str| {
            let mut made = Snapshot::default();
            for name in ["a", "b", own] {
                made.insert(type_url::CLUSTER, Resource::from_body(name, name.as_bytes().to_vec().into()));
                made.insert(type_url::ENDPOINT, Resource::from_body("a", vec![1].into()));
            }
            made
        };
        let (one, other) = (made("c"), made("d"));
        let shared = other.sharing(&one, &Snapshot::default());
        assert_eq!(shared, other);
        assert!(shared.get(type_url::ENDPOINT).ptr_eq(one.get(type_url::ENDPOINT)));
        let body = |of: &Snapshot, name: &str| of.get(type_url::CLUSTER)[name].body.as_ptr();
        assert_eq!(body(&shared, "a"), body(&one, "a"));
        assert_ne!(body(&shared, "a"), body(&other, "a"));
        assert_eq!(body(&shared, "d"), body(&other, "d"));
        assert!(other.sharing(&one, &other).get(type_url::CLUSTER).ptr_eq(other.get(type_url::CLUSTER)));
    }

    #[test]
    fn what_is_equal_stays_shared() {
        let mut snapshot = Snapshot::default();
        snapshot.insert(type_url::CLUSTER, Resource::from_body("a", vec![1].into()));
        let mut same = snapshot.clone();
        same.insert(type_url::CLUSTER, Resource::from_body("a", vec![1].into()));
        assert!(same.get(type_url::CLUSTER).ptr_eq(snapshot.get(type_url::CLUSTER)));
        same.insert(type_url::CLUSTER, Resource::from_body("a", vec![2].into()));
        assert_ne!(same, snapshot);
    }
}
