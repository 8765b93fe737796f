//! The Gateway API: parents and backends that are not there, and what Kubernetes would show as a status condition.

use crate::index::{NETWORKING, World, items, name_of};
use crate::{Message, code};
use resource::{Node, Tree};

const GROUP: &str = "gateway.networking.k8s.io";
const ROUTES: [&str; 5] = ["HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute"];

pub(super) fn check(world: &World<'_>, messages: &mut Vec<Message>) {
    references(world, messages);
    conditions(world, messages);
}

fn references(world: &World<'_>, messages: &mut Vec<Message>) {
    for tree in world.trees {
        let (GROUP, kind, namespace, _) = name_of(tree) else { continue };
        if !ROUTES.contains(&kind) {
            continue;
        }
        for (i, parent) in items(tree.find("spec.parentRefs")).iter().enumerate() {
            look_up(world, tree, (parent, GROUP, "Gateway"), &format!("spec.parentRefs[{i}]"), namespace, messages);
        }
        for (i, rule) in items(tree.find("spec.rules")).iter().enumerate() {
            for (j, backend) in items(rule.get("backendRefs")).iter().enumerate() {
                let path = format!("spec.rules[{i}].backendRefs[{j}]");
                look_up(world, tree, (backend, "", "Service"), &path, namespace, messages);
            }
        }
    }
}

/// What does not hold of resources once they are followed all together, but for what is said already.
fn conditions(world: &World<'_>, messages: &mut Vec<Message>) {
    for warning in &world.warnings {
        let Some(tree) = world.tree_at(&warning.position).filter(|tree| name_of(tree).0 == GROUP) else { continue };
        // What is not there is said of its name; the warning is of the whole reference.
        let is_said = |message: &Message| {
            message.position == warning.position || message.path.strip_prefix(&warning.path) == Some(".name")
        };
        let of_it = Message::new(
            code::SCHEMA_WARNING,
            tree,
            warning.path.clone(),
            format!("{}: {}", warning.path, warning.message),
        );
        let of_it = Message { position: warning.position.clone(), ..of_it };
        if !messages.iter().any(|message| message.subject == of_it.subject && is_said(message)) {
            messages.push(of_it);
        }
    }
}

/// Looks up what `reference` names, which is of the group and the kind beside it unless it says otherwise.
fn look_up(
    world: &World<'_>,
    tree: &Tree,
    (reference, group, kind): (&Node, &str, &str),
    path: &str,
    own: &str,
    messages: &mut Vec<Message>,
) {
    let text = |name: &str| reference.get(name).and_then(Node::as_text);
    let (group, kind) = (text("group").unwrap_or(group), text("kind").unwrap_or(kind));
    let (namespace, name) = (text("namespace").unwrap_or(own), text("name").unwrap_or_default());
    let is_host = |host: &str| host.parse().is_ok_and(|host| world.knows(&host, own));
    let is_there = match (group, kind) {
        ("", "Service") => is_host(&format!("{name}.{namespace}.svc.cluster.local")),
        (NETWORKING, "Hostname" | "ServiceEntry") => is_host(name) || world.find(kind, namespace, name).is_some(),
        (GROUP, kind) => world.find_in(group, kind, namespace, name).is_some(),
        // Others' kinds are not ours to know.
        _ => true,
    };
    if !is_there {
        let text = format!("Referenced {kind} not found: \"{namespace}/{name}\"");
        messages.push(Message::new(code::NOT_FOUND, tree, format!("{path}.name"), text));
    }
}
