//! ServiceEntries of TCP without an address: nothing tells their connections from others. Where the host is a name, an
//! address is allocated; a wildcard, or a service whose endpoints are where the client goes, gets none.

use crate::index::World;
use crate::{Message, code};
use model::{Host, Protocol, Resolution};

pub(super) fn check(world: &World<'_>, messages: &mut Vec<Message>) {
    for (tree, _, entry) in world.entries() {
        let has_address = !entry.addresses.is_empty() || !entry.networks.is_empty();
        let gets_one = entry.resolution != Resolution::None && !entry.hosts.iter().any(Host::is_wildcard);
        if has_address || gets_one {
            continue;
        }
        let is_tcp = |protocol| matches!(protocol, Protocol::Tcp | Protocol::Auto);
        if let Some(i) = entry.ports.iter().position(|port| is_tcp(port.protocol)) {
            let text = "ServiceEntry addresses are required for this protocol.";
            messages.push(Message::new(code::ADDRESSES_REQUIRED, tree, format!("spec.ports[{i}]"), text));
        }
    }
}
