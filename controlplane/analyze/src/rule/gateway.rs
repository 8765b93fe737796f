//! Gateways that the same proxies serve, with the same hosts at the same port.

use crate::index::{World, bears, shown};
use crate::{Message, code};
use config::{EgressHost, Gateway, Server};

pub(super) fn check(world: &World<'_>, messages: &mut Vec<Message>) {
    let gateways = &world.intent.gateways;
    for (i, gateway) in gateways.iter().enumerate() {
        for (k, server) in gateway.servers.iter().enumerate() {
            let others = gateways.iter().enumerate().filter(|(j, other)| *j != i && meet(gateway, other));
            let conflicts: Vec<&Gateway> = others
                .filter(|(_, other)| other.servers.iter().any(|another| is_same(server, another)))
                .map(|(_, other)| other)
                .collect();
            if conflicts.is_empty() {
                continue;
            }
            let names: Vec<String> = conflicts.iter().map(|one| format!("{}/{}", one.namespace, one.name)).collect();
            let hosts: Vec<String> = server.hosts.iter().map(EgressHost::to_string).collect();
            let text = format!(
                "Conflict with gateways {} (workload selector {}, port {}, hosts {}).",
                names.join(","),
                shown(&gateway.selector),
                server.port,
                hosts.join(",")
            );
            let path = format!("spec.servers[{k}].hosts");
            messages.extend(world.say(code::GATEWAYS, ("Gateway", &gateway.namespace, &gateway.name), path, text));
        }
    }
}

/// Whether all that serve one serve the other.
fn meet(one: &Gateway, other: &Gateway) -> bool {
    bears(&one.selector, &other.selector) || bears(&other.selector, &one.selector)
}

fn is_same(one: &Server, other: &Server) -> bool {
    let is_shared = |host: &EgressHost| other.hosts.iter().any(|another| another.host == host.host);
    one.port == other.port && one.bind == other.bind && one.hosts.iter().any(is_shared)
}
