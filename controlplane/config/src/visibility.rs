//! Who sees a resource (`exportTo`).

use model::Namespace;
use resource::{Field, ResourceError};
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
    /// Reads `exportTo` of a resource in `own`: `*`, `.`, `~` or names.
    pub(crate) fn read(at: &Field<'_>, own: &Namespace) -> Result<Self, ResourceError> {
        let items = at.items()?;
        if items.is_empty() {
            return Ok(Self::All);
        }
        let (mut all, mut namespaces) = (false, BTreeSet::new());
        for item in &items {
            match item.required_text()? {
                "*" => all = true,
                "." => {
                    namespaces.insert(own.clone());
                }
                "~" if items.len() == 1 => {}
                "~" => return Err(item.refuse("'~' alone: it means that nobody sees the resource")),
                _ => {
                    namespaces.insert(item.required()?);
                }
            }
        }
        Ok(if all { Self::All } else { Self::Namespaces(namespaces) })
    }

    /// Whether workloads of `namespace` see it.
    pub fn includes(&self, namespace: &Namespace) -> bool {
        match self {
            Self::All => true,
            Self::Namespaces(namespaces) => namespaces.contains(namespace),
        }
    }
}
