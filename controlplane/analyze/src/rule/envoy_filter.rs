//! EnvoyFilters whose patches do not do what they say, or depend on what others leave.

use crate::index::{World, items, name_of};
use crate::{Message, code};
use resource::{Node, Value};

const RELATIVE: [&str; 5] = ["INSERT_BEFORE", "INSERT_AFTER", "REPLACE", "MERGE", "REMOVE"];

pub(super) fn check(world: &World<'_>, messages: &mut Vec<Message>) {
    for tree in world.trees.iter().filter(|tree| name_of(tree).1 == "EnvoyFilter") {
        let has_priority =
            tree.find("spec.priority").is_some_and(|node| !matches!(node.value, Value::Null | Value::Integer(0)));
        for (i, patch) in items(tree.find("spec.configPatches")).iter().enumerate() {
            let text = |node: Option<&Node>| node.and_then(Node::as_text).unwrap_or_default().to_owned();
            let operation = text(patch.get("patch").and_then(|patch| patch.get("operation")));
            let on = text(patch.get("applyTo"));
            let path = format!("spec.configPatches[{i}].patch.operation");
            let is_route = matches!(on.as_str(), "ROUTE_CONFIGURATION" | "HTTP_ROUTE");
            let (code, said) = match operation.as_str() {
                "ADD" if is_route => {
                    (code::ADD_PATCH, format!("The ADD operation will be ignored when applyTo is {on}."))
                }
                "REMOVE" if is_route => {
                    (code::REMOVE_PATCH, format!("The REMOVE operation will be ignored when applyTo is {on}."))
                }
                "REPLACE" if !matches!(on.as_str(), "HTTP_FILTER" | "NETWORK_FILTER") => {
                    let said = "The REPLACE operation is only valid for HTTP_FILTER and NETWORK_FILTER.";
                    (code::REPLACE_PATCH, said.to_owned())
                }
                operation if !has_priority && RELATIVE.contains(&operation) => {
                    let said = format!(
                        "This EnvoyFilter does not have a priority, and {operation} is relative to what others leave: it \
                         may not be applied. INSERT_FIRST or ADD, or a priority, may help."
                    );
                    (code::RELATIVE_PATCH, said)
                }
                _ => continue,
            };
            messages.push(Message::new(code, tree, path, said));
        }
    }
}
