//! What is wrong with a registry's settings.

/// A registry cannot start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// A peer's settings hold a value that is not accepted.
    #[error("peer {peer:?}: {field}: {expected}")]
    Peer {
        /// The peer, as it was named.
        peer: String,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        expected: String,
    },
    /// Two clusters would share what must be one cluster's alone.
    #[error("peer {peer:?}: {field}: another peer, or the own cluster, has the same; it must be this peer's alone")]
    PeerTwice {
        /// The peer, as it was named.
        peer: String,
        /// The field.
        field: &'static str,
    },
}
