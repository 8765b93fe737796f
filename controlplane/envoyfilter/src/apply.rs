//! All patches of a proxy, applied to what it is told.

use crate::encode::encode;
use crate::matches::Context;
use crate::patch::{ApplyTo, Patch};
use crate::{cluster, listener, pool, route};
use prost_reflect::DynamicMessage;
use std::collections::BTreeMap;
use std::sync::Arc;
use xds::{Node, NodeKind, Resource, Snapshot, type_url};

/// Messages by the names of their resources, each with whether it was changed.
pub(crate) type Messages = BTreeMap<Arc<str>, (DynamicMessage, bool)>;

/// Applies `patches`, one after the other, to what `node` is told. A patch whose match finds nothing changes nothing.
pub fn apply(patches: &[&Patch], node: &Node, snapshot: &mut Snapshot) {
    let within = |targets: &[ApplyTo]| patches.iter().any(|patch| targets.contains(&patch.apply_to));
    if within(&[ApplyTo::Cluster]) {
        patch_type(snapshot, type_url::CLUSTER, patches, |patch, messages| cluster::patch(patch, node, messages));
    }
    if within(&listener::TARGETS) || within(&route::TARGETS) {
        patch_type(snapshot, type_url::LISTENER, patches, |patch, messages| listener::patch(patch, node, messages));
    }
    if within(&route::TARGETS) {
        let context = if node.kind == NodeKind::Sidecar { Context::Outbound } else { Context::Gateway };
        patch_type(snapshot, type_url::ROUTE, patches, |patch, messages| {
            for (routes, changed) in messages.values_mut() {
                *changed |= route::patch(patch, context, routes);
            }
        });
    }
}

fn patch_type(
    snapshot: &mut Snapshot,
    type_url: &'static str,
    patches: &[&Patch],
    apply: impl Fn(&Patch, &mut Messages),
) {
    let name = type_url.rsplit('/').next().unwrap_or(type_url);
    let mut messages = Messages::new();
    for resource in snapshot.get(type_url).values() {
        // What we encoded can be decoded.
        if let Ok(message) = DynamicMessage::decode(pool::known(name), resource.body.clone()) {
            messages.insert(resource.name.clone(), (message, false));
        }
    }
    for patch in patches {
        apply(patch, &mut messages);
    }
    let gone: Vec<_> = snapshot.get(type_url).keys().filter(|name| !messages.contains_key(*name)).cloned().collect();
    for name in gone {
        snapshot.remove(type_url, &name);
    }
    for (name, (message, _)) in messages.into_iter().filter(|(_, (_, changed))| *changed) {
        snapshot.insert(type_url, Resource::from_body(name, encode(&message).into()));
    }
}
