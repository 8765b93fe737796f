//! VirtualServices that delegate to one that is not there.

use crate::index::World;
use crate::{Message, code};
use config::HttpAction;

pub(super) fn check(world: &World<'_>, messages: &mut Vec<Message>) {
    for service in &world.intent.virtual_services {
        for (i, route) in service.http.iter().enumerate() {
            let HttpAction::Delegate { namespace, name } = &route.action else { continue };
            if world.find("VirtualService", namespace.as_str(), name).is_none() {
                let text = format!("Referenced delegate VirtualService not found: \"{namespace}/{name}\"");
                let whose = ("VirtualService", &service.namespace, service.name.as_str());
                messages.extend(world.say(code::NOT_FOUND, whose, format!("spec.http[{i}].delegate.name"), text));
            }
        }
    }
}
