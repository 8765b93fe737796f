//! Policies of one action: each is met by who has one of its principals and asks for one of its permissions.

use super::Subject;
use super::test::{Test, Truth};
use api::envoy::envoy::config::rbac::v3 as proto;
use proto::rbac;
use std::sync::Arc;

/// Policies of one action, by name.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) action: Action,
    policies: Vec<Policy>,
}

/// What is done with what meets a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Allow,
    Deny,
    Log,
}

#[derive(Debug, Clone)]
struct Policy {
    name: Arc<str>,
    permissions: Test,
    principals: Test,
}

// === impl Rules ===

impl Rules {
    pub(super) fn parse(rules: &proto::Rbac) -> Result<Self, String> {
        let action = match rbac::Action::try_from(rules.action) {
            Ok(rbac::Action::Allow) => Action::Allow,
            Ok(rbac::Action::Deny) => Action::Deny,
            Ok(rbac::Action::Log) => Action::Log,
            Err(_) => return Err(format!("action {}: ALLOW, DENY or LOG is accepted", rules.action)),
        };
        let parse = |(name, policy): (&String, &proto::Policy)| {
            Policy::parse(name, policy, action).map_err(|reason| format!("{name}: {reason}"))
        };
        let mut policies: Vec<Policy> = rules.policies.iter().map(parse).collect::<Result<_, _>>()?;
        // The first by name is told, as Envoy does it.
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { action, policies })
    }

    /// The first policy that `subject` meets.
    pub(super) fn find(&self, subject: &Subject<'_>) -> Option<&Arc<str>> {
        let is_met = |policy: &&Policy| match policy.truth(subject) {
            Truth::Yes => true,
            Truth::No => false,
            Truth::Unknown => self.action != Action::Allow,
        };
        self.policies.iter().find(is_met).map(|policy| &policy.name)
    }
}

// === impl Policy ===

impl Policy {
    fn parse(name: &str, policy: &proto::Policy, action: Action) -> Result<Self, String> {
        if policy.condition.is_some() || policy.checked_condition.is_some() || policy.cel_config.is_some() {
            return Err("permissions and principals are accepted, condition is not".into());
        }
        if policy.permissions.is_empty() || policy.principals.is_empty() {
            return Err("one of permissions and one of principals is expected, at least".into());
        }
        let is_broad = action != Action::Allow;
        let permissions = policy.permissions.iter().map(|one| Test::of_permission(one, is_broad, 0));
        let principals = policy.principals.iter().map(|one| Test::of_principal(one, is_broad, 0));
        Ok(Self {
            name: name.into(),
            permissions: Test::Some(permissions.collect::<Result<_, _>>()?),
            principals: Test::Some(principals.collect::<Result<_, _>>()?),
        })
    }

    fn truth(&self, subject: &Subject<'_>) -> Truth {
        // Who asks is told faster than what for.
        self.principals.truth(subject).and(|| self.permissions.truth(subject))
    }
}
