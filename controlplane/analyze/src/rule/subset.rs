//! Subsets whose labels no endpoint bears.

use crate::index::{World, bears, shown};
use crate::{Message, code};

pub(super) fn check(world: &World<'_>, messages: &mut Vec<Message>) {
    for rule in &world.intent.destination_rules {
        let services = world.services_of(&rule.host, rule.namespace.as_str());
        let endpoints: Vec<_> = services.iter().flat_map(|service| &service.endpoints).collect();
        // Where no endpoint is known, they may be in other clusters, or come later.
        if endpoints.is_empty() {
            continue;
        }
        for (i, subset) in rule.subsets.iter().enumerate() {
            if endpoints.iter().any(|labels| bears(labels, &subset.labels)) {
                continue;
            }
            let text = format!(
                "No endpoint of {} bears the labels of subset {:?}: {}",
                rule.host,
                subset.name,
                shown(&subset.labels)
            );
            let whose = ("DestinationRule", &rule.namespace, rule.name.as_str());
            messages.extend(world.say(code::EMPTY_SUBSET, whose, format!("spec.subsets[{i}]"), text));
        }
    }
}
