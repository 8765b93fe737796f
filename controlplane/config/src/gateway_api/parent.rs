//! Parents: what a route wants to be attached to.

use super::{GROUP, Place, object};
use model::Namespace;
use resource::{Field, ResourceError, Source};

/// One parent of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) place: Place,
    pub(super) kind: ParentKind,
    pub(super) namespace: Namespace,
    pub(super) name: String,
    /// The listener of a Gateway, or the port's name of a service; all if absent.
    pub(super) section: Option<String>,
    /// The port; all if absent.
    pub(super) port: Option<u16>,
}

/// What kind of parent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParentKind {
    /// A Gateway: for requests from outside.
    Gateway,
    /// A Kubernetes Service: for requests of the mesh to it.
    Service,
    /// The hosts of a ServiceEntry, likewise (Istio's).
    ServiceEntry,
}

const FIELDS: &[&str] = &["group", "kind", "namespace", "name", "sectionName", "port"];
const MOST: usize = 32;

// === impl Parent ===

impl Parent {
    /// The parents of a route in the namespace `own`; those of kinds that nobody serves are a warning.
    pub(super) fn read_all(at: &Field<'_>, own: &Namespace, source: &mut Source) -> Result<Vec<Self>, ResourceError> {
        let items = at.items()?;
        if items.len() > MOST {
            return Err(at.refuse(format!("at most {MOST} parents")));
        }
        let mut parents: Vec<Self> = Vec::new();
        for item in &items {
            let fields = item.fields(FIELDS)?;
            let (group, kind) = (fields.get("group"), fields.get("kind"));
            let name = object::name(&fields.get("name"))?;
            let parent_kind = match (group.text()?.unwrap_or(GROUP), kind.text()?.unwrap_or("Gateway")) {
                (GROUP, "Gateway") => ParentKind::Gateway,
                ("" | "core", "Service") => ParentKind::Service,
                ("networking.istio.io", "ServiceEntry") => ParentKind::ServiceEntry,
                (group, kind) => {
                    source.warn(
                        item,
                        format!("Accepted is False (InvalidKind): {kind} of {group:?} is no parent that is served; Gateway, Service and ServiceEntry are"),
                    );
                    continue;
                }
            };
            let section = fields.get("sectionName");
            let parent = Self {
                place: Place::of(item),
                kind: parent_kind,
                namespace: fields.get("namespace").parse()?.unwrap_or_else(|| own.clone()),
                name,
                section: section.text()?.filter(|text| !text.is_empty()).map(str::to_owned),
                port: fields.get("port").port()?,
            };
            if parents.iter().any(|other| other.is_same(&parent)) {
                return Err(item.refuse("each parent once: another sectionName or port"));
            }
            parents.push(parent);
        }
        Ok(parents)
    }

    fn is_same(&self, other: &Self) -> bool {
        let key = |parent: &Self| {
            (parent.kind, parent.namespace.clone(), parent.name.clone(), parent.section.clone(), parent.port)
        };
        key(self) == key(other)
    }
}
