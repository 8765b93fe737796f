//! How the process of a proxy is started and ended.

use resource::{Field, ResourceError};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a proxy is told at its start; what is absent is as the proxy does it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxyStart {
    /// Worker threads; 0 is one for each core.
    pub workers: Option<u32>,
    /// Variables of its environment.
    pub environment: BTreeMap<String, String>,
    /// How long the connections of a listener that is gone may go on.
    pub drain: Option<Duration>,
    /// How long connections may go on once the proxy is told to end.
    pub last_drain: Option<Duration>,
}

/// More threads are in no machine.
const MOST_WORKERS: u32 = 1024;

// === impl ProxyStart ===

impl ProxyStart {
    /// What `nearer` says, and otherwise what this says.
    #[must_use]
    pub fn under(mut self, nearer: &Self) -> Self {
        self.environment.extend(nearer.environment.clone());
        Self {
            workers: nearer.workers.or(self.workers),
            environment: self.environment,
            drain: nearer.drain.or(self.drain),
            last_drain: nearer.last_drain.or(self.last_drain),
        }
    }
}

pub(crate) fn workers(at: &Field<'_>) -> Result<Option<u32>, ResourceError> {
    at.integer(0..=MOST_WORKERS, "a number of threads; 0 is one for each core")
}

/// Variables by name. A name that no environment can hold is refused.
pub(crate) fn environment(at: &Field<'_>) -> Result<BTreeMap<String, String>, ResourceError> {
    for (name, value) in at.members()? {
        if name.is_empty() || name.contains(['=', '\0']) || value.required_text()?.contains('\0') {
            return Err(value.refuse("a variable: its name not empty and without '=', and no NUL in it"));
        }
    }
    at.texts()
}
