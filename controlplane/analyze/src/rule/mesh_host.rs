//! VirtualServices for the mesh that route the same host, seen by the same workloads.

use crate::index::World;
use crate::{Message, code};
use config::{HostPattern, VirtualService, Visibility};

pub(super) fn check(world: &World<'_>, messages: &mut Vec<Message>) {
    let services: Vec<&VirtualService> =
        world.intent.virtual_services.iter().filter(|service| service.is_for_mesh()).collect();
    for service in &services {
        for (i, host) in service.hosts.iter().enumerate() {
            let HostPattern::Host(name) = host else { continue };
            let is_rival =
                |other: &&&VirtualService| other.hosts.contains(host) && meet(&service.export_to, &other.export_to);
            let rivals: Vec<String> =
                services.iter().filter(is_rival).map(|other| format!("{}/{}", other.namespace, other.name)).collect();
            if rivals.len() < 2 {
                continue;
            }
            let text = format!(
                "The VirtualServices {} associated with mesh gateway define the same host {name} which can lead to \
                 undefined behavior. This can be fixed by merging the conflicting VirtualServices into a single resource.",
                rivals.join(",")
            );
            let whose = ("VirtualService", &service.namespace, service.name.as_str());
            messages.extend(world.say(code::MESH_HOSTS, whose, format!("spec.hosts[{i}]"), text));
        }
    }
}

fn meet(one: &Visibility, other: &Visibility) -> bool {
    match (one, other) {
        (Visibility::All, Visibility::All) => true,
        (Visibility::Namespaces(names), Visibility::All) | (Visibility::All, Visibility::Namespaces(names)) => {
            !names.is_empty()
        }
        (Visibility::Namespaces(one), Visibility::Namespaces(other)) => !one.is_disjoint(other),
    }
}
