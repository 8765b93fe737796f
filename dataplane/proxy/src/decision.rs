//! Decisions as text: what would be done with a request at this moment, for whoever inspects the sidecar.

use crate::shared::Shared;
use routing::{Action, Endpoint, Upstream};
use std::collections::BTreeSet;

/// One line for each name of each route table: what is done, through which endpoint and with how much on it.
pub(crate) fn all(shared: &Shared) -> String {
    let table = shared.table.load();
    let mut lines = BTreeSet::new();
    for routes in table.routes.values() {
        for (domain, action) in routes.domains() {
            let done = match action {
                Action::Answer(status) => format!("answered {status}"),
                Action::Forward(forward) => match table.upstreams.get(&forward.upstream) {
                    Some(upstream) => format!("{} {}", forward.upstream, chosen(shared, upstream)),
                    None => format!("{} (not known)", forward.upstream),
                },
            };
            lines.insert(format!("{} {domain}: {done}\n", routes.name));
        }
    }
    lines.into_iter().collect()
}

fn chosen(shared: &Shared, upstream: &Upstream) -> String {
    let nowhere = ([0, 0, 0, 0], 0).into();
    match upstream.pick(nowhere, &[], shared.now(), rand::random) {
        None => "(no endpoint)".to_owned(),
        Some(endpoint) => described(shared, &endpoint),
    }
}

fn described(shared: &Shared, endpoint: &Endpoint) -> String {
    let facts = &endpoint.facts;
    let security = if facts.tls { "mTLS" } else { "in the clear" };
    let behind = facts.clusters.as_deref().map(|clusters| format!(", towards {clusters}")).unwrap_or_default();
    let avoided = if endpoint.load.is_avoided(shared.now()) { ", avoided" } else { "" };
    format!("▶ {} ({security}{behind}, {} on their way{avoided})", facts.target, endpoint.load.active())
}
