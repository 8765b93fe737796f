//! Fields that Istio gives up, and what to write instead.

use crate::index::{NETWORKING, World, name_of};
use crate::{Message, code};
use resource::{Node, Tree, Value};

/// Kind, the field around it (any if empty), field, what to write instead.
const FIELDS: [(&str, &str, &str, &str); 7] = [
    ("VirtualService", "", "mirrorPercent", "mirrorPercentage"),
    ("VirtualService", "", "mirror_percent", "mirrorPercentage"),
    ("VirtualService", "delay", "percent", "percentage"),
    ("VirtualService", "corsPolicy", "allowOrigin", "allowOrigins"),
    ("DestinationRule", "", "consecutiveErrors", "consecutive5xxErrors"),
    ("DestinationRule", "", "warmupDurationSecs", "warmup"),
    ("DestinationRule", "consistentHash", "minimumRingSize", "ringHash.minimumRingSize"),
];

pub(super) fn check(world: &World<'_>, messages: &mut Vec<Message>) {
    for tree in world.trees.iter().filter(|tree| name_of(tree).0 == NETWORKING) {
        if let Some(spec) = tree.find("spec") {
            look(tree, spec, "spec", "spec", messages);
        }
    }
}

fn look(tree: &Tree, node: &Node, at: &str, around: &str, messages: &mut Vec<Message>) {
    match &node.value {
        Value::Map(entries) => {
            for (key, value) in entries {
                let name = key.as_text().unwrap_or_default();
                let path = format!("{at}.{name}");
                let is_meant = |field: &&(&str, &str, &str, &str)| {
                    field.0 == name_of(tree).1 && field.2 == name && (field.1.is_empty() || field.1 == around)
                };
                if let Some((.., instead)) = FIELDS.iter().find(is_meant) {
                    let text = format!("Deprecated: {path}: use {instead}");
                    messages.push(Message::new(code::DEPRECATED, tree, path.clone(), text));
                }
                look(tree, value, &path, name, messages);
            }
        }
        Value::List(items) => {
            for (i, item) in items.iter().enumerate() {
                look(tree, item, &format!("{at}[{i}]"), around, messages);
            }
        }
        _ => {}
    }
}
