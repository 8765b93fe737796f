//! The last pass: what EnvoyFilters and RateLimits change in a proxy's resources.

use crate::rate_limit;
use config::{Intent, RateLimit};
use envoyfilter::{ApplyTo, Patch};
use xds::{Node, NodeKind, Snapshot, Software};

/// Applies to `snapshot` what is wanted for `node`: rate limits of our own kind first, then EnvoyFilters in their order, of
/// which our own proxies get those alone that they honour.
pub fn patch(intent: &Intent, node: &Node, snapshot: &mut Snapshot) {
    if intent.rate_limits.is_empty() && intent.envoy_filters.is_empty() {
        return;
    }
    let is_for = |limit: &&RateLimit| is_for(limit, intent, node);
    // Each goes before those that were put first before it.
    let limits: Vec<Patch> = intent.rate_limits.iter().filter(is_for).rev().map(rate_limit::patch).collect();
    let selected = envoyfilter::selected(&intent.envoy_filters, node, intent.root_namespace());
    let filters = selected.into_iter().filter(|patch| node.software != Software::Isthmus || patch.is_for_own);
    let patches: Vec<&Patch> = limits.iter().chain(filters).collect();
    envoyfilter::apply(&patches, node, snapshot);
}

/// Whether there are patches of upstreams.
pub(crate) fn is_of_upstreams(intent: &Intent) -> bool {
    let all = intent.envoy_filters.iter().flat_map(|filter| &filter.patches);
    all.into_iter().any(|patch| patch.apply_to == ApplyTo::Cluster)
}

fn is_for(limit: &RateLimit, intent: &Intent, node: &Node) -> bool {
    let bears = |(key, value): (&String, &String)| node.labels.get(key) == Some(value);
    let of_kind = match limit.context {
        config::LimitContext::Inbound | config::LimitContext::Outbound => node.kind == NodeKind::Sidecar,
        config::LimitContext::Gateway => node.kind == NodeKind::Router,
    };
    let is_here = limit.namespace == node.namespace || limit.namespace.as_str() == intent.root_namespace();
    of_kind && is_here && limit.selector.iter().all(bears)
}
