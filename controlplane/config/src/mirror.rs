//! Copies of requests, whose answers nobody waits for.

use crate::{Destination, Percentage};
use model::Namespace;
use resource::{Fields, ResourceError};

/// A destination that gets copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Where they go.
    pub destination: Destination,
    /// How many of the requests are copied.
    pub share: Percentage,
}

// === impl Mirror ===

impl Mirror {
    /// Those of an HTTP route: `mirrors`, or else the one `mirror`.
    pub(crate) fn read_all(fields: &Fields<'_>, namespace: &Namespace) -> Result<Vec<Self>, ResourceError> {
        let (one, many) = (fields.get("mirror"), fields.get("mirrors"));
        if one.is_present() && many.is_present() {
            return Err(many.refuse("either mirror or mirrors, not both"));
        }
        let mut mirrors = Vec::new();
        for item in many.items()? {
            let inside = item.fields(&["destination", "percentage"])?;
            mirrors.push(Self {
                destination: Destination::read(&inside.get("destination"), namespace)?,
                share: Percentage::read(&inside.get("percentage"))?.unwrap_or(Percentage::ALL),
            });
        }
        let share = Self::share(fields)?;
        if one.is_present() {
            let destination = Destination::read(&one, namespace)?;
            mirrors.push(Self { destination, share: share.unwrap_or(Percentage::ALL) });
        }
        Ok(mirrors)
    }

    fn share(fields: &Fields<'_>) -> Result<Option<Percentage>, ResourceError> {
        if let Some(share) = Percentage::read(&fields.get("mirrorPercentage"))? {
            return Ok(Some(share));
        }
        let whole = Percentage::read_whole(&fields.get("mirrorPercent"))?;
        Ok(whole.or(Percentage::read_whole(&fields.get("mirror_percent"))?))
    }
}
