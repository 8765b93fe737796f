//! What this cluster offers the others, and which records must be written so that they see it.
//!
//! ```text
//! Catalog -> desired: (target, service) -> aggregate -> plan: against what is published -> Put | Tombstone
//! ```

use model::{Audience, Catalog, ClusterId, Endpoint, Group, GroupId, Locality, Service, ServiceExport, ServiceKey};
use std::collections::{BTreeMap, BTreeSet};

/// Whose eyes a record is for: the `all` or the cluster's name in its key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Every cluster.
    All,
    /// This one.
    Cluster(ClusterId),
}

/// What is, or should be, published, by target and service.
pub type Exports = BTreeMap<(Target, ServiceKey), ServiceExport>;

/// One write to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Publish this.
    Put(Target, ServiceExport),
    /// Withdraw this.
    Tombstone(Target, ServiceKey),
}

// === impl Write ===

impl Write {
    /// Where it is written.
    pub fn into_at(self) -> (Target, ServiceKey) {
        match self {
            Self::Put(target, export) => (target, export.key),
            Self::Tombstone(target, key) => (target, key),
        }
    }
}

/// The most characters of a group's id that come from label values.
const PREFIX: usize = 54;

/// What should be published: each exported service as the aggregate of its **local** endpoints that speak mTLS under an
/// identity. What peers offer never enters, so that nothing is exported twice. `export_labels` names the labels that
/// part the endpoints into groups.
///
/// An exported service without endpoints is published without groups: its name stays known while it restarts.
/// Wildcard hosts are left out, because no server name can ask for one.
pub fn desired(catalog: &Catalog, export_labels: &[String]) -> Exports {
    let mut exports = Exports::new();
    for (key, service) in &catalog.services {
        let targets = targets(&service.audience, &catalog.cluster.id);
        if targets.is_empty() || key.host.is_wildcard() {
            continue;
        }
        let export = aggregate(service, export_labels);
        exports.extend(targets.into_iter().map(|target| ((target, key.clone()), export.clone())));
    }
    exports
}

/// The writes that turn `published` into `desired`, in a fixed order: first what is new or changed, then what is
/// withdrawn, so that a service whose audience changes is not missed in between.
pub fn plan(desired: &Exports, published: &Exports) -> Vec<Write> {
    let puts = desired
        .iter()
        .filter(|(at, export)| published.get(at) != Some(export))
        .map(|((target, _), export)| Write::Put(target.clone(), export.clone()));
    let tombstones = published
        .keys()
        .filter(|at| !desired.contains_key(at))
        .map(|(target, key)| Write::Tombstone(target.clone(), key.clone()));
    puts.chain(tombstones).collect()
}

/// The group that `endpoint` belongs to, wherever it runs: a stable name for the values of its exported labels.
pub fn group_of(endpoint: &Endpoint, export_labels: &[String]) -> GroupId {
    group_id(&exported(endpoint, export_labels))
}

/// Whether `endpoint` may be offered to peers: it speaks mTLS and shows an identity.
pub fn is_exportable(endpoint: &Endpoint) -> bool {
    endpoint.mtls && endpoint.identity.is_some()
}

fn targets(audience: &Audience, own: &ClusterId) -> Vec<Target> {
    match audience {
        Audience::Nobody => Vec::new(),
        Audience::All => vec![Target::All],
        Audience::Clusters(ids) => ids.iter().filter(|id| *id != own).cloned().map(Target::Cluster).collect(),
    }
}

fn aggregate(service: &Service, export_labels: &[String]) -> ServiceExport {
    let mut groups: BTreeMap<(BTreeMap<String, String>, Locality), Group> = BTreeMap::new();
    for endpoint in service.endpoints.iter().filter(|endpoint| is_exportable(endpoint)) {
        let labels = exported(endpoint, export_labels);
        let group = groups.entry((labels, endpoint.locality.clone())).or_insert_with_key(|(labels, locality)| Group {
            id: group_id(labels),
            labels: labels.clone(),
            locality: locality.clone(),
            ready: 0,
            weight: 0,
            identities: BTreeSet::new(),
        });
        group.ready = group.ready.saturating_add(1);
        group.weight = group.weight.saturating_add(endpoint.weight);
        group.identities.extend(endpoint.identity.clone());
    }
    ServiceExport { key: service.key.clone(), ports: service.ports.clone(), groups: groups.into_values().collect() }
}

fn exported(endpoint: &Endpoint, export_labels: &[String]) -> BTreeMap<String, String> {
    let value = |name: &String| Some((name.clone(), endpoint.labels.get(name)?.clone()));
    export_labels.iter().filter_map(value).collect()
}

/// A readable beginning from the values, then a hash of names and values: equal labels have an equal id in every
/// replica and release, and ids that read alike still differ.
fn group_id(labels: &BTreeMap<String, String>) -> GroupId {
    let values = labels.values().map(String::as_str).collect::<Vec<_>>().join("-");
    let mut prefix: String = values.chars().take(PREFIX).map(label_character).collect();
    prefix.truncate(prefix.trim_end_matches('-').len());
    let prefix = match prefix.trim_start_matches('-') {
        "" => "any",
        readable => readable,
    };
    let text = format!("{prefix}-{:08x}", hash(labels));
    text.parse().expect("a prefix of a-z, 0-9 and '-' with 9 characters more, at most 63, is a label")
}

fn label_character(c: char) -> char {
    match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9') => c,
        _ => '-',
    }
}

/// FNV-1a with 64 bits, folded to 32. A zero byte, which no label has, parts the texts.
fn hash(labels: &BTreeMap<String, String>) -> u32 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    (hash >> 32) as u32 ^ hash as u32
}

#[cfg(test)]
mod tests;
