//! What policies decided, counted by policy.

use parking_lot::RwLock;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use routing::Verdict;
use std::collections::HashMap;
use std::sync::Arc;

/// The counters, `isthmus_authorization_decisions_total`.
#[derive(Debug, Clone)]
pub(crate) struct Decisions {
    family: Family<Labels, Counter>,
    /// The counters of policies that decided something, so that a request costs no label.
    known: Arc<RwLock<Counters>>,
    /// The name of a policy that there is not.
    none: Arc<str>,
}

type Counters = HashMap<(Arc<str>, Decision), Counter>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    policy: String,
    decision: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Decision {
    Allowed,
    Denied,
    Audited,
    WouldAllow,
    WouldDeny,
}

/// Policies that have counters of their own; no proxy has nearly as many, but they come and go.
const MOST: usize = 10_000;

// === impl Decisions ===

impl Decisions {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let family = Family::default();
        registry.register(
            "isthmus_authorization_decisions",
            "What AuthorizationPolicies decided about requests and connections, by policy",
            family.clone(),
        );
        Self { family, known: Arc::default(), none: "none".into() }
    }

    /// Counts what policies said.
    pub(crate) fn count(&self, verdict: &Verdict) {
        let decision = if verdict.allowed { Decision::Allowed } else { Decision::Denied };
        if verdict.policy.is_some() || !verdict.allowed {
            self.one(verdict.policy.as_ref(), decision);
        }
        if verdict.audited.is_some() {
            self.one(verdict.audited.as_ref(), Decision::Audited);
        }
        if let Some(dry_run) = &verdict.dry_run {
            let decision = if dry_run.allowed { Decision::WouldAllow } else { Decision::WouldDeny };
            self.one(dry_run.policy.as_ref(), decision);
        }
    }

    fn one(&self, policy: Option<&Arc<str>>, decision: Decision) {
        let key = (policy.unwrap_or(&self.none).clone(), decision);
        if let Some(known) = self.known.read().get(&key) {
            known.inc();
            return;
        }
        let mut known = self.known.write();
        if known.len() >= MOST {
            known.clear();
        }
        let labels = Labels { policy: key.0.to_string(), decision: decision.as_str() };
        known.entry(key).or_insert_with(|| self.family.get_or_create(&labels).clone()).inc();
    }
}

// === impl Decision ===

impl Decision {
    fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Audited => "audited",
            Self::WouldAllow => "dry_run_allowed",
            Self::WouldDeny => "dry_run_denied",
        }
    }
}
