//! Who may do what: the policies of a listener (Envoy's RBAC filters), compiled, and what they say of a request.
//!
//! ```text
//! filters in their order: AUDIT tells | DENY turns away what it matches | ALLOW turns away what it does not match
//! ```
//!
//! What cannot be evaluated is turned away: it meets a DENY, and no ALLOW.

mod field;
mod metadata;
mod policy;
mod test;

pub(crate) use metadata::MetadataTest;
pub use metadata::{Datum, Metadata};

use crate::Asked;
use crate::decode::unpack;
use api::envoy::envoy::extensions::filters::http::rbac::v3 as http;
use api::envoy::envoy::extensions::filters::network::rbac::v3 as network;
use api::envoy::google::protobuf::Any;
use policy::{Action, Rules};
use prost::Name;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The policies of one listener's chain, in the order in which they are asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policies(Vec<Filter>);

/// The policies of one action.
#[derive(Debug, Clone, Default)]
struct Filter {
    rules: Option<Rules>,
    /// Those of which it is only told what they would do.
    shadow: Option<Rules>,
    /// The settings, by which filters are compared.
    settings: Vec<u8>,
}

/// What policies judge: a request, or a connection whose requests are not known.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The address that connects.
    pub direct: IpAddr,
    /// The address that asks, as the proxies before tell it.
    pub remote: IpAddr,
    /// Where the connection was going.
    pub destination: SocketAddr,
    /// The server that its TLS names; empty if none.
    pub server_name: &'a str,
    /// Who the caller's certificate proves to be, `spiffe://…`.
    pub principal: Option<&'a str>,
    /// The request.
    pub asked: Option<Asked<'a>>,
    /// What filters before found out.
    pub metadata: Option<&'a Metadata>,
}

/// What policies say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it goes on.
    pub allowed: bool,
    /// The policy that decided, `ns[NAMESPACE]-policy[NAME]-rule[INDEX]`; none if there is none of which it is said.
    pub policy: Option<Arc<str>>,
    /// The AUDIT policy that it meets.
    pub audited: Option<Arc<str>>,
    /// What dry runs would have said, if there are any.
    pub dry_run: Option<DryRun>,
}

/// What dry runs would have said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DryRun {
    /// Whether it would have gone on.
    pub allowed: bool,
    /// The policy that would have decided.
    pub policy: Option<Arc<str>>,
}

// === impl Policies ===

impl Policies {
    /// Whether nothing is judged.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes in the policies that `config` holds, if it is a filter of them and not `disabled`; whether it is.
    ///
    /// # Errors
    /// If something in it is not known: it could not be enforced.
    pub(crate) fn take(&mut self, config: &Any, disabled: bool) -> Result<bool, String> {
        let filter = if let Some(rbac) = unpack::<http::Rbac>(config) {
            let rbac = rbac.map_err(|error| format!("rbac: {error}"))?;
            if rbac.matcher.is_some() || rbac.shadow_matcher.is_some() {
                return Err("rbac: rules and shadow_rules are accepted, matcher and shadow_matcher are not".into());
            }
            Filter::parse(rbac.rules.as_ref(), rbac.shadow_rules.as_ref(), config)
        } else if let Some(rbac) = unpack::<network::Rbac>(config) {
            let rbac = rbac.map_err(|error| format!("rbac: {error}"))?;
            if rbac.matcher.is_some() || rbac.shadow_matcher.is_some() {
                return Err("rbac: rules and shadow_rules are accepted, matcher and shadow_matcher are not".into());
            }
            Filter::parse(rbac.rules.as_ref(), rbac.shadow_rules.as_ref(), config)
        } else {
            return Ok(false);
        };
        let filter = filter.map_err(|reason| format!("rbac: {reason}"))?;
        self.0.extend((!disabled).then_some(filter));
        Ok(true)
    }

    /// Whether a route has policies of its own in `config`, which are not known here.
    pub(crate) fn is_of_route(config: &Any) -> bool {
        config.type_url.ends_with(&format!("/{}", http::RbacPerRoute::full_name()))
    }
}

/// What `policies` say of `subject`.
pub fn authorize(policies: &Policies, subject: &Subject<'_>) -> Verdict {
    let mut verdict = Verdict { allowed: true, policy: None, audited: None, dry_run: None };
    for filter in &policies.0 {
        if let Some(shadow) = &filter.shadow {
            let (allowed, policy) = judged(shadow, subject);
            let before = verdict.dry_run.take().filter(|before| !before.allowed);
            verdict.dry_run = Some(before.unwrap_or_else(|| DryRun { allowed, policy: policy.cloned() }));
        }
        let Some(rules) = &filter.rules else { continue };
        let (allowed, policy) = judged(rules, subject);
        if rules.action == Action::Log {
            verdict.audited = verdict.audited.or_else(|| policy.cloned());
            continue;
        }
        verdict.policy = policy.cloned();
        if !allowed {
            verdict.allowed = false;
            return verdict;
        }
    }
    verdict
}

/// Whether `subject` goes on, and the policy that says so.
fn judged<'a>(rules: &'a Rules, subject: &Subject<'_>) -> (bool, Option<&'a Arc<str>>) {
    let policy = rules.find(subject);
    let allowed = match rules.action {
        Action::Allow => policy.is_some(),
        Action::Deny => policy.is_none(),
        Action::Log => true,
    };
    (allowed, policy)
}

// === impl Filter ===

impl Filter {
    fn parse(
        rules: Option<&api::envoy::envoy::config::rbac::v3::Rbac>,
        shadow: Option<&api::envoy::envoy::config::rbac::v3::Rbac>,
        config: &Any,
    ) -> Result<Self, String> {
        Ok(Self {
            rules: rules.map(Rules::parse).transpose()?,
            shadow: shadow.map(Rules::parse).transpose()?,
            settings: config.value.clone(),
        })
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Eq for Filter {}

// === impl Verdict ===

impl Verdict {
    /// Envoy's response code details of one that is turned away.
    pub fn details(&self) -> String {
        format!("rbac_access_denied_matched_policy[{}]", self.policy.as_deref().unwrap_or("none"))
    }
}
