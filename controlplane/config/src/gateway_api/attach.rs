//! Which routes are attached to which listeners, and for which hosts.

use super::gateway::Gateway;
use super::listener::{From, Listener};
use super::lower_route::Lowered;
use super::parent::{Parent, ParentKind};
use super::route::Route;
use super::{Known, class::Class, class::Classes};
use model::{Host, Namespace};
use resource::Warning;

/// A route at a listener.
pub(super) struct Attached<'a> {
    pub(super) listener: &'a Listener,
    pub(super) lowered: &'a Lowered<'a>,
    /// For which hosts; absent is all.
    pub(super) hosts: Vec<Option<Host>>,
}

/// The routes at the listeners of `gateways`, the oldest route first. Those that are attached nowhere are warnings.
pub(super) fn attached<'a>(
    gateways: &'a [Gateway],
    classes: &Classes,
    lowered: &'a [Lowered<'a>],
    known: &Known,
    warnings: &mut Vec<Warning>,
) -> Vec<Attached<'a>> {
    let mut attached = Vec::new();
    for one in by_age(lowered) {
        let parents = one.route.parents.iter().filter(|parent| parent.kind == ParentKind::Gateway);
        for parent in parents {
            let is_named =
                |gateway: &&Gateway| (&gateway.namespace, &gateway.name) == (&parent.namespace, &parent.name);
            let Some(gateway) = gateways.iter().find(is_named) else {
                let why = format!("there is no Gateway {}/{}", parent.namespace, parent.name);
                warnings.push(parent.place.unmet("Accepted", "NoMatchingParent", why));
                continue;
            };
            if classes.get(&gateway.class) != Some(Class::Served) {
                continue;
            }
            match at(gateway, parent, one, known) {
                Ok(more) => attached.extend(more),
                Err(warning) => warnings.push(warning),
            }
        }
    }
    attached
}

fn by_age<'a>(lowered: &'a [Lowered<'a>]) -> Vec<&'a Lowered<'a>> {
    let mut all: Vec<&Lowered<'_>> = lowered.iter().collect();
    let age = |route: &'a Route| (route.created.is_none(), &route.created, &route.namespace, &route.name);
    all.sort_by(|one, other| age(one.route).cmp(&age(other.route)));
    all
}

/// The listeners of `gateway` that `parent` means and that take the route.
fn at<'a>(
    gateway: &'a Gateway,
    parent: &Parent,
    lowered: &'a Lowered<'a>,
    known: &Known,
) -> Result<Vec<Attached<'a>>, Warning> {
    let route = lowered.route;
    let unmet = |reason: &str, why: String| parent.place.unmet("Accepted", reason, why);
    let name = format!("Gateway {}/{}", gateway.namespace, gateway.name);
    let is_meant = |listener: &&Listener| {
        parent.section.as_ref().is_none_or(|section| *section == listener.name)
            && parent.port.is_none_or(|port| port == listener.port)
    };
    let meant: Vec<&Listener> = gateway.listeners.iter().filter(is_meant).collect();
    if meant.is_empty() {
        return Err(unmet("NoMatchingParent", format!("{name} has no such listener")));
    }
    let takes = |listener: &&&Listener| {
        listener.kinds.contains(&route.kind) && listener.takes(&route.namespace, &gateway.namespace, known)
    };
    let open: Vec<&Listener> = meant.iter().filter(takes).copied().collect();
    if open.is_empty() {
        let why = format!("no listener of {name} takes a {} of {}", route.kind.name(), route.namespace);
        let is_unknown = !known.namespaces.contains_key(&route.namespace)
            && meant.iter().any(|listener| matches!(listener.from, From::Selector(_)));
        let hint = if is_unknown { "; labels of a namespace are known from a Namespace document only" } else { "" };
        return Err(unmet("NotAllowedByListeners", why + hint));
    }
    let with_hosts = open.into_iter().map(|listener| Attached { listener, lowered, hosts: hosts(listener, route) });
    let attached: Vec<Attached<'_>> = with_hosts.filter(|attached| !attached.hosts.is_empty()).collect();
    if attached.is_empty() {
        return Err(unmet(
            "NoMatchingListenerHostname",
            format!("no listener of {name} serves the route's host names"),
        ));
    }
    Ok(attached)
}

/// The hosts that both serve: of two that overlap the narrower.
fn hosts(listener: &Listener, route: &Route) -> Vec<Option<Host>> {
    let Some(served) = &listener.hostname else {
        return match &route.hostnames[..] {
            [] => vec![None],
            named => named.iter().cloned().map(Some).collect(),
        };
    };
    if route.hostnames.is_empty() {
        return vec![Some(served.clone())];
    }
    let narrower = |named: &Host| {
        if served.covers(named) {
            Some(named.clone())
        } else {
            (named == served || named.covers(served)).then(|| served.clone())
        }
    };
    let mut hosts: Vec<Option<Host>> = Vec::new();
    for host in route.hostnames.iter().filter_map(narrower).map(Some) {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

// === impl Listener ===

impl Listener {
    fn takes(&self, from: &Namespace, own: &Namespace, known: &Known) -> bool {
        match &self.from {
            From::All => true,
            From::Same => from == own,
            From::None => false,
            From::Selector(selector) => selector.matches(&known.labels(from)),
        }
    }
}
