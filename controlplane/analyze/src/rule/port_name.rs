//! Ports of Kubernetes' Services whose names do not begin with a protocol: there it is detected.

use crate::index::{World, items, name_of};
use crate::{Message, code};
use resource::Node;

/// The protocols that a name may begin with (Istio's protocol selection).
const PROTOCOLS: [&str; 13] =
    ["http", "http2", "https", "grpc", "grpc-web", "grpcweb", "mongo", "mysql", "redis", "tcp", "tls", "udp", "auto"];

pub(super) fn check(world: &World<'_>, messages: &mut Vec<Message>) {
    for tree in world.trees.iter().filter(|tree| matches!(name_of(tree), ("", "Service", _, _))) {
        for (i, port) in items(tree.find("spec.ports")).iter().enumerate() {
            let text = |name| port.get(name).and_then(Node::as_text);
            let name = text("name").unwrap_or_default();
            let is_told = text("appProtocol").is_some() || text("protocol").is_some_and(|protocol| protocol != "TCP");
            let begins = |protocol: &str| name == protocol || name.starts_with(&format!("{protocol}-"));
            if is_told || PROTOCOLS.iter().any(|protocol| begins(protocol)) {
                continue;
            }
            let shown = |name| port.get(name).map(|node| node.value.to_string()).unwrap_or_default();
            let text = format!(
                "Port name {name} (port: {}, targetPort: {}) doesn't follow the naming convention of Istio port.",
                shown("port"),
                shown("targetPort")
            );
            messages.push(Message::new(code::PORT_NAME, tree, format!("spec.ports[{i}]"), text));
        }
    }
}
