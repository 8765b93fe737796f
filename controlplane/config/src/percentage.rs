//! Shares of requests, in millionths: the finest grain that Envoy knows.

use resource::{Field, ResourceError};

/// A share, 0 to 1 000 000 millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percentage(pub u32);

const WANTED: &str = "a percentage, 0 to 100";

// === impl Percentage ===

impl Percentage {
    /// None.
    pub const NONE: Self = Self(0);
    /// All.
    pub const ALL: Self = Self(1_000_000);

    /// `{value: 12.5}`.
    pub(crate) fn read(at: &Field<'_>) -> Result<Option<Self>, ResourceError> {
        if !at.is_present() {
            return Ok(None);
        }
        let value = at.fields(&["value"])?.get("value").number(0.0..=100.0, WANTED)?;
        Ok(Some(Self::of(value.unwrap_or(0.0))))
    }

    /// `12`.
    pub(crate) fn read_whole(at: &Field<'_>) -> Result<Option<Self>, ResourceError> {
        Ok(at.integer(0..=100, WANTED)?.map(|value| Self(value * 10_000)))
    }

    fn of(percent: f64) -> Self {
        #[expect(clippy::cast_sign_loss, reason = "it was checked to lie between 0 and 100")]
        Self((percent * 10_000.0).round() as u32)
    }
}
