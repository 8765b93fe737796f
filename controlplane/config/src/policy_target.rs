//! Who follows a policy: all proxies of a namespace, workloads by their labels, or what is named.

use crate::intent::bears;
use crate::{Intent, Selector, labels};
use model::{Host, Namespace};
use resource::{Document, Field, Fields, Position, Resource, ResourceError, Warning};
use std::collections::BTreeMap;

/// Who follows a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyTarget {
    /// All proxies of its namespace, or of the mesh if that is the root namespace.
    All,
    /// Those that bear these labels, there.
    Workloads(Selector),
    /// What is named.
    Named(Vec<TargetRef>),
}

/// What is named, in the policy's own namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetRef {
    /// A Gateway of the Gateway API.
    Gateway(String),
    /// All Gateways of a class.
    GatewayClass(String),
    /// A Kubernetes Service: the workloads behind it, at its ports.
    Service(Host),
    /// The same of a ServiceEntry, by its name and with its hosts.
    ServiceEntry(String, Vec<Host>),
}

const MOST: usize = 16;
const KINDS: &str = "Gateway of gateway.networking.k8s.io, GatewayClass of gateway.networking.k8s.io, Service, or \
                     ServiceEntry of networking.istio.io";

// === impl PolicyTarget ===

impl PolicyTarget {
    /// The target that `fields`, those of a policy's spec, say.
    pub(crate) fn read(fields: &Fields<'_>, document: &Document) -> Result<Self, ResourceError> {
        crate::exclusive(fields, &["selector", "targetRef", "targetRefs"])?;
        let own = &document.metadata.namespace;
        let (one, several) = (fields.get("targetRef"), fields.get("targetRefs"));
        if one.is_present() {
            return Ok(Self::Named(vec![TargetRef::read(&one, own)?]));
        }
        let items = several.items()?;
        if items.len() > MOST || (several.is_present() && items.is_empty()) {
            return Err(several.refuse(format!("a list of 1 to {MOST} items")));
        }
        if !items.is_empty() {
            return Ok(Self::Named(items.iter().map(|item| TargetRef::read(item, own)).collect::<Result<_, _>>()?));
        }
        let selector = labels(&fields.get("selector").fields(&["matchLabels"])?.get("matchLabels"))?;
        Ok(if selector.is_empty() { Self::All } else { Self::Workloads(selector) })
    }

    /// Whether proxies in `namespace` that bear `labels` follow a policy of the namespace `own`, `root` being the root
    /// namespace; what is named in it is not looked at.
    pub fn concerns(
        &self,
        own: &Namespace,
        namespace: &Namespace,
        labels: &BTreeMap<String, String>,
        root: &str,
    ) -> bool {
        let is_near = own == namespace || own.as_str() == root;
        match self {
            Self::All => is_near,
            Self::Workloads(wanted) => is_near && bears(labels, wanted),
            Self::Named(_) => false,
        }
    }

    /// Finds the hosts of the ServiceEntries of `namespace` that are named; warns of those that are not there.
    fn find(&mut self, documents: &[Document], namespace: &Namespace, at: &Position) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let Self::Named(named) = self else { return warnings };
        for one in named {
            let TargetRef::ServiceEntry(name, hosts) = one else { continue };
            let found = documents.iter().filter_map(|document| entry_hosts(document, namespace, name));
            *hosts = found.flatten().collect();
            if hosts.is_empty() {
                warnings.push(Warning {
                    position: at.clone(),
                    path: "spec.targetRefs".to_owned(),
                    message: format!("there is no ServiceEntry {name} in {namespace}: the policy holds nowhere"),
                });
            }
        }
        warnings
    }
}

// === impl TargetRef ===

impl TargetRef {
    fn read(at: &Field<'_>, own: &Namespace) -> Result<Self, ResourceError> {
        let fields = at.fields(&["group", "kind", "name", "namespace"])?;
        let elsewhere = fields.get("namespace");
        if elsewhere.text()?.is_some_and(|namespace| !namespace.is_empty()) {
            return Err(elsewhere.refuse("nothing: what is named is in the policy's own namespace"));
        }
        let (kind, name) = (fields.get("kind"), fields.get("name"));
        let group = fields.get("group").text()?.unwrap_or_default();
        let text = name.required_text()?;
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        if text.is_empty() || text.len() > 253 || !text.bytes().all(legal) {
            return Err(name.refuse("a resource's name: a-z, 0-9, '-' and '.'"));
        }
        match (group, kind.required_text()?) {
            ("gateway.networking.k8s.io", "Gateway") => Ok(Self::Gateway(text.to_owned())),
            ("gateway.networking.k8s.io", "GatewayClass") => Ok(Self::GatewayClass(text.to_owned())),
            ("" | "core", "Service") => match format!("{text}.{own}.svc.cluster.local").parse() {
                Ok(host) => Ok(Self::Service(host)),
                Err(_) => Err(name.refuse("a Service's name")),
            },
            ("networking.istio.io", "ServiceEntry") => Ok(Self::ServiceEntry(text.to_owned(), Vec::new())),
            _ => Err(kind.refuse(KINDS)),
        }
    }
}

/// Finds the hosts of the ServiceEntries that policies of `intent` name, among `documents`.
pub(crate) fn find_entries(intent: &mut Intent, documents: &[Document]) {
    let warnings = &mut intent.warnings;
    for policy in &mut intent.authorization_policies {
        warnings.extend(policy.target.find(documents, &policy.namespace, &policy.position));
    }
    for policy in &mut intent.request_authentications {
        warnings.extend(policy.target.find(documents, &policy.namespace, &policy.position));
    }
}

fn entry_hosts(document: &Document, namespace: &Namespace, name: &str) -> Option<Vec<Host>> {
    let is_it = document.metadata.namespace == *namespace && document.metadata.name == name;
    match &document.resource {
        Resource::ServiceEntry(entry) if is_it => Some(entry.hosts.clone()),
        _ => None,
    }
}
