//! Workloads that register themselves: a proxy names the WorkloadGroup that its workload belongs to, and is believed if
//! its certificate shows the group's namespace and service account.
//!
//! ```text
//! stream opens -> WorkloadGroup + node + identity -> Workload -> registry -> endpoint of the services that select it
//! stream says how the workload is -> registry         stream ends -> registry -> (grace) -> gone
//! ```

use model::{Namespace, WorkloadIdentity};
use registry::{Registrations, Workload, WorkloadHealth};
use resource::{Document, Resource, WorkloadGroup};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tonic::Status;
use xds::Node;

/// Takes registrations. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Registration {
    registrations: Registrations,
    documents: watch::Receiver<Arc<Vec<Document>>>,
}

const MAX_NAME: usize = 253;

// === impl Registration ===

impl Registration {
    pub(crate) fn new(registry: &registry::Registry) -> Self {
        Self { registrations: registry.registrations.clone(), documents: registry.documents.clone() }
    }

    /// Registers the workload of `node`, if it asks for that.
    ///
    /// # Errors
    /// If there is no such group, the identity is not a member's, or too many workloads have registered.
    pub(crate) fn open(&self, node: &Node, peer: &WorkloadIdentity) -> Result<(), Status> {
        let (Some(name), Some(controller)) = (name(node), self.registrations.controller()) else { return Ok(()) };
        let documents = self.documents.borrow().clone();
        let group = group(&documents, &node.namespace, &node.auto_register_group).ok_or_else(|| {
            let known = format!("WorkloadGroup {}/{}", node.namespace, node.auto_register_group);
            Status::failed_precondition(format!("AUTO_REGISTER_GROUP: {known} is not declared in this cluster"))
        })?;
        if peer.namespace != node.namespace || *peer.service_account != *group.service_account() {
            return Err(Status::permission_denied(format!(
                "AUTO_REGISTER_GROUP: members of WorkloadGroup {}/{} show the service account {:?}, but the certificate \
                 says {peer}",
                node.namespace,
                node.auto_register_group,
                group.service_account(),
            )));
        }
        let workload = workload(node, group, name, controller);
        tracing::info!(namespace = %node.namespace, workload = workload.name, "a workload registers");
        self.registrations.connect(workload).map_err(|error| Status::resource_exhausted(error.to_string()))
    }

    /// The workload of `node` says how it is.
    pub(crate) fn health(&self, node: &Node, health: Result<(), String>) {
        let Some(name) = name(node) else { return };
        let health = match health {
            Ok(()) => WorkloadHealth::Healthy,
            Err(reason) => WorkloadHealth::unhealthy(&reason),
        };
        tracing::info!(namespace = %node.namespace, workload = name, ?health, "a workload says how it is");
        self.registrations.report(&node.namespace, &name, health);
    }

    /// A stream of `node` that was opened has ended.
    pub(crate) fn closed(&self, node: &Node) {
        if let Some(name) = name(node) {
            self.registrations.disconnect(&node.namespace, &name);
        }
    }
}

fn group<'a>(documents: &'a [Document], namespace: &Namespace, name: &str) -> Option<&'a WorkloadGroup> {
    documents.iter().find_map(|document| match &document.resource {
        Resource::WorkloadGroup(group)
            if document.metadata.namespace == *namespace && document.metadata.name == name =>
        {
            Some(group)
        }
        _ => None,
    })
}

/// `GROUP-ADDRESS` or `GROUP-ADDRESS-NETWORK`, as Istio names it: of a longer name the end counts. None if the node does
/// not ask to be registered.
fn name(node: &Node) -> Option<String> {
    let address = node.addresses.first()?.to_string().replace(':', "-");
    let parts = [node.auto_register_group.as_str(), &address, &node.network];
    let name = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-").to_ascii_lowercase();
    let legal: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    (!node.auto_register_group.is_empty()).then(|| legal[legal.len().saturating_sub(MAX_NAME)..].to_owned())
}

/// What the group and the node say of the workload, as in Istio; but a label that the group gives is not the node's to
/// change.
fn workload(node: &Node, group: &WorkloadGroup, name: String, controller: &str) -> Workload {
    let template = &group.template;
    let network = Some(node.network.as_str()).filter(|network| !network.is_empty());
    let locality = Some(&node.locality).filter(|locality| !locality.region.is_empty());
    let is_checked = group.probe.is_some() || node.probes;
    let address: IpAddr = node.addresses[0];
    Workload {
        namespace: node.namespace.clone(),
        name,
        group: node.auto_register_group.clone(),
        address,
        ports: template.ports.clone(),
        labels: group.labels_of(&node.labels),
        annotations: group.annotations.clone(),
        network: network.map_or_else(|| template.network.clone(), |network| model::NetworkId(network.into())),
        locality: locality.or(template.locality.as_ref()).cloned().unwrap_or_default(),
        weight: template.weight,
        service_account: group.service_account().into(),
        health: if is_checked { WorkloadHealth::Unknown } else { WorkloadHealth::Unchecked },
        controller: controller.to_owned(),
        connected_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        disconnected_at: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xds::{Interception, NodeKind};

    fn node(address: &str, network: &str) -> Node {
        Node {
            id: String::new(),
            kind: NodeKind::Sidecar,
            addresses: vec![address.parse().expect("valid")],
            name: "vm".into(),
            namespace: "shop".parse().expect("valid"),
            cluster: "east".into(),
            network: network.into(),
            locality: model::Locality::default(),
            labels: [("app".to_owned(), "bank".to_owned()), ("disk".to_owned(), "fast".to_owned())].into(),
            service_account: "vm".into(),
            interception: Interception::None,
            own_ports: Vec::new(),
            software: xds::Software::Isthmus,
            version: String::new(),
            auto_register_group: "vms".into(),
            probes: false,
        }
    }

    #[test]
    fn names_are_istios() {
        assert_eq!(name(&node("10.0.0.1", "")).as_deref(), Some("vms-10.0.0.1"));
        assert_eq!(name(&node("fd00::1", "net")).as_deref(), Some("vms-fd00--1-net"));
        assert_eq!(name(&Node { auto_register_group: String::new(), ..node("10.0.0.1", "") }), None);
        let long = Node { auto_register_group: "g".repeat(300), ..node("10.0.0.1", "") };
        assert_eq!(name(&long).map(|name| name.len()), Some(253));
    }

    #[test]
    fn a_member_does_not_change_the_groups_labels() {
        let text = "apiVersion: networking.istio.io/v1\nkind: WorkloadGroup\nmetadata: {name: vms, namespace: shop}\n\
                    spec: {metadata: {labels: {app: vm}}, template: {serviceAccount: vm, weight: 3, locality: eu/a}}\n";
        let documents = resource::parse("a.yaml", text).expect("valid").documents;
        let group = group(&documents, &"shop".parse().expect("valid"), "vms").expect("known");
        let workload = workload(&node("10.0.0.1", ""), group, "n".into(), "c");
        assert_eq!((workload.labels["app"].as_str(), workload.labels["disk"].as_str()), ("vm", "fast"));
        assert_eq!((workload.weight, workload.locality.to_string().as_str()), (3, "eu/a"));
        assert_eq!(workload.health, WorkloadHealth::Unchecked);
    }
}
