//! Where something stands, kept for what can only be said when all documents are read.

use resource::{Field, Position, Warning};

/// A place in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) position: Position,
    path: String,
}

// === impl Place ===

impl Place {
    pub(super) fn of(field: &Field<'_>) -> Self {
        Self { position: field.position(), path: field.path().to_owned() }
    }

    /// The document itself.
    pub(super) fn document(position: &Position) -> Self {
        Self { position: position.clone(), path: "spec".to_owned() }
    }

    /// That a status condition of the Gateway API does not hold here: files have no place for one.
    pub(super) fn unmet(&self, condition: &str, reason: &str, why: impl AsRef<str>) -> Warning {
        let message = format!("{condition} is False ({reason}): {}", why.as_ref());
        Warning { position: self.position.clone(), path: self.path.clone(), message }
    }
}
