//! Where something runs.

use crate::Invalid;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// `region/zone/subzone`, as in Istio's `locality` fields; what is not known is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Locality {
    /// The region.
    pub region: Arc<str>,
    /// The zone in it.
    pub zone: Arc<str>,
    /// The part of the zone.
    pub subzone: Arc<str>,
}

impl FromStr for Locality {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parts: Vec<&str> = text.split('/').collect();
        if parts.len() > 3 || text.len() > 256 {
            return Err(Invalid::new(
                "locality",
                text,
                "region, region/zone or region/zone/subzone, at most 256 characters",
            ));
        }
        let part = |i: usize| parts.get(i).copied().unwrap_or_default().into();
        Ok(Self { region: part(0), zone: part(1), subzone: part(2) })
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.region)?;
        for part in [&self.zone, &self.subzone] {
            if !part.is_empty() {
                write!(f, "/{part}")?;
            }
        }
        Ok(())
    }
}
