//! Patches of listeners, their chains and their filters.

use crate::any::{HTTP_MANAGER, change_config, change_list, listed, text, within};
use crate::apply::Messages;
use crate::matches::{ChainMatch, Context, ListenerMatch};
use crate::merge::merge;
use crate::patch::{ApplyTo, Operation, Patch};
use crate::{http_filter, list, route};
use prost_reflect::{DynamicMessage, Value};
use xds::{Node, NodeKind};

pub(crate) const TARGETS: [ApplyTo; 5] =
    [ApplyTo::Listener, ApplyTo::ListenerFilter, ApplyTo::FilterChain, ApplyTo::NetworkFilter, ApplyTo::HttpFilter];
/// The one listener of a workload's own ports, which its chains tell apart.
const VIRTUAL_INBOUND: &str = "virtualInbound";
/// Envoy's `TrafficDirection.INBOUND`.
const INBOUND: i32 = 1;

pub(crate) fn patch(patch: &Patch, node: &Node, listeners: &mut Messages) {
    let fits = |listener: &DynamicMessage| {
        patch.matches.is_in(context(node, listener)) && patch.matches.listener.fits(listener)
    };
    if patch.apply_to == ApplyTo::Listener {
        match patch.operation {
            Operation::Add => {
                let value = patch.value();
                let name = text(&value, "name");
                if !name.is_empty() {
                    listeners.insert(name.into(), (value, true));
                }
                return;
            }
            Operation::Remove => return listeners.retain(|_, (listener, _)| !fits(listener)),
            _ => {}
        }
    }
    for (listener, changed) in listeners.values_mut() {
        let context = context(node, listener);
        if fits(listener) {
            *changed |= change(patch, context, listener);
        }
    }
}

fn change(patch: &Patch, context: Context, listener: &mut DynamicMessage) -> bool {
    let matches = &patch.matches.listener;
    match patch.apply_to {
        ApplyTo::Listener => {
            merge(listener, &patch.value(), patch.operation == Operation::MergeAndReplaceList);
            true
        }
        ApplyTo::ListenerFilter => {
            let wanted = &matches.listener_filter;
            let fits = |filter: &DynamicMessage| wanted.as_ref().is_none_or(|wanted| text(filter, "name") == *wanted);
            change_list(listener, "listener_filters", |filters| list::change(filters, patch, wanted.is_some(), 0, fits))
        }
        ApplyTo::FilterChain => {
            let names = matches.chain != ChainMatch::default();
            let at = port_of(listener);
            let fits = |chain: &DynamicMessage| matches.fits_chain(at, chain);
            change_list(listener, "filter_chains", |chains| list::change(chains, patch, names, 0, fits))
        }
        ApplyTo::NetworkFilter => each_chain(listener, |at, chain| {
            let wanted = &matches.chain.filter;
            let fits = |filter: &DynamicMessage| wanted.as_ref().is_none_or(|wanted| text(filter, "name") == *wanted);
            let is_for = matches.fits_chain(at, chain);
            is_for && change_list(chain, "filters", |filters| list::change(filters, patch, wanted.is_some(), 1, fits))
        }),
        ApplyTo::HttpFilter => each_manager(listener, matches, |manager| http_filter::change(patch, manager)),
        ApplyTo::RouteConfiguration | ApplyTo::VirtualHost | ApplyTo::HttpRoute => {
            each_manager(listener, matches, |manager| {
                let Some(mut routes) = within(manager, "route_config") else { return false };
                let changed = route::patch(patch, context, &mut routes);
                if changed {
                    manager.set_field_by_name("route_config", Value::Message(routes));
                }
                changed
            })
        }
        ApplyTo::Cluster => false,
    }
}

