//! Servers of Gateways that cannot be served because others are.

use crate::{Gateway, HostPattern, Selector, Server};
use model::Namespace;
use resource::Warning;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A port of the proxies that bear some labels, perhaps of one namespace only.
type Place<'a> = (&'a Selector, Option<&'a Namespace>, Option<IpAddr>, u16);

/// What the servers of one port have taken so far.
struct Taken<'a> {
    /// Whether HTTP in the clear is spoken there.
    is_clear: bool,
    by: &'a Gateway,
    /// The server names at which TLS ends, with the Gateways that have them.
    names: Vec<(&'a HostPattern, &'a Gateway)>,
}

/// Warns of each server that the proxies of its Gateway will not serve: those that come first have its port for
/// something else, or its host. Gateways are compared that select by the same labels.
pub(crate) fn warn(gateways: &[Gateway], warnings: &mut Vec<Warning>) {
    let mut ports: BTreeMap<Place<'_>, Taken<'_>> = BTreeMap::new();
    for gateway in gateways {
        for (index, server) in gateway.servers.iter().enumerate() {
            let namespace = Some(&gateway.namespace).filter(|_| gateway.stays_in_namespace);
            let place = (&gateway.selector, namespace, server.bind, server.port);
            let taken = ports.entry(place).or_insert_with(|| Taken {
                is_clear: server.is_clear_http(),
                by: gateway,
                names: Vec::new(),
            });
            for message in taken.add(gateway, server) {
                let path = format!("spec.servers[{index}]");
                warnings.push(Warning { position: gateway.position.clone(), path, message });
            }
        }
    }
}

// === impl Taken ===

impl<'a> Taken<'a> {
    /// Adds a server; what of it will not be served.
    fn add(&mut self, gateway: &'a Gateway, server: &'a Server) -> Vec<String> {
        if self.is_clear != server.is_clear_http() {
            let spoken = if self.is_clear { "HTTP in the clear" } else { "TLS or TCP" };
            let (by, at) = (&self.by.name, &self.by.position);
            return vec![format!("not served: port {} speaks {spoken} by Gateway {by} ({at})", server.port)];
        }
        if !server.tls.as_ref().is_some_and(crate::ServerTls::ends_here) {
            return Vec::new();
        }
        let mut lost = Vec::new();
        for host in &server.hosts {
            match self.names.iter().find(|(known, _)| **known == host.host) {
                Some((_, by)) => {
                    let (shown, port) = (host.host.to_string(), server.port);
                    let by = format!("Gateway {} ({})", by.name, by.position);
                    lost.push(format!("{shown} is not served: {by} has it at port {port}"));
                }
                None => self.names.push((&host.host, gateway)),
            }
        }
        lost
    }
}
