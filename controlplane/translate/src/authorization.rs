//! From AuthorizationPolicies to Envoy's RBAC filters, which stand before all that answers or forwards.
//!
//! ```text
//! the tokens that hold here -> the filter of tokens
//! the policies that hold here -> AUDIT | DENY | ALLOW: a filter each, dry runs as its shadow rules -> HTTP | bytes
//! ```

use crate::any::any;
use crate::permission::permissions;
use crate::principal::{Domains, principals};
use crate::rbac::{HttpRbac, NetworkRbac, Rules};
use crate::scope::Scope;
use crate::tokens;
use api::envoy::envoy::config::listener::v3 as listener;
use api::envoy::envoy::config::rbac::v3 as envoy;
use api::envoy::envoy::extensions::filters::network::http_connection_manager::v3 as http;
use config::{AccessRule, AuthorizationPolicy, JwtRule, PolicyAction, PolicyTarget, TargetRef};
use envoy::rbac::Action;
use model::{Host, Namespace};
use xds::NodeKind;

/// The filters of one place, in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guard {
    /// Before those of requests.
    pub(crate) http: Vec<http::HttpFilter>,
    /// Before those of bytes.
    network: Vec<listener::Filter>,
}

/// What a rule is turned into a policy for.
#[derive(Clone, Copy)]
pub(crate) struct Purpose {
    /// What its policy does.
    pub(crate) action: Action,
    /// Whether connections are judged, of which no requests are known.
    pub(crate) is_bytes: bool,
}

const HTTP: &str = "envoy.filters.http.rbac";
const NETWORK: &str = "envoy.filters.network.rbac";
const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";
/// The label by which the proxies of a Gateway are told (the Gateway API's).
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

// === impl Guard ===

impl Guard {
    /// What guards the proxy, where it serves `service` if that is known.
    pub(crate) fn of(scope: &Scope<'_>, service: Option<&Host>) -> Self {
        let is_here = |target: &PolicyTarget, namespace: &Namespace| holds(target, namespace, scope, service);
        let policies = scope.intent.authorization_policies.iter();
        let here: Vec<&AuthorizationPolicy> =
            policies.filter(|policy| is_here(&policy.target, &policy.namespace)).collect();
        let tokens = scope.intent.request_authentications.iter();
        let tokens = tokens.filter(|policy| is_here(&policy.target, &policy.namespace));
        let tokens: Vec<&JwtRule> = tokens.flat_map(|policy| &policy.rules).collect();
        // Routes are chosen by claims at gateways (Istio's rule).
        let routes = scope.node.kind == NodeKind::Router;
        let mut guard = Self::default();
        guard.http.extend(tokens::filter(&tokens, &scope.intent.keys, routes));
        if here.is_empty() {
            return guard;
        }
        let domains = Domains::of(scope);
        for (kind, action, prefix) in [
            (PolicyAction::Audit, Action::Log, "istio_dry_run_audit_"),
            (PolicyAction::Deny, Action::Deny, "istio_dry_run_deny_"),
            (PolicyAction::Allow, Action::Allow, "istio_dry_run_allow_"),
        ] {
            // Nobody is asked yet whom CUSTOM names: what he should judge is turned away.
            let is_it = |policy: &&AuthorizationPolicy| match policy.action {
                PolicyAction::Custom(_) => kind == PolicyAction::Deny,
                _ => policy.action == kind,
            };
            let of_kind: Vec<_> = here.iter().copied().filter(is_it).collect();
            let of = |dry_run: bool, is_bytes: bool| {
                let some: Vec<_> = of_kind.iter().copied().filter(|policy| policy.dry_run == dry_run).collect();
                (!some.is_empty()).then(|| rules(&some, Purpose { action, is_bytes }, &domains))
            };
            if !of_kind.is_empty() {
                guard.http.push(http_filter(&HttpRbac {
                    rules: of(false, false),
                    shadow_rules: of(true, false),
                    shadow_rules_stat_prefix: prefix.to_owned(),
                }));
                guard.network.push(network_filter(&NetworkRbac {
                    rules: of(false, true),
                    shadow_rules: of(true, true),
                    stat_prefix: "tcp.".to_owned(),
                    shadow_rules_stat_prefix: prefix.to_owned(),
                }));
            }
        }
        guard
    }

