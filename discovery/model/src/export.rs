//! What one cluster offers another: aggregates, never single endpoints.

use crate::{ClusterId, Invalid, Locality, Port, ServiceKey, WorkloadIdentity};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Who may use an exported service (annotation `isthmus.io/export`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Audience {
    /// Not exported.
    #[default]
    Nobody,
    /// Every cluster (`*`).
    All,
    /// These clusters.
    Clusters(BTreeSet<ClusterId>),
}

/// A stable name for the endpoints that share the exported labels: 1 to 63 of a-z, 0-9 and `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(Arc<str>);

/// The endpoints of one locality that share the exported labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its stable id.
    pub id: GroupId,
    /// The values of the labels named by `isthmus.io/export-labels` (default `version`).
    pub labels: BTreeMap<String, String>,
    /// Where they run.
    pub locality: Locality,
    /// How many are ready.
    pub ready: u32,
    /// The sum of their weights.
    pub weight: u32,
    /// The identities that they may show.
    pub identities: BTreeSet<WorkloadIdentity>,
}

/// A service as its owner offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceExport {
    /// Which service.
    pub key: ServiceKey,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Its endpoints, in aggregate.
    pub groups: Vec<Group>,
}

/// A service as a peer offers it to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceImport {
    /// The peer.
    pub cluster: ClusterId,
    /// What it offers.
    pub export: ServiceExport,
}

// === impl Audience ===

impl Audience {
    /// Whether `cluster` may use the service.
    pub fn includes(&self, cluster: &ClusterId) -> bool {
        match self {
            Self::Nobody => false,
            Self::All => true,
            Self::Clusters(clusters) => clusters.contains(cluster),
        }
    }
}

impl FromStr for Audience {
    type Err = Invalid;

    /// `*`, or cluster names separated by commas; blank is nobody.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.trim() {
            "" => Ok(Self::Nobody),
            "*" => Ok(Self::All),
            list => list.split(',').map(|name| name.trim().parse()).collect::<Result<_, _>>().map(Self::Clusters),
        }
    }
}

// === impl GroupId ===

impl GroupId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GroupId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if crate::name::is_rfc1123_label(text) {
            return Ok(Self(text.into()));
        }
        Err(Invalid::new("group", text, crate::name::RFC1123_LABEL))
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
