//! Where VirtualServices lead: hosts, ports and subsets that are not there, and gateways that are not either.

use crate::index::{Service, World};
use crate::{Message, code};
use config::{Destination, GatewayName, HttpAction, Split, VirtualService};

pub(super) fn check(world: &World<'_>, messages: &mut Vec<Message>) {
    for service in &world.intent.virtual_services {
        for (path, destination) in destinations(world, service) {
            check_destination(world, service, &path, destination, messages);
        }
        check_gateways(world, service, messages);
    }
}

/// All destinations with their places.
fn destinations<'a>(world: &World<'_>, service: &'a VirtualService) -> Vec<(String, &'a Destination)> {
    let mut all = Vec::new();
    let splits = |at: String, splits: &'a [Split], all: &mut Vec<(String, &'a Destination)>| {
        for (i, split) in splits.iter().enumerate() {
            all.push((format!("{at}.route[{i}].destination"), &split.destination));
        }
    };
    let tree = world.find("VirtualService", service.namespace.as_str(), &service.name);
    for (i, route) in service.http.iter().enumerate() {
        if let HttpAction::Route(route) = &route.action {
            splits(format!("spec.http[{i}]"), route, &mut all);
        }
        let is_single = tree.is_some_and(|tree| tree.find(&format!("spec.http[{i}].mirror")).is_some());
        for (j, mirror) in route.mirrors.iter().enumerate() {
            let at = if is_single { "mirror".to_owned() } else { format!("mirrors[{j}].destination") };
            all.push((format!("spec.http[{i}].{at}"), &mirror.destination));
        }
    }
    for (i, route) in service.tls.iter().enumerate() {
        splits(format!("spec.tls[{i}]"), &route.route, &mut all);
    }
    for (i, route) in service.tcp.iter().enumerate() {
        splits(format!("spec.tcp[{i}]"), &route.route, &mut all);
    }
    all
}

fn check_destination(
    world: &World<'_>,
    service: &VirtualService,
    path: &str,
    destination: &Destination,
    messages: &mut Vec<Message>,
) {
    let whose = ("VirtualService", &service.namespace, service.name.as_str());
    let host = &destination.host;
    if !world.knows(host, service.namespace.as_str()) {
        let text = format!("Referenced host not found: {:?}", host.as_str());
        messages.extend(world.say(code::NOT_FOUND, whose, format!("{path}.host"), text));
        return;
    }
    let known = world.services_of(host, service.namespace.as_str());
    match destination.port {
        Some(port) if !known.is_empty() && !known.iter().any(|one| has(one, port)) => {
            let text = format!("Referenced host:port not found: \"{host}:{port}\"");
            messages.extend(world.say(code::NOT_FOUND, whose, format!("{path}.port.number"), text));
        }
        None => {
            if let Some(ports) = known.first().map(|one| &one.ports).filter(|ports| ports.len() > 1) {
                let ports: Vec<String> = ports.iter().map(|(number, _)| number.to_string()).collect();
                let text = format!(
                    "This VirtualService routes to a service {:?} that exposes multiple ports [{}]. Specifying a port in \
                     the destination is required to disambiguate.",
                    host.as_str(),
                    ports.join(" ")
                );
                messages.extend(world.say(code::PORT_REQUIRED, whose, path, text));
            }
        }
        Some(_) => {}
    }
    if let Some(subset) = &destination.subset
        && !has_subset(world, service, destination, subset)
    {
        let text = format!("Referenced host+subset in destinationrule not found: \"{host}+{subset}\"");
        messages.extend(world.say(code::NOT_FOUND, whose, format!("{path}.subset"), text));
    }
}

/// Whether the service has the port; one without ports is not asked.
fn has(service: &Service<'_>, port: u16) -> bool {
    service.ports.is_empty() || service.ports.iter().any(|(number, _)| *number == port)
}

fn has_subset(world: &World<'_>, service: &VirtualService, destination: &Destination, subset: &str) -> bool {
    let is_for = |rule: &&config::DestinationRule| {
        (rule.host == destination.host || rule.host.covers(&destination.host))
            && rule.export_to.includes(&service.namespace)
    };
    world.intent.destination_rules.iter().filter(is_for).any(|rule| rule.subset(subset).is_some())
}

fn check_gateways(world: &World<'_>, service: &VirtualService, messages: &mut Vec<Message>) {
    let whose = ("VirtualService", &service.namespace, service.name.as_str());
    let mut check = |names: &[GatewayName], at: &str| {
        for (i, name) in names.iter().enumerate() {
            let GatewayName::Named { namespace, name } = name else { continue };
            if world.find("Gateway", namespace.as_str(), name).is_none() {
                let text = format!("Referenced gateway not found: \"{namespace}/{name}\"");
                messages.extend(world.say(code::NOT_FOUND, whose, format!("{at}.gateways[{i}]"), text));
            }
        }
    };
    check(&service.gateways, "spec");
    for (i, route) in service.http.iter().enumerate() {
        for (j, one) in route.matches.iter().enumerate() {
            check(&one.gateways, &format!("spec.http[{i}].match[{j}]"));
        }
    }
    for (i, route) in service.tls.iter().enumerate() {
        for (j, one) in route.matches.iter().enumerate() {
            check(&one.stream.gateways, &format!("spec.tls[{i}].match[{j}]"));
        }
    }
    for (i, route) in service.tcp.iter().enumerate() {
        for (j, one) in route.matches.iter().enumerate() {
            check(&one.gateways, &format!("spec.tcp[{i}].match[{j}]"));
        }
    }
}
