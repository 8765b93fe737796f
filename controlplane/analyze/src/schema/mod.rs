//! CustomResourceDefinitions: what an API server checks before it takes a resource.
//!
//! ```text
//! crds.yaml ──load──▶ Schemas ──check(document)──▶ structure (structural.rs), then expressions (expression.rs)
//! ```
//! Source: <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>.

mod expression;
mod load;
mod structural;
mod url;

use expression::Language;
use resource::{Field, Limits, Position, ResourceError, Tree, Value, trees};
use std::collections::BTreeMap;
use structural::Schema;

/// The schemas of kinds, by group, kind and version.
#[derive(Debug, Default)]
pub struct Schemas {
    kinds: BTreeMap<(String, String), BTreeMap<String, Schema>>,
}

/// A place where a document does not fit its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaError {
    /// Where.
    pub position: Position,
    /// The field.
    pub path: String,
    /// What is wrong, with the value that stood there.
    pub message: String,
    /// Whether this was found out; false if an expression could not be evaluated here.
    pub is_run: bool,
}

const GROUP: &str = "apiextensions.k8s.io";
const KIND: &str = "CustomResourceDefinition";
/// What every object has, which schemas do not name.
const OBJECT: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];

// === impl Schemas ===

impl Schemas {
    /// Takes in the CRDs of `text`, the content of `file`; other documents are passed over. Returns how many there were.
    ///
    /// # Errors
    /// If the text is no YAML, or a CRD is not as it should be.
    pub fn add(&mut self, file: &str, text: &str, limits: &Limits) -> Result<usize, ResourceError> {
        let language = Language::new();
        let mut count = 0;
        for tree in trees(file, text, limits)? {
            let is_ours = tree.text("apiVersion").is_some_and(|version| version.starts_with(GROUP));
            if !is_ours || tree.text("kind") != Some(KIND) {
                continue;
            }
            let (group, kind) = (named(&tree, "spec.group")?, named(&tree, "spec.names.kind")?);
            let versions = tree.find("spec.versions");
            for (i, version) in crate::index::items(versions).iter().enumerate() {
                let name = named(&tree, &format!("spec.versions[{i}].name"))?;
                if let Some(node) = version.get("schema").and_then(|schema| schema.get("openAPIV3Schema")) {
                    let at = tree.position(&format!("spec.versions[{i}].schema"));
                    let path = format!("spec.versions[{i}].schema.openAPIV3Schema");
                    let schema = load::schema(&Field::new(&at.file, path, node), &language)?;
                    self.kinds.entry((group.clone(), kind.clone())).or_default().insert(name, schema);
                }
            }
            count += 1;
        }
        Ok(count)
    }

    /// Whether there is a schema for `kind` of `group`.
    pub fn knows(&self, group: &str, kind: &str) -> bool {
        self.kinds.contains_key(&(group.to_owned(), kind.to_owned()))
    }

    /// Where `tree` does not fit the schema of its kind and version; a kind without a schema fits.
    pub fn check(&self, tree: &Tree) -> Vec<SchemaError> {
        let (group, version) = tree.text("apiVersion").and_then(|text| text.split_once('/')).unwrap_or_default();
        let kind = tree.text("kind").unwrap_or_default().to_owned();
        let Some(versions) = self.kinds.get(&(group.to_owned(), kind)) else { return Vec::new() };
        let object = tree.object();
        let Some(schema) = versions.get(version) else {
            let known: Vec<&str> = versions.keys().map(String::as_str).collect();
            let message = format!("{version:?} is not accepted: a version of {}", known.join(", "));
            let (position, path) = (tree.position("apiVersion"), "apiVersion".to_owned());
            return vec![SchemaError { position, path, message, is_run: true }];
        };
        let mut errors = Vec::new();
        schema.check_object(&object, &OBJECT, &mut errors);
        errors
    }

    /// Every place that the schemas of `kind` name, without list indices and keys: `spec.ports[].number`.
    pub fn paths(&self, group: &str, kind: &str) -> Vec<String> {
        let mut paths = Vec::new();
        let versions = self.kinds.get(&(group.to_owned(), kind.to_owned()));
        if let Some(schema) = versions.and_then(|versions| versions.values().next()) {
            schema.collect_paths("", &mut paths);
        }
        paths
    }

    /// The names of the members at the place `path`, of the form that [`Schemas::paths`] has.
    pub fn members(&self, group: &str, kind: &str, path: &str) -> Vec<String> {
        let versions = self.kinds.get(&(group.to_owned(), kind.to_owned()));
        let schema = versions.and_then(|versions| versions.values().next());
        let names = schema.and_then(|schema| schema.at(path)).map(|schema| schema.properties.keys().cloned().collect());
        names.unwrap_or_default()
    }

    /// Values for the place `path` (of the form that [`Schemas::paths`] has) which its schema accepts or refuses just
    /// so: what an enumeration, a bound, a length or a pattern separates.
    pub fn edges(&self, group: &str, kind: &str, path: &str) -> Vec<Value> {
        let versions = self.kinds.get(&(group.to_owned(), kind.to_owned()));
        let schema = versions.and_then(|versions| versions.values().next());
        schema.and_then(|schema| schema.at(path)).map(Schema::edges).unwrap_or_default()
    }
}

/// The text at `path` of a CRD.
fn named(tree: &Tree, path: &str) -> Result<String, ResourceError> {
    let text = tree.text(path).map(str::to_owned);
    text.ok_or_else(|| ResourceError {
        position: tree.position(path),
        path: path.to_owned(),
        value: "nothing".to_owned(),
        expected: "a text; a CRD needs it".to_owned(),
    })
}
