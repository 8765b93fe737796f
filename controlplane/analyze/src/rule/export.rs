//! Exports to clusters that are not of the mesh.

use crate::index::World;
use crate::{Message, code};
use model::Audience;

const EXPORT: &str = "metadata.annotations.isthmus.io/export";

pub(super) fn check(world: &World<'_>, messages: &mut Vec<Message>) {
    if world.facts.clusters.is_empty() {
        return;
    }
    let known: Vec<&str> = world.facts.clusters.iter().map(model::ClusterId::as_str).collect();
    for (tree, _, entry) in world.entries() {
        let Audience::Clusters(clusters) = &entry.audience else { continue };
        for cluster in clusters.iter().filter(|cluster| !world.facts.clusters.contains(cluster)) {
            let text = format!("Export to an unknown cluster: {:?}; known: {}", cluster.as_str(), known.join(", "));
            messages.push(Message::new(code::UNKNOWN_CLUSTER, tree, EXPORT, text));
        }
    }
}
