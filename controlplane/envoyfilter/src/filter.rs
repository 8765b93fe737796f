//! One EnvoyFilter resource, and which of them are for a proxy.

use crate::patch::Patch;
use model::Namespace;
use resource::{Document, Field, Node as Tree, Position, ResourceError, Source};
use std::collections::BTreeMap;
use xds::Node;

/// One EnvoyFilter resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvoyFilter {
    /// Its namespace: it is for proxies there, or anywhere if this is the root namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub position: Position,
    /// What comes first: the lower.
    pub priority: i32,
    /// The labels that a proxy must bear.
    pub selector: BTreeMap<String, String>,
    /// The Gateways of the Gateway API, one of which a proxy must serve; any proxy if there are none.
    pub gateways: Vec<String>,
    /// What it patches, in the order of the document.
    pub patches: Vec<Patch>,
}

/// The label by which a proxy says which Gateway of the Gateway API it serves.
const GATEWAY_LABEL: &str = "gateway.networking.k8s.io/gateway-name";

// === impl EnvoyFilter ===

impl EnvoyFilter {
    /// The EnvoyFilter that `document` holds in its raw `spec`.
    ///
    /// # Errors
    /// If a field is not known, or its value does not fit.
    pub fn read(document: &Document, spec: &Tree, source: &mut Source) -> Result<Self, ResourceError> {
        let at = Field::new(&document.position.file, "spec", spec).require("an EnvoyFilter's fields")?;
        let fields = at.fields(&["workloadSelector", "targetRefs", "configPatches", "priority"])?;
        let selector = labels(&fields.get("workloadSelector").fields(&["labels"])?.get("labels"))?;
        let targets = fields.get("targetRefs");
        if targets.is_present() && !selector.is_empty() {
            return Err(targets.refuse("nothing beside workloadSelector: they exclude each other"));
        }
        let priority = fields.get("priority");
        let mut patches = Vec::new();
        for item in fields.get("configPatches").items()? {
            patches.extend(Patch::read(&item, source)?);
        }
        Ok(Self {
            namespace: document.metadata.namespace.clone(),
            name: document.metadata.name.clone(),
            position: document.position.clone(),
            priority: if priority.is_present() { crate::json::whole(&priority)? } else { 0 },
            selector,
            gateways: gateways(&targets)?,
            patches,
        })
    }

    fn is_for(&self, node: &Node, root: &str) -> bool {
        let bears = |(key, value): (&String, &String)| node.labels.get(key) == Some(value);
        let serves = || node.labels.get(GATEWAY_LABEL).is_some_and(|served| self.gateways.contains(served));
        let is_here = self.namespace == node.namespace || self.namespace.as_str() == root;
        is_here && self.selector.iter().all(bears) && (self.gateways.is_empty() || serves())
    }
}

/// The patches of `filters` for `node` in their order: by priority, then those of the namespace `root`, then by name.
pub fn selected<'a>(filters: &'a [EnvoyFilter], node: &Node, root: &str) -> Vec<&'a Patch> {
    let mut selected: Vec<&EnvoyFilter> = filters.iter().filter(|filter| filter.is_for(node, root)).collect();
    selected
        .sort_by_key(|filter| (filter.priority, filter.namespace.as_str() != root, &filter.namespace, &filter.name));
    let patches = selected.into_iter().flat_map(|filter| &filter.patches);
    patches.filter(|patch| patch.matches.is_for(node)).collect()
}

/// The labels of a selector, as Kubernetes takes them: no wildcards.
fn labels(at: &Field<'_>) -> Result<BTreeMap<String, String>, ResourceError> {
    for (_, member) in at.members()? {
        if member.text()?.is_some_and(|value| value.len() > 63 || value.contains('*')) {
            return Err(member.refuse("a label's value, at most 63 characters and without '*'"));
        }
    }
    at.texts()
}

fn gateways(at: &Field<'_>) -> Result<Vec<String>, ResourceError> {
    let mut names = Vec::new();
    for item in at.items()? {
        let fields = item.fields(&["group", "kind", "name", "namespace"])?;
        let kind = fields.get("kind");
        let group = fields.get("group").text()?.unwrap_or_default();
        if kind.text()? != Some("Gateway") || group != "gateway.networking.k8s.io" {
            return Err(kind.refuse("Gateway of the group gateway.networking.k8s.io"));
        }
        let (namespace, name) = (fields.get("namespace"), fields.get("name"));
        if namespace.text()?.is_some_and(|namespace| !namespace.is_empty()) {
            return Err(namespace.refuse("nothing: the Gateway is one of the EnvoyFilter's own namespace"));
        }
        let text = name.required_text()?;
        if text.is_empty() || text.len() > 253 {
            return Err(name.refuse("a name of 1 to 253 characters"));
        }
        names.push(text.to_owned());
    }
    Ok(names)
}
