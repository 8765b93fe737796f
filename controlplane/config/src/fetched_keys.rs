//! The keys that the control plane has fetched for the rules that say where they are.

use crate::{Intent, JwtKeys};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The key sets that are known, by where they are from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FetchedKeys(Arc<BTreeMap<JwtKeys, String>>);

// === impl FetchedKeys ===

impl FetchedKeys {
    /// These; of each [`verifies`] holds.
    pub fn new(sets: BTreeMap<JwtKeys, String>) -> Self {
        Self(Arc::new(sets))
    }

    /// The key set that `keys` means, if it is known.
    pub fn of<'a>(&'a self, keys: &'a JwtKeys) -> Option<&'a str> {
        match keys {
            JwtKeys::Inline(set) => Some(set),
            JwtKeys::Nothing => None,
            JwtKeys::At(_) | JwtKeys::OfIssuer(_) => self.0.get(keys).map(String::as_str),
        }
    }

    /// The places from which keys are needed for what `intent` says.
    pub fn wanted(intent: &Intent) -> BTreeSet<JwtKeys> {
        let rules = intent.request_authentications.iter().flat_map(|policy| &policy.rules);
        let fetched = rules.map(|rule| &rule.keys).filter(|keys| matches!(keys, JwtKeys::At(_) | JwtKeys::OfIssuer(_)));
        fetched.cloned().collect()
    }
}

/// Whether `set` is a JSON Web Key Set (RFC 7517) with a public key that verifies signatures.
pub fn verifies(set: &str) -> bool {
    let Ok(set) = serde_json::from_str::<serde_json::Value>(set) else { return false };
    let is_public = |key: &serde_json::Value| {
        let has = |names: &[&str]| names.iter().all(|name| key[*name].is_string());
        match key["kty"].as_str() {
            Some("RSA") => has(&["n", "e"]),
            Some("EC") => has(&["crv", "x", "y"]),
            Some("OKP") => has(&["crv", "x"]),
            _ => false,
        }
    };
    set["keys"].as_array().is_some_and(|keys| keys.iter().any(is_public))
}
