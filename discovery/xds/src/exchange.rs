//! What a client and a subscription say to each other of one type, in the form common to both variants.

use crate::Resource;
use std::collections::HashMap;
use std::sync::Arc;

/// Which of the two variants of the protocol the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// Requests and responses carry changes.
    Delta,
    /// Requests carry all names, and responses of wildcard types all resources.
    StateOfTheWorld,
}

/// A request about one type, in the form common to both variants.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// The response that is acknowledged or rejected; empty in a spontaneous request.
    pub(crate) nonce: String,
    /// Why the response was rejected, if it was.
    pub(crate) error: Option<String>,
    /// What is asked for.
    pub(crate) ask: Ask,
}

/// What a request asks for.
#[derive(Debug)]
pub(crate) enum Ask {
    /// State of the world: exactly these names.
    All(Vec<String>),
    /// Delta: more or fewer names, and (in the first request) what the client already holds.
    Change { subscribe: Vec<String>, unsubscribe: Vec<String>, held: HashMap<String, String> },
}

/// What a request said of an earlier response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing: a spontaneous request, or one about a response that is no longer awaited.
    Silent,
    /// Accepted.
    Accepted,
    /// Rejected, for this reason.
    Rejected(String),
}

/// What is to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    /// Names this response among those of its type.
    pub(crate) nonce: String,
    /// The resources to write.
    pub(crate) resources: Vec<Resource>,
    /// The names to declare gone (delta only).
    pub(crate) removed: Vec<Arc<str>>,
    /// The names in it that the client did not hold in this version.
    pub(crate) fresh: Vec<Arc<str>>,
}

/// A request that goes beyond the limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Excess {
    /// Too many names.
    #[error("{0} subscriptions to one type: at most {1} are accepted")]
    Names(usize, usize),
    /// A name that is too long.
    #[error("resource name of {0} bytes: at most {MAX_NAME} are accepted")]
    Name(usize),
}

/// The longest name of a resource that may be asked for, in bytes.
pub(crate) const MAX_NAME: usize = 4096;

// === impl Ask ===

impl Default for Ask {
    fn default() -> Self {
        Self::All(Vec::new())
    }
}