/// Calls `change` on the manager of HTTP of each chain that is meant; whether anything changed.
fn each_manager(
    listener: &mut DynamicMessage,
    matches: &ListenerMatch,
    change: impl Fn(&mut DynamicMessage) -> bool,
) -> bool {
    each_chain(listener, |at, chain| {
        if !matches.fits_chain(at, chain) {
            return false;
        }
        let wanted = &matches.chain.filter;
        let fits = |filter: &DynamicMessage| wanted.as_ref().is_none_or(|wanted| text(filter, "name") == *wanted);
        change_list(chain, "filters", |filters| {
            let mut changed = false;
            for filter in filters.iter_mut().filter_map(Value::as_message_mut).filter(|filter| fits(filter)) {
                changed |= change_config(filter, HTTP_MANAGER, &change);
            }
            changed
        })
    })
}

/// Calls `change` on each chain, with the port of its listener; whether anything changed.
fn each_chain(listener: &mut DynamicMessage, change: impl Fn(Option<u32>, &mut DynamicMessage) -> bool) -> bool {
    let at = port_of(listener);
    let mut changed = change_list(listener, "filter_chains", |chains| {
        let mut changed = false;
        for chain in chains.iter_mut().filter_map(Value::as_message_mut) {
            changed |= change(at, chain);
        }
        changed
    });
    if let Some(mut chain) = within(listener, "default_filter_chain")
        && change(at, &mut chain)
    {
        listener.set_field_by_name("default_filter_chain", Value::Message(chain));
        changed = true;
    }
    changed
}

fn context(node: &Node, listener: &DynamicMessage) -> Context {
    let direction = listener.get_field_by_name("traffic_direction");
    match node.kind {
        NodeKind::Router => Context::Gateway,
        NodeKind::Sidecar if direction.and_then(|value| value.as_enum_number()) == Some(INBOUND) => Context::Inbound,
        NodeKind::Sidecar => Context::Outbound,
    }
}

/// The port that a listener listens on; none for one whose chains tell ports apart.
fn port_of(listener: &DynamicMessage) -> Option<u32> {
    if text(listener, "name") == VIRTUAL_INBOUND {
        return None;
    }
    let socket = within(&within(listener, "address")?, "socket_address")?;
    socket.get_field_by_name("port_value")?.as_u32()
}

// === impl ListenerMatch ===

impl ListenerMatch {
    fn fits(&self, listener: &DynamicMessage) -> bool {
        let name = text(listener, "name");
        let is_here = |wanted: u32| port_of(listener).is_none_or(|port| port == wanted);
        self.name.as_ref().is_none_or(|wanted| *wanted == name) && self.port.is_none_or(is_here)
    }

    /// Whether it means `chain` of a listener on the port `at`.
    fn fits_chain(&self, at: Option<u32>, chain: &DynamicMessage) -> bool {
        let matches = within(chain, "filter_chain_match");
        let matched = |name: &str| matches.as_ref().map(|matches| text(matches, name)).unwrap_or_default();
        let port = matches.as_ref().and_then(|matches| within(matches, "destination_port"));
        let port = port.and_then(|port| port.get_field_by_name("value")?.as_u32());
        let has = |name: &str, wanted: &str| {
            let values = matches.as_ref().and_then(|matches| matches.get_field_by_name(name));
            values.is_some_and(|values| {
                values.as_list().unwrap_or_default().iter().any(|value| value.as_str() == Some(wanted))
            })
        };
        let wanted = &self.chain;
        let names_filter = |name: &String| listed(chain, "filters").iter().any(|filter| text(filter, "name") == *name);
        let at_port = at.is_some() || self.port.is_none() || self.port == port;
        at_port
            && wanted.port.is_none_or(|wanted| port == Some(wanted))
            && wanted.name.as_ref().is_none_or(|name| text(chain, "name") == *name)
            && wanted.sni.as_ref().is_none_or(|name| has("server_names", name))
            && wanted.transport.as_ref().is_none_or(|name| matched("transport_protocol") == *name)
            && wanted.protocols.iter().all(|name| has("application_protocols", name))
            && wanted.filter.as_ref().is_none_or(names_filter)
    }
}