    /// `chain`, guarded if it carries bytes; requests are guarded one by one.
    pub(crate) fn before(&self, mut chain: listener::FilterChain) -> listener::FilterChain {
        if chain.filters.last().is_some_and(|last| last.name == TCP_PROXY) {
            chain.filters.splice(0..0, self.network.iter().cloned());
        }
        chain
    }
}

/// Whether the proxy follows a policy of `namespace` for `target` where it serves `service`.
fn holds(target: &PolicyTarget, namespace: &Namespace, scope: &Scope<'_>, service: Option<&Host>) -> bool {
    let (node, root) = (scope.node, scope.intent.root_namespace());
    let PolicyTarget::Named(named) = target else {
        return target.concerns(namespace, &node.namespace, &node.labels, root);
    };
    let is_near = *namespace == node.namespace;
    named.iter().any(|one| match one {
        TargetRef::Gateway(name) => is_near && node.labels.get(GATEWAY_NAME) == Some(name),
        TargetRef::GatewayClass(class) => {
            let mut served = scope.intent.gateways_for(&node.namespace, &node.labels);
            namespace.as_str() == root && served.any(|gateway| gateway.class.as_ref() == Some(class))
        }
        TargetRef::Service(host) => is_near && service == Some(host),
        TargetRef::ServiceEntry(_, hosts) => is_near && service.is_some_and(|service| hosts.contains(service)),
    })
}

fn rules(policies: &[&AuthorizationPolicy], purpose: Purpose, domains: &Domains) -> Rules {
    let mut rules = Rules { action: purpose.action.into(), ..Rules::default() };
    for policy in policies {
        for (index, rule) in policy.rules.iter().enumerate() {
            if let Some(translated) = translated(rule, purpose, domains) {
                let name = format!("ns[{}]-policy[{}]-rule[{index}]", policy.namespace, policy.name);
                rules.policies.insert(name, translated);
            }
        }
    }
    rules
}

/// None if it cannot be met: a rule of ALLOW that asks for what only requests have, where there are none.
fn translated(rule: &AccessRule, purpose: Purpose, domains: &Domains) -> Option<envoy::Policy> {
    Some(envoy::Policy {
        permissions: permissions(rule, purpose)?,
        principals: principals(rule, purpose, domains)?,
        ..Default::default()
    })
}

// === impl Purpose ===

impl Purpose {
    /// What becomes of conditions that are about requests: none where connections are judged. There ALLOW is not met, and
    /// the others do without the conditions and meet more (Istio's rule).
    pub(crate) fn of_request<T>(self, is_said: bool, conditions: impl FnOnce() -> Vec<T>) -> Option<Vec<T>> {
        match (is_said, self.is_bytes) {
            (true, false) => Some(conditions()),
            (true, true) if self.action == Action::Allow => None,
            _ => Some(Vec::new()),
        }
    }

    /// Whether it is better to take too much for met than too little.
    pub(crate) fn is_broad(self) -> bool {
        self.action != Action::Allow
    }
}

fn http_filter(config: &HttpRbac) -> http::HttpFilter {
    let config = http::http_filter::ConfigType::TypedConfig(any(config));
    http::HttpFilter { name: HTTP.to_owned(), config_type: Some(config), ..Default::default() }
}

fn network_filter(config: &NetworkRbac) -> listener::Filter {
    let config = listener::filter::ConfigType::TypedConfig(any(config));
    listener::Filter { name: NETWORK.to_owned(), config_type: Some(config) }
}
