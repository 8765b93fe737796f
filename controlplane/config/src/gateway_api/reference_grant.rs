//! ReferenceGrant: which namespaces may name objects of this one.

use super::object;
use model::Namespace;
use resource::{Document, Field, Node, ResourceError};

/// One grant, for one kind of asking resource and one kind of object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Grant {
    /// Whose objects may be named.
    namespace: Namespace,
    from: (String, String, Namespace),
    to: (String, String, Option<String>),
}

const MOST: usize = 16;

/// The grants that `document` holds in its raw `spec`.
pub(super) fn read(document: &Document, spec: &Node) -> Result<Vec<Grant>, ResourceError> {
    let at = Field::new(&document.position.file, "spec", spec).require("a ReferenceGrant's from and to")?;
    let fields = at.fields(&["from", "to"])?;
    let mut froms = Vec::new();
    for item in list(&fields.get("from"))? {
        let from = item.fields(&["group", "kind", "namespace"])?;
        froms.push((group(&from.get("group"))?, kind(&from.get("kind"))?, from.get("namespace").required()?));
    }
    let mut grants = Vec::new();
    for item in list(&fields.get("to"))? {
        let to = item.fields(&["group", "kind", "name"])?;
        let name = to.get("name");
        let name = if name.is_present() { Some(object::name(&name)?) } else { None };
        let to = (group(&to.get("group"))?, kind(&to.get("kind"))?, name);
        let namespace = &document.metadata.namespace;
        grants.extend(froms.iter().map(|from| Grant {
            namespace: namespace.clone(),
            from: from.clone(),
            to: to.clone(),
        }));
    }
    Ok(grants)
}

fn list<'a>(at: &Field<'a>) -> Result<Vec<Field<'a>>, ResourceError> {
    let items = at.items()?;
    if items.is_empty() || items.len() > MOST {
        return Err(at.refuse(format!("1 to {MOST} entries")));
    }
    Ok(items)
}

/// The group, of which Kubernetes' own is empty, or `core` as users write it.
fn group(at: &Field<'_>) -> Result<String, ResourceError> {
    let text = at.text()?.ok_or_else(|| at.refuse("a group; this field is required, and Kubernetes' own is \"\""))?;
    Ok(if text == "core" { String::new() } else { text.to_owned() })
}

fn kind(at: &Field<'_>) -> Result<String, ResourceError> {
    let text = at.required_text()?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(at.refuse("a kind, such as HTTPRoute, Gateway, Service or Secret"));
    }
    Ok(text.to_owned())
}

// === impl Grant ===

impl Grant {
    /// Whether a resource of (group, kind, namespace) may name this object.
    pub(super) fn allows(&self, from: (&str, &str, &Namespace), to: &object::Reference) -> bool {
        let (group, kind, namespace) = &self.from;
        let (to_group, to_kind, to_name) = &self.to;
        (group.as_str(), kind.as_str(), namespace) == from
            && self.namespace == to.namespace
            && *to_group == to.group
            && *to_kind == to.kind
            && to_name.as_ref().is_none_or(|name| *name == to.name)
    }
}
