//! The one error of this crate's I/O: whose fault it was, and whether to try again.

use std::net::SocketAddr;

/// Why the store could not be used or served.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The embedded server was to be reachable from elsewhere without TLS.
    #[error(
        "listen: {address} is not accepted without tls: a loopback address, or tls with certificate, key and clusters"
    )]
    Exposed {
        /// What was asked for.
        address: SocketAddr,
    },
    /// The address cannot be bound.
    #[error("listen: {address}: {source}")]
    Bind {
        /// What was asked for.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A setting is not accepted.
    #[error("{field}: {message}")]
    Settings {
        /// Which setting.
        field: String,
        /// What is wrong, and what is accepted.
        message: String,
    },
    /// The embedded server's database failed.
    #[error("the store's database: {0}")]
    Database(String),
    /// The embedded server broke off.
    #[error("the store's server: {0}")]
    Serve(String),
    /// The store refused; trying again changes nothing.
    #[error("the store refused {operation}: {message}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// The store's own words.
        message: String,
    },
    /// The store is full; writes go through again once history is compacted or the quota raised.
    #[error("the store is full: {0}")]
    NoSpace(String),
    /// The store did not answer, or not in time. A write may have been done all the same. Try again later.
    #[error("the store did not answer {operation}: {message}")]
    Unavailable {
        /// What was tried.
        operation: &'static str,
        /// What went wrong.
        message: String,
    },
    /// This process does not hold the leader key, or does not any more.
    #[error("another process leads, under {0}")]
    NotLeader(String),
}

// === impl StoreError ===

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::NoSpace(_))
    }
}
