//! One resource as it stands in a file: what it is, whose it is, and where.

use crate::{
    ConfigMap, Field, Fields, Limits, Node, Position, ResourceError, Secret, ServiceEntry, Source, Value, Warning,
    WorkloadEntry, WorkloadGroup, config_map, secret, service_entry, tree, workload_entry, workload_group,
};
use model::Namespace;
use std::collections::BTreeMap;

/// A resource, with where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Group and version, e.g. `networking.istio.io/v1`.
    pub api_version: String,
    /// The kind, e.g. `ServiceEntry`.
    pub kind: String,
    /// Whose it is.
    pub metadata: Metadata,
    /// Where it begins.
    pub position: Position,
    /// What it says.
    pub resource: Resource,
}

/// The part of Kubernetes' ObjectMeta that means something to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The name: a DNS subdomain name.
    pub name: String,
    /// The namespace; `default` where none is written.
    pub namespace: Namespace,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The annotations.
    pub annotations: BTreeMap<String, String>,
    /// When it was made, as Kubernetes writes times; absent in most files.
    pub created: Option<String>,
}

/// What a document says.
#[derive(Debug, Clone, PartialEq)]
pub enum Resource {
    /// A service.
    ServiceEntry(ServiceEntry),
    /// One workload of it.
    WorkloadEntry(WorkloadEntry),
    /// The template of many workloads.
    WorkloadGroup(WorkloadGroup),
    /// Certificates and keys.
    Secret(Secret),
    /// Texts, such as roots.
    ConfigMap(ConfigMap),
    /// Any other kind: its `spec` as written, for whoever knows the kind.
    Other(Node),
}

/// A file's documents and what there is to warn about.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parsed {
    /// The documents, in the order of the file.
    pub documents: Vec<Document>,
    /// What is valid, but not honoured.
    pub warnings: Vec<Warning>,
}

const GROUP: &str = "networking.istio.io";
/// The groups whose resources are ours to judge, with their versions.
const JUDGED: [(&str, &[&str]); 3] = [
    (GROUP, &["v1", "v1beta1", "v1alpha3"]),
    ("security.istio.io", &["v1", "v1beta1"]),
    ("gateway.networking.k8s.io", &["v1", "v1beta1", "v1alpha3", "v1alpha2"]),
];
const OBJECT: &[&str] = &["apiVersion", "kind", "metadata", "spec", "status"];
const METADATA: &[&str] = &[
    "name",
    "namespace",
    "labels",
    "annotations",
    "generateName",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "finalizers",
    "ownerReferences",
    "managedFields",
    "selfLink",
];

/// The documents of `text`, the content of `file`, under the default [`Limits`].
/// Any mistake in any document refuses the whole file.
pub fn parse(file: &str, text: &str) -> Result<Parsed, ResourceError> {
    parse_with(file, text, &Limits::default())
}

/// As [`parse`], under these limits.
pub fn parse_with(file: &str, text: &str, limits: &Limits) -> Result<Parsed, ResourceError> {
    let mut parsed = Parsed::default();
    for tree in tree::trees(file, text, limits)? {
        let (document, mut warnings) = tree.read()?;
        parsed.documents.push(document);
        parsed.warnings.append(&mut warnings);
    }
    Ok(parsed)
}

