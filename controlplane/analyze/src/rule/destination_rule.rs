//! DestinationRules for hosts that nobody declares.

use crate::index::{World, hosts};
use crate::{Message, code};

pub(super) fn check(world: &World<'_>, messages: &mut Vec<Message>) {
    let hosts = hosts(&world.services);
    for rule in &world.intent.destination_rules {
        let is_met = |host: &model::Host| rule.host.covers(host) || host.covers(&rule.host);
        let is_known = world.knows(&rule.host, rule.namespace.as_str())
            || (rule.host.is_wildcard() && hosts.iter().any(|host| is_met(host)))
            || world.facts.hosts.iter().any(is_met);
        // A rule for all services of a cluster or a namespace is a policy, not a mistake.
        let is_policy = rule.host.is_wildcard() && rule.host.as_str().split('.').next_back() == Some("local");
        if !is_known && !is_policy {
            let text = format!("Host not found: {:?}: the rule has no effect", rule.host.as_str());
            let whose = ("DestinationRule", &rule.namespace, rule.name.as_str());
            messages.extend(world.say(code::RULE_WITHOUT_HOST, whose, "spec.host", text));
        }
    }
}
