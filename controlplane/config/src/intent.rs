//! Everything the user wants, indexed for the questions that translate asks.

use crate::{Sidecar, sidecar};
use model::Namespace;
use resource::{Document, Resource, ResourceError, Source, Warning};
use std::collections::BTreeMap;

/// The namespace whose resources are for the whole mesh.
pub const ROOT_NAMESPACE: &str = "istio-system";

/// What is wanted: the second of the five values. Replaced whole, never changed in place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Intent {
    /// The Sidecar resources, in the order of the documents.
    pub sidecars: Vec<Sidecar>,
    /// What was written, but is not honoured.
    pub warnings: Vec<Warning>,
}

/// The groups whose kinds steer a mesh: what we do not know of them is worth a warning.
const STEERING: [&str; 7] = [
    "networking.istio.io/",
    "security.istio.io/",
    "telemetry.istio.io/",
    "extensions.istio.io/",
    "install.istio.io/",
    "gateway.networking.k8s.io/",
    "multicluster.x-k8s.io/",
];

// === impl Intent ===

impl Intent {
    /// The intent of `documents`; documents of kinds that are no configuration are passed over.
    /// All that is wrong is returned, not only the first.
    pub fn from_documents(documents: &[Document]) -> Result<Self, Vec<ResourceError>> {
        let mut intent = Self::default();
        let mut errors = Vec::new();
        let mut taken: BTreeMap<(&Namespace, &str), &Document> = BTreeMap::new();
        for document in documents {
            match intent.add(document) {
                Ok(false) => {}
                Ok(true) => {
                    let key = (&document.metadata.namespace, document.metadata.name.as_str());
                    if let Some(first) = taken.insert(key, document) {
                        errors.push(twice(document, first));
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(intent) } else { Err(errors) }
    }

    /// The one Sidecar for a workload of these labels: that which selects it, else its namespace's, else the root
    /// namespace's. Among equals the first wins.
    pub fn sidecar_for(&self, namespace: &Namespace, labels: &BTreeMap<String, String>) -> Option<&Sidecar> {
        let here = || self.sidecars.iter().filter(|sidecar| sidecar.namespace == *namespace);
        let root = || self.sidecars.iter().filter(|sidecar| sidecar.namespace.as_str() == ROOT_NAMESPACE);
        let is_general = |sidecar: &&Sidecar| sidecar.workload_selector.is_none();
        here()
            .find(|sidecar| sidecar.workload_selector.as_ref().is_some_and(|wanted| bears(labels, wanted)))
            .or_else(|| here().find(is_general))
            .or_else(|| root().find(is_general))
    }

    /// Takes in one document; whether it is a Sidecar.
    fn add(&mut self, document: &Document) -> Result<bool, ResourceError> {
        let Resource::Other(spec) = &document.resource else { return Ok(false) };
        if document.api_version.starts_with("networking.istio.io/") && document.kind == "Sidecar" {
            let mut source = Source::new(&document.position.file);
            self.sidecars.push(sidecar::read(document, spec, &mut source)?);
            self.warnings.append(&mut source.warnings);
            return Ok(true);
        }
        if STEERING.iter().any(|group| document.api_version.starts_with(group)) {
            self.warnings.push(unknown(document));
        }
        Ok(false)
    }
}

fn bears(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn twice(document: &Document, first: &Document) -> ResourceError {
    ResourceError {
        position: document.position.clone(),
        path: "metadata.name".to_owned(),
        value: format!("{:?}", document.metadata.name),
        expected: format!("each {} once in a namespace; the other is at {}", document.kind, first.position),
    }
}

fn unknown(document: &Document) -> Warning {
    Warning {
        position: document.position.clone(),
        path: "kind".to_owned(),
        message: format!("{} of {} is not supported yet: ignored", document.kind, document.api_version),
    }
}
