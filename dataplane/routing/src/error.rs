//! The one error of this crate: a resource that is not taken, so that the proxy sends a NACK and keeps what it has.

use std::fmt::Display;

/// Which resource, and what in it is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{resource}: {reason}")]
pub struct Rejection {
    /// The resource's name.
    pub resource: String,
    /// The field, its value, and what is accepted.
    pub reason: String,
}

impl Rejection {
    /// A rejection of `resource`.
    pub fn new(resource: &str, reason: impl Display) -> Self {
        Self { resource: resource.to_owned(), reason: reason.to_string() }
    }
}
