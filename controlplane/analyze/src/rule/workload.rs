//! Selectors that select no workload.

use crate::index::{Labels, NETWORKING, World, bears, labels, name_of, shown};
use crate::{Message, code};
use resource::Tree;

/// Kinds that select workloads and are looked at as they are written: group, kind, and where the selector stands.
const BY_LABELS: [(&str, &str, &str); 6] = [
    (SECURITY, "AuthorizationPolicy", "spec.selector"),
    (SECURITY, "PeerAuthentication", "spec.selector"),
    (SECURITY, "RequestAuthentication", "spec.selector"),
    (NETWORKING, "ProxyConfig", "spec.selector"),
    (NETWORKING, "EnvoyFilter", "spec.workloadSelector"),
    ("networking.isthmus.io", "RateLimit", "spec.selector"),
];
const SECURITY: &str = "security.istio.io";

/// Istio has two words for the labels of a selector.
fn labels_of(path: &str) -> &'static str {
    if path.ends_with("workloadSelector") { "labels" } else { "matchLabels" }
}

pub(super) fn check(world: &World<'_>, messages: &mut Vec<Message>) {
    for (tree, document, entry) in world.entries() {
        if let Some(selector) = &entry.workload_selector {
            look(world, tree, document.metadata.namespace.as_str(), selector, "spec.workloadSelector", messages);
        }
    }
    // Whose workloads are declared nowhere, as those of a Kubernetes cluster, cannot be judged.
    if world.workloads.is_empty() {
        return;
    }
    for tree in world.trees {
        let (group, kind, namespace, _) = name_of(tree);
        let Some((.., path)) = BY_LABELS.iter().find(|known| (known.0, known.1) == (group, kind)) else { continue };
        let selector = tree.find(&format!("{path}.{}", labels_of(path))).map(labels).unwrap_or_default();
        if !selector.is_empty() {
            look(world, tree, namespace, &selector, path, messages);
        }
    }
    for sidecar in &world.intent.sidecars {
        let tree = world.find("Sidecar", sidecar.namespace.as_str(), &sidecar.name);
        if let (Some(selector), Some(tree)) = (&sidecar.workload_selector, tree) {
            look(world, tree, sidecar.namespace.as_str(), selector, "spec.workloadSelector", messages);
        }
    }
    for rule in &world.intent.destination_rules {
        let tree = world.find("DestinationRule", rule.namespace.as_str(), &rule.name);
        if let (Some(selector), Some(tree)) = (&rule.workload_selector, tree) {
            look(world, tree, rule.namespace.as_str(), selector, "spec.workloadSelector", messages);
        }
    }
}

fn look(world: &World<'_>, tree: &Tree, namespace: &str, selector: &Labels, path: &str, messages: &mut Vec<Message>) {
    let is_of_all = namespace == world.intent.root_namespace();
    let mut near = world.workloads.iter().filter(|one| is_of_all || one.namespace == namespace);
    if near.any(|workload| bears(&workload.labels, selector)) {
        return;
    }
    let text = format!("No matching workloads for this resource with the following labels: {}", shown(selector));
    messages.push(Message::new(code::NO_WORKLOAD, tree, path, text));
}
