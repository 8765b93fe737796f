//! Hosts that several ServiceEntries of one namespace declare: one of them counts.

use crate::index::World;
use crate::{Message, code};
use std::collections::BTreeMap;

pub(super) fn check(world: &World<'_>, messages: &mut Vec<Message>) {
    let mut first = BTreeMap::new();
    for (tree, document, entry) in world.entries() {
        for (i, host) in entry.hosts.iter().enumerate() {
            let Some(other) = first.insert((&document.metadata.namespace, host), tree) else { continue };
            first.insert((&document.metadata.namespace, host), other);
            let text = format!(
                "Host {:?} is declared in this namespace at {} already: this declaration is not used",
                host.as_str(),
                other.position("spec.hosts")
            );
            messages.push(Message::new(code::HOST_TWICE, tree, format!("spec.hosts[{i}]"), text));
        }
    }
}
