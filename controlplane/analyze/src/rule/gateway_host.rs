//! Hosts of VirtualServices that the Gateways they name do not serve.

use crate::index::World;
use crate::{Message, code};
use config::{Gateway, HostPattern, VirtualService};

pub(super) fn check(world: &World<'_>, messages: &mut Vec<Message>) {
    for service in &world.intent.virtual_services {
        for gateway in world.intent.gateways.iter().filter(|gateway| gateway.is_named(&service.gateways)) {
            let missing: Vec<String> =
                service.hosts.iter().filter(|host| !serves(gateway, service, host)).map(shown).collect();
            if missing.is_empty() {
                continue;
            }
            let text = format!(
                "one or more host [{}] defined in VirtualService {}/{} not found in Gateway {}/{}.",
                missing.join(" "),
                service.namespace,
                service.name,
                gateway.namespace,
                gateway.name
            );
            let whose = ("VirtualService", &service.namespace, service.name.as_str());
            messages.extend(world.say(code::HOST_NOT_IN_GATEWAY, whose, "spec.hosts", text));
        }
    }
}

fn serves(gateway: &Gateway, service: &VirtualService, host: &HostPattern) -> bool {
    let alone = VirtualService { hosts: vec![host.clone()], ..service.clone() };
    gateway.servers.iter().any(|server| !server.shared_hosts(&alone, &gateway.namespace).is_empty())
}

fn shown(host: &HostPattern) -> String {
    match host {
        HostPattern::Any => "*".to_owned(),
        HostPattern::Host(host) => host.to_string(),
    }
}
