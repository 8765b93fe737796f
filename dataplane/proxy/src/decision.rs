//! Decisions as text: what would be done with a request at this moment, for whoever inspects the sidecar.

use crate::shared::Shared;
use routing::{Action, Endpoint, Route, RoutingTable, Upstream, Wanted};
use std::collections::BTreeSet;
use std::sync::Arc;

/// One line for each name of each route table: what is done, through which endpoint and with how much on it.
pub(crate) fn all(shared: &Shared) -> String {
    let table = shared.table.load();
    let mut lines = BTreeSet::new();
    for routes in table.routes.values() {
        for (domain, of_domain) in routes.domains() {
            for route in of_domain {
                lines.insert(format!("{} {domain}: {}\n", routes.name, done(shared, &table, route)));
            }
        }
    }
    lines.into_iter().collect()
}

fn done(shared: &Shared, table: &RoutingTable, route: &Route) -> String {
    let to = |name: &Arc<str>| match table.upstreams.get(name) {
        Some(upstream) => format!("{name} {}", chosen(shared, upstream)),
        None => format!("{name} (not known)"),
    };
    match &route.action {
        Action::Answer(answer) => format!("answered {}", answer.status),
        Action::Redirect(redirect) => format!("redirected {}", redirect.status),
        Action::Forward(forward) => {
            forward.targets().iter().map(|target| to(&target.upstream)).collect::<Vec<_>>().join(" | ")
        }
    }
}

fn chosen(shared: &Shared, upstream: &Upstream) -> String {
    let nowhere = ([0, 0, 0, 0], 0).into();
    let wanted = Wanted { destination: nowhere, hash: None, tried: &[], now: shared.now() };
    match upstream.pick(&wanted, rand::random) {
        None => "(no endpoint)".to_owned(),
        Some(endpoint) => described(shared, &endpoint),
    }
}

fn described(shared: &Shared, endpoint: &Endpoint) -> String {
    let facts = &endpoint.facts;
    let security = if facts.tls { "mTLS" } else { "in the clear" };
    let behind = facts.clusters.as_deref().map(|clusters| format!(", towards {clusters}")).unwrap_or_default();
    let avoided = match (endpoint.load.is_ejected(shared.now()), endpoint.load.is_avoided(shared.now())) {
        (true, _) => ", ejected",
        (false, true) => ", avoided",
        (false, false) => "",
    };
    format!("▶ {} ({security}{behind}, {} on their way{avoided})", facts.target, endpoint.load.active())
}
