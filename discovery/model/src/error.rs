//! The one error of this crate: a text that does not name what it should.

/// A value that was refused: which field, what stood there, and what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value:?} is not accepted: {expected}")]
pub struct Invalid {
    /// The field or kind of value, e.g. `trust domain`.
    pub field: &'static str,
    /// What was given, cut to 256 characters.
    pub value: String,
    /// What would be accepted.
    pub expected: &'static str,
}

impl Invalid {
    /// An error about `field` holding `value` where `expected` is wanted.
    pub fn new(field: &'static str, value: &str, expected: &'static str) -> Self {
        Self { field, value: value.chars().take(256).collect(), expected }
    }
}
