//! Patches of routes.

use crate::any::{change_list, text};
use crate::list;
use crate::matches::{Context, RoutesMatch};
use crate::merge::merge;
use crate::patch::{ApplyTo, Operation, Patch};
use prost_reflect::{DynamicMessage, Value};

pub(crate) const TARGETS: [ApplyTo; 3] = [ApplyTo::RouteConfiguration, ApplyTo::VirtualHost, ApplyTo::HttpRoute];

/// A route that is no user's: it refuses what no route takes, and patches pass it by.
pub const GUARD: &str = "misspelled-method";

/// Applies `patch` to `routes`, a route configuration that is used in `context`; whether it changed.
pub(crate) fn patch(patch: &Patch, context: Context, routes: &mut DynamicMessage) -> bool {
    let matches = &patch.matches.routes;
    if !TARGETS.contains(&patch.apply_to) || !patch.matches.is_in(context) || !matches.fits(routes) {
        return false;
    }
    match patch.apply_to {
        ApplyTo::RouteConfiguration => {
            merge(routes, &patch.value(), patch.operation == Operation::MergeAndReplaceList);
            true
        }
        ApplyTo::VirtualHost => change_list(routes, "virtual_hosts", |hosts| {
            let names = matches.host.is_some() || matches.domain.is_some();
            list::change(hosts, patch, names, 0, |host| matches.fits_host(host))
        }),
        _ => change_list(routes, "virtual_hosts", |hosts| {
            let mut changed = false;
            let meant = hosts.iter_mut().filter_map(Value::as_message_mut);
            for host in meant.filter(|host| matches.fits_host(host)) {
                let names = matches.route.is_some() || matches.action.is_some();
                let change =
                    |routes: &mut Vec<Value>| list::change(routes, patch, names, 0, |route| matches.fits_route(route));
                changed |= change_list(host, "routes", change);
            }
            changed
        }),
    }
}

// === impl RoutesMatch ===

impl RoutesMatch {
    fn fits(&self, routes: &DynamicMessage) -> bool {
        let name = text(routes, "name");
        let port = || port_of(&name);
        self.name.as_ref().is_none_or(|wanted| *wanted == name)
            && self.port.is_none_or(|wanted| port() == Some(wanted))
            && self.gateway.as_ref().is_none_or(|wanted| is_of_gateway(&name, wanted))
    }

    fn fits_host(&self, host: &DynamicMessage) -> bool {
        let domains = host.get_field_by_name("domains");
        let has = |wanted: &String| {
            let domains = domains.as_ref().and_then(|domains| domains.as_list()).unwrap_or_default();
            domains.iter().any(|domain| domain.as_str() == Some(wanted))
        };
        self.host.as_ref().is_none_or(|wanted| text(host, "name") == *wanted) && self.domain.as_ref().is_none_or(has)
    }

    fn fits_route(&self, route: &DynamicMessage) -> bool {
        let acts = |wanted: &str| route.has_field_by_name(wanted);
        let name = text(route, "name");
        name != GUARD && self.route.as_ref().is_none_or(|wanted| name == *wanted) && self.action.is_none_or(acts)
    }
}

/// The port in a route configuration's name: `PORT`, `HOST:PORT`, `BIND_PORT`, `inbound|PORT||`, `http.PORT`,
/// `https.PORT.NAME.GATEWAY.NAMESPACE`.
fn port_of(name: &str) -> Option<u32> {
    if let Some(rest) = name.strip_prefix("http.").or_else(|| name.strip_prefix("https.")) {
        return rest.split('.').next()?.parse().ok();
    }
    if let Some(rest) = name.strip_prefix("inbound|") {
        return rest.split('|').next()?.parse().ok();
    }
    name.rsplit([':', '_']).next()?.parse().ok()
}

/// Whether the routes of this name are those of the gateway `NAMESPACE/NAME`, as far as the name tells.
fn is_of_gateway(name: &str, gateway: &str) -> bool {
    let Some((namespace, gateway)) = gateway.split_once('/') else { return false };
    name.starts_with("http.") || name.ends_with(&format!(".{gateway}.{namespace}"))
}