/// The document that `object` is.
pub(crate) fn read(object: &Field<'_>, source: &mut Source) -> Result<Document, ResourceError> {
    let (api_version, kind) = type_of(object)?;
    let (group, version) = api_version.split_once('/').unwrap_or_default();
    let resource_kind = Some(kind).filter(|_| group == GROUP);
    let judged = JUDGED.iter().find(|(known, _)| *known == group);
    if let Some((group, versions)) = judged.filter(|(_, versions)| !versions.contains(&version)) {
        return Err(object.any_field("apiVersion").refuse(format!("{group}/ with one of {}", versions.join(", "))));
    }
    let metadata = metadata(&object.any_field("metadata"), judged.is_some())?;
    let resource = match resource_kind {
        Some("ServiceEntry") => {
            let fields = object.fields(OBJECT)?;
            Resource::ServiceEntry(service_entry::read(&fields, &metadata, source)?)
        }
        Some("WorkloadEntry") => {
            let fields = object.fields(OBJECT)?;
            Resource::WorkloadEntry(workload_entry::document(&fields, &metadata, source)?)
        }
        Some("WorkloadGroup") => {
            let spec = object.fields(OBJECT)?.get("spec").require("a WorkloadGroup's fields")?;
            Resource::WorkloadGroup(workload_group::read(&spec, &metadata.namespace, source)?)
        }
        _ if kind == "Secret" && api_version == "v1" => Resource::Secret(secret::read(object)?),
        _ if kind == "ConfigMap" && api_version == "v1" => Resource::ConfigMap(config_map::read(object)?),
        _ => Resource::Other(other(object, judged.is_some())?),
    };
    if group != GROUP && matches!(kind, "ServiceEntry" | "WorkloadEntry" | "WorkloadGroup" | "Sidecar") {
        source.warn(&object.any_field("apiVersion"), format!("this {kind} is not of {GROUP}: ignored"));
    }
    Ok(Document {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        metadata,
        position: object.position(),
        resource,
    })
}

fn type_of<'a>(object: &Field<'a>) -> Result<(&'a str, &'a str), ResourceError> {
    if !matches!(object.node().map(|node| &node.value), Some(Value::Map(_))) {
        return Err(object.refuse("a resource: a mapping with apiVersion, kind and metadata"));
    }
    let api_version = object.any_field("apiVersion").required_text()?;
    Ok((api_version, object.any_field("kind").required_text()?))
}

/// Another kind's spec. Those of groups that are ours to judge must at least be objects without stray fields.
fn other(object: &Field<'_>, is_ours: bool) -> Result<Node, ResourceError> {
    if is_ours {
        object.fields(OBJECT)?;
    }
    let at = object.position();
    let nothing = Node { line: at.line, column: at.column, value: Value::Null };
    Ok(object.any_field("spec").node().cloned().unwrap_or(nothing))
}

fn metadata(at: &Field<'_>, is_ours: bool) -> Result<Metadata, ResourceError> {
    if !is_ours {
        return Ok(foreign_metadata(at));
    }
    let fields = at.clone().require("a mapping with a name")?.fields(METADATA)?;
    Ok(Metadata {
        name: name(&fields)?,
        namespace: fields.get("namespace").parse()?.unwrap_or_else(default_namespace),
        labels: fields.get("labels").texts()?,
        annotations: fields.get("annotations").texts()?,
        created: fields.get("creationTimestamp").text()?.map(str::to_owned),
    })
}

/// What can be read of the metadata of a kind that is not ours to judge.
fn foreign_metadata(at: &Field<'_>) -> Metadata {
    let text = |name| at.any_field(name).text().ok().flatten();
    Metadata {
        name: text("name").unwrap_or_default().to_owned(),
        namespace: text("namespace").and_then(|text| text.parse().ok()).unwrap_or_else(default_namespace),
        labels: at.any_field("labels").texts().unwrap_or_default(),
        annotations: at.any_field("annotations").texts().unwrap_or_default(),
        created: text("creationTimestamp").map(str::to_owned),
    }
}

fn default_namespace() -> Namespace {
    "default".parse().expect("a label")
}

fn name(fields: &Fields<'_>) -> Result<String, ResourceError> {
    let field = fields.get("name");
    let text = field.required_text()?;
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    let bytes = text.as_bytes();
    if bytes.len() <= 253 && bytes.iter().all(|byte| legal(*byte)) && edge(bytes.first()) && edge(bytes.last()) {
        return Ok(text.to_owned());
    }
    Err(field.refuse("1 to 253 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit"))
}
