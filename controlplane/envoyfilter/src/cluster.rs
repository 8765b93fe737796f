//! Patches of upstreams.

use crate::any::text;
use crate::apply::Messages;
use crate::matches::{ClusterMatch, Context};
use crate::merge::merge;
use crate::patch::{ApplyTo, Operation, Patch};
use xds::{Node, NodeKind};

pub(crate) fn patch(patch: &Patch, node: &Node, clusters: &mut Messages) {
    if patch.apply_to != ApplyTo::Cluster {
        return;
    }
    let value = patch.value();
    let fits = |name: &str| patch.matches.is_in(context(node, name)) && patch.matches.cluster.fits(name);
    match patch.operation {
        Operation::Add => {
            let name = text(&value, "name");
            if !name.is_empty() {
                clusters.insert(name.into(), (value, true));
            }
        }
        Operation::Remove => clusters.retain(|name, _| !fits(name)),
        operation => {
            let replaces = operation == Operation::MergeAndReplaceList;
            for (_, (cluster, changed)) in clusters.iter_mut().filter(|(name, _)| fits(name)) {
                merge(cluster, &value, replaces);
                *changed = true;
            }
        }
    }
}

fn context(node: &Node, name: &str) -> Context {
    match node.kind {
        NodeKind::Router => Context::Gateway,
        NodeKind::Sidecar if name.starts_with("inbound|") || name == "InboundPassthroughCluster" => Context::Inbound,
        NodeKind::Sidecar => Context::Outbound,
    }
}

// === impl ClusterMatch ===

impl ClusterMatch {
    /// Whether it means the cluster `DIRECTION|PORT|SUBSET|HOST`, or one of another name.
    fn fits(&self, name: &str) -> bool {
        if let Some(wanted) = &self.name {
            return wanted == name;
        }
        let mut parts = name.splitn(4, '|').skip(1);
        let (port, subset, host) = (parts.next(), parts.next(), parts.next());
        let fits = |wanted: &Option<String>, is: Option<&str>| wanted.as_ref().is_none_or(|wanted| is == Some(wanted));
        let port = port.and_then(|port| port.parse().ok());
        // A workload's own clusters name no host.
        let host = host.filter(|host| !host.is_empty());
        (self.port.is_none() || self.port == port)
            && fits(&self.subset, subset)
            && (fits(&self.service, host) || (host.is_none() && name.starts_with("inbound|")))
    }
}
