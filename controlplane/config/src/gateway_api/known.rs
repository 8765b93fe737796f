//! What routes and Gateways may refer to: namespaces, services, grants, certificates and roots.

use super::object::Reference;
use super::parent::Parent;
use super::reference_grant::Grant;
use crate::Credential;
use model::{Host, Namespace};
use resource::{ConfigMap, ServiceEntry};
use std::collections::BTreeMap;

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) grants: Vec<Grant>,
    /// The labels of the namespaces that are written.
    pub(super) namespaces: BTreeMap<Namespace, BTreeMap<String, String>>,
    pub(super) config_maps: BTreeMap<(Namespace, String), ConfigMap>,
    pub(super) credentials: BTreeMap<(Namespace, String), Credential>,
    entries: BTreeMap<(Namespace, String), Vec<Host>>,
    /// The ports of hosts, by name.
    ports: BTreeMap<Host, BTreeMap<String, u16>>,
}

/// The label that Kubernetes gives every namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Where the roots stand in a ConfigMap.
const ROOTS: &str = "ca.crt";

// === impl Known ===

impl Known {
    pub(super) fn add_entry(&mut self, namespace: &Namespace, name: &str, entry: &ServiceEntry) {
        self.entries.insert((namespace.clone(), name.to_owned()), entry.hosts.clone());
        for host in &entry.hosts {
            let ports = self.ports.entry(host.clone()).or_default();
            ports.extend(entry.ports.iter().map(|port| (port.name.clone(), port.number)));
        }
    }

    /// Whether a ServiceEntry declares `host`.
    pub(super) fn is_declared(&self, host: &Host) -> bool {
        self.ports.contains_key(host)
    }

    /// The hosts of the ServiceEntry that `parent` names; none if there is no such.
    pub(super) fn hosts(&self, parent: &Parent) -> &[Host] {
        self.entries.get(&(parent.namespace.clone(), parent.name.clone())).map_or(&[], |hosts| hosts)
    }

    /// The port of `host` of that name.
    pub(super) fn port(&self, host: &Host, name: &str) -> Option<u16> {
        self.ports.get(host)?.get(name).copied()
    }

    /// Whether a resource of (group, kind, namespace) may name `to`.
    pub(super) fn permits(&self, from: (&str, &str, &Namespace), to: &Reference) -> bool {
        *from.2 == to.namespace || self.grants.iter().any(|grant| grant.allows(from, to))
    }

    /// The labels of a namespace. Where none are written it has at least that of its name.
    pub(super) fn labels(&self, namespace: &Namespace) -> BTreeMap<String, String> {
        let mut labels = self.namespaces.get(namespace).cloned().unwrap_or_default();
        labels.insert(NAME_LABEL.to_owned(), namespace.to_string());
        labels
    }

    /// The roots in the ConfigMap or the Secret that `reference` names.
    pub(super) fn roots(&self, reference: &Reference) -> Option<Vec<u8>> {
        let key = (reference.namespace.clone(), reference.name.clone());
        match (reference.group.as_str(), reference.kind.as_str()) {
            ("" | "core", "ConfigMap") => {
                let text = self.config_maps.get(&key)?.texts.get(ROOTS)?;
                text.contains("-----BEGIN CERTIFICATE-----").then(|| text.clone().into_bytes())
            }
            ("" | "core", "Secret") => self.credentials.get(&key)?.roots.clone(),
            _ => None,
        }
    }
}
