//! Who sees a resource (`exportTo`).

use crate::Namespace;
use std::collections::BTreeSet;

/// The namespaces whose workloads a resource is for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Visibility {
    /// All.
    #[default]
    All,
    /// These; none at all if empty.
    Namespaces(BTreeSet<Namespace>),
}

// === impl Visibility ===

impl Visibility {
    /// Whether workloads of `namespace` see it.
    pub fn includes(&self, namespace: &Namespace) -> bool {
        match self {
            Self::All => true,
            Self::Namespaces(namespaces) => namespaces.contains(namespace),
        }
    }
}
