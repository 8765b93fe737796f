//! Secrets that gateways and proxies show or trust: whether they are there, and hold what is needed; and whether several
//! Gateways show the same one.

use crate::index::{World, name_of};
use crate::{Message, code};
use config::Shown;
use resource::{Node, Tree, Value};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(world: &World<'_>, messages: &mut Vec<Message>) {
    let is_secret = |tree: &&Tree| matches!(name_of(tree), ("", "Secret", _, _));
    let secrets: BTreeSet<&str> = world.trees.iter().filter(is_secret).map(|tree| name_of(tree).3).collect();
    let full: BTreeSet<&str> = world.intent.credentials.keys().map(|(_, name)| name.as_str()).collect();
    for tree in world.trees {
        let ("networking.istio.io", kind @ ("Gateway" | "DestinationRule" | "Sidecar"), namespace, name) =
            name_of(tree)
        else {
            continue;
        };
        for (path, secret) in names(tree) {
            if !secrets.contains(secret) {
                let text = format!("Referenced credentialName not found: {secret:?}");
                messages.push(Message::new(code::NOT_FOUND, tree, path, text));
            } else if !full.contains(secret) {
                let text = format!(
                    "The credential {secret:?} referenced by the {kind} {name} in namespace {namespace} is invalid, which \
                     can cause the traffic not to work as expected: it holds neither a certificate with its key nor roots."
                );
                messages.push(Message::new(code::CREDENTIAL, tree, path, text));
            }
        }
    }
    check_shown(world, messages);
}

/// The secrets that `tree` names, with their places.
fn names(tree: &Tree) -> Vec<(String, &str)> {
    let mut names = Vec::new();
    if let Some(spec) = tree.find("spec") {
        collect(spec, "spec", &mut names);
    }
    names
}

fn collect<'a>(node: &'a Node, at: &str, names: &mut Vec<(String, &'a str)>) {
    match &node.value {
        Value::Map(entries) => {
            for (key, value) in entries {
                let key = key.as_text().unwrap_or_default();
                let path = format!("{at}.{key}");
                match (key, value.as_text()) {
                    ("credentialName" | "caCertCredentialName", Some(name)) if !name.is_empty() => {
                        names.push((path, name));
                    }
                    ("credentialNames", _) => {
                        for (i, item) in crate::index::items(Some(value)).iter().enumerate() {
                            names.extend(item.as_text().map(|name| (format!("{path}[{i}]"), name)));
                        }
                    }
                    _ => collect(value, &path, names),
                }
            }
        }
        Value::List(items) => {
            for (i, item) in items.iter().enumerate() {
                collect(item, &format!("{at}[{i}]"), names);
            }
        }
        _ => {}
    }
}

/// Several Gateways with one certificate: a client of HTTP/2 uses one connection for the hosts of all (RFC 9113, 9.1.1).
fn check_shown(world: &World<'_>, messages: &mut Vec<Message>) {
    let mut shown: BTreeMap<String, BTreeSet<(usize, usize)>> = BTreeMap::new();
    for (i, gateway) in world.intent.gateways.iter().enumerate() {
        for (j, server) in gateway.servers.iter().enumerate() {
            let Some(tls) = server.tls.as_ref().filter(|tls| tls.ends_here()) else { continue };
            for name in tls.shown.iter().map(certificate) {
                shown.entry(name).or_default().insert((i, j));
            }
        }
    }
    for places in shown.values() {
        let gateways: BTreeSet<usize> = places.iter().map(|(i, _)| *i).collect();
        let hosts: BTreeSet<String> =
            places.iter().map(|(i, j)| format!("{:?}", world.intent.gateways[*i].servers[*j].hosts)).collect();
        if gateways.len() < 2 || hosts.len() < 2 {
            continue;
        }
        let name = |i: &usize| format!("{}/{}", world.intent.gateways[*i].namespace, world.intent.gateways[*i].name);
        let names: Vec<String> = gateways.iter().map(name).collect();
        for (i, j) in places {
            let gateway = &world.intent.gateways[*i];
            let text = format!(
                "Duplicate certificate in multiple gateways {} may cause 404s if clients re-use HTTP2 connections.",
                names.join(",")
            );
            let path = format!("spec.servers[{j}].tls");
            messages.extend(world.say(
                code::DUPLICATE_CERTIFICATE,
                ("Gateway", &gateway.namespace, &gateway.name),
                path,
                text,
            ));
        }
    }
}

fn certificate(shown: &Shown) -> String {
    match shown {
        Shown::Files(chain, _) => format!("file {chain}"),
        Shown::Secret(name) => format!("secret {name}"),
        Shown::Granted(namespace, name) => format!("secret {namespace}/{name}"),
    }
}
