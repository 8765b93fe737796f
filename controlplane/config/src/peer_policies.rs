//! All PeerAuthentications, found by the workload that is asked about.

use crate::intent::bears;
use crate::{MtlsMode, PeerAuthentication, PeerModes};
use model::{Endpoint, Namespace, Port, Service};
use resource::{Position, Warning};
use std::collections::BTreeMap;

/// How callers of workloads come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerPolicies {
    /// By namespace, what goes before first.
    by_namespace: BTreeMap<String, Vec<(PeerAuthentication, Position)>>,
    /// The namespace whose resources are for the whole mesh.
    root: String,
    /// Whether anybody is to come in the clear.
    disables: bool,
}

// === impl PeerPolicies ===

impl PeerPolicies {
    pub(crate) fn add(&mut self, policy: PeerAuthentication, at: &Position) {
        self.by_namespace.entry(policy.namespace.to_string()).or_default().push((policy, at.clone()));
    }

    /// Puts in order what was added, and warns of what never counts: a second one for the same whole namespace, and one
    /// of the root namespace with a selector, which Istio has for no workload at all.
    pub(crate) fn settle(&mut self, root: &str, warnings: &mut Vec<Warning>) {
        root.clone_into(&mut self.root);
        let mut ignored = |at: &Position, path: &str, message: String| {
            warnings.push(Warning { position: at.clone(), path: path.to_owned(), message });
        };
        for (namespace, policies) in &mut self.by_namespace {
            policies.sort_by(|(a, _), (b, _)| a.age().cmp(&b.age()));
            let mut general = policies.iter().filter(|(policy, _)| policy.selector.is_none());
            if let Some((first, _)) = general.next() {
                for (_, at) in general {
                    ignored(at, "spec", format!("ignored: {:?} is for the whole namespace already", first.name));
                }
            }
            if namespace == root {
                for (_, at) in policies.iter().filter(|(policy, _)| policy.selector.is_some()) {
                    ignored(at, "spec.selector", format!("ignored: in {root}, what is said is for the whole mesh"));
                }
                policies.retain(|(policy, _)| policy.selector.is_none());
            }
        }
        self.disables = self.by_namespace.values().flatten().any(|(policy, _)| policy.disables());
    }

    /// Whether anybody is to come in the clear though a proxy of the mesh stands before it.
    pub fn disables(&self) -> bool {
        self.disables
    }

    /// How callers of the workload of these labels come. Of several resources for one level the oldest counts.
    pub fn modes_for(&self, namespace: &Namespace, labels: &BTreeMap<String, String>) -> PeerModes {
        PeerModes::of(self.levels(namespace, labels))
    }

    /// How callers of this port of a workload come.
    pub fn mode_at(&self, namespace: &Namespace, labels: &BTreeMap<String, String>, port: u16) -> MtlsMode {
        let levels = self.levels(namespace, labels);
        let of_port = levels[2].and_then(|workload| workload.ports.get(&port).copied().flatten());
        of_port
            .unwrap_or_else(|| levels.iter().flatten().filter_map(|level| level.mode).next_back().unwrap_or_default())
    }

    /// Whether this port of a workload is to be spoken to in the clear though a proxy of the mesh stands before it.
    pub fn is_clear(&self, namespace: &Namespace, labels: &BTreeMap<String, String>, port: u16) -> bool {
        // Asked for each endpoint of the mesh, and mostly nothing is said at all.
        self.disables && self.mode_at(namespace, labels, port) == MtlsMode::Disable
    }

    /// Whether `port` of `service` is to be spoken to in the clear at `endpoint`, which is of the namespace that its identity
    /// tells.
    pub fn is_clear_at(&self, service: &Service, endpoint: &Endpoint, port: &Port) -> bool {
        let namespace = endpoint.identity.as_ref().map_or(&service.key.namespace, |identity| &identity.namespace);
        self.is_clear(namespace, &endpoint.labels, port.on(endpoint))
    }

    /// What counts for the mesh, the namespace and the workload.
    fn levels(&self, namespace: &Namespace, labels: &BTreeMap<String, String>) -> [Option<&PeerAuthentication>; 3] {
        let of = |name: &str| self.by_namespace.get(name).into_iter().flatten().map(|(policy, _)| policy);
        let general = |name: &str| of(name).find(|policy| policy.selector.is_none());
        let selects =
            |policy: &&PeerAuthentication| policy.selector.as_ref().is_some_and(|wanted| bears(labels, wanted));
        let mesh = general(&self.root);
        if namespace.as_str() == self.root {
            return [mesh, None, None];
        }
        [mesh, general(namespace.as_str()), of(namespace.as_str()).find(selects)]
    }
}
