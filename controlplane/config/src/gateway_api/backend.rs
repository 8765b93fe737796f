//! Backends: where a route leads.

use super::filter::Filters;
use super::object::Reference;
use super::{GROUP, Known, Place};
use crate::{Destination, HeaderOperations, Split};
use model::Namespace;
use resource::{Field, ResourceError, Source, Warning};

/// An object that a route leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    reference: Reference,
    port: Option<u16>,
}

/// A backend with its share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backend {
    target: Target,
    weight: u32,
    headers: HeaderOperations,
    /// A filter of it that nobody can apply.
    unknown_filter: Option<(Place, String)>,
}

const TARGET: [&str; 5] = ["group", "kind", "namespace", "name", "port"];
const GREATEST_WEIGHT: u32 = 1_000_000;
const MOST: usize = 16;
/// The group and kind by which Istio's users name any host.
const HOSTNAME: (&str, &str) = ("networking.istio.io", "Hostname");
const IMPORT: (&str, &str) = ("multicluster.x-k8s.io", "ServiceImport");

// === impl Backend ===

impl Backend {
    /// The backends of a rule in the namespace `own`; `filters` are the types that one may have.
    pub(super) fn read_all(
        at: &Field<'_>,
        own: &Namespace,
        filters: &[&str],
        source: &mut Source,
    ) -> Result<Vec<Self>, ResourceError> {
        let items = at.items()?;
        if items.len() > MOST {
            return Err(at.refuse(format!("at most {MOST} backends")));
        }
        items.iter().map(|item| Self::read(item, own, filters, source)).collect()
    }

    fn read(at: &Field<'_>, own: &Namespace, types: &[&str], source: &mut Source) -> Result<Self, ResourceError> {
        let more: &[&str] = if types.is_empty() { &["weight"] } else { &["weight", "filters"] };
        let known = [&TARGET[..], more].concat();
        let fields = at.fields(&known)?;
        let weight = fields.get("weight").integer(0..=GREATEST_WEIGHT, "a weight, 0 to 1000000")?.unwrap_or(1);
        let filters = match types {
            [] => Filters::default(),
            types => Filters::read(&fields.get("filters"), own, types, source)?,
        };
        Ok(Self {
            target: Target::read(at, own, &known)?,
            weight,
            unknown_filter: filters.beyond_headers(),
            headers: filters.headers,
        })
    }

    /// The splits of a rule of `kind` in the namespace `own`; none if their weights sum to 0. What cannot be resolved
    /// leads nowhere, and is a warning.
    pub(super) fn splits(
        backends: &[Self],
        kind: &str,
        own: &Namespace,
        known: &Known,
        warnings: &mut Vec<Warning>,
    ) -> Vec<Split> {
        let mut splits = Vec::new();
        for backend in backends {
            let mut destination = match backend.target.resolve(kind, own, known) {
                Ok(destination) => destination,
                Err(warning) => {
                    warnings.push(warning);
                    nowhere()
                }
            };
            if let Some((place, filter)) = &backend.unknown_filter {
                let why = format!("{filter} cannot be applied to one backend: requests to it are answered 500");
                warnings.push(place.unmet("Accepted", "UnsupportedValue", why));
                destination = nowhere();
            }
            splits.push(Split { destination, weight: backend.weight, headers: backend.headers.clone() });
        }
        if splits.iter().all(|split| split.weight == 0) { Vec::new() } else { splits }
    }
}

// === impl Target ===

impl Target {
    /// The object at `at`, of which `known` are the fields.
    pub(super) fn read(at: &Field<'_>, own: &Namespace, known: &[&str]) -> Result<Self, ResourceError> {
        let fields = at.clone().require("a reference with name and port")?.fields(known)?;
        let port = fields.get("port");
        let reference = Reference {
            place: Place::of(at),
            group: fields.get("group").text()?.filter(|group| *group != "core").unwrap_or_default().to_owned(),
            kind: fields.get("kind").text()?.unwrap_or("Service").to_owned(),
            namespace: fields.get("namespace").parse()?.unwrap_or_else(|| own.clone()),
            name: super::object::name(&fields.get("name"))?,
        };
        let target = Self { reference, port: port.port()? };
        if target.is_service() && target.port.is_none() {
            return Err(port.refuse("a port, 1 to 65535, which a service needs"));
        }
        Ok(target)
    }

    fn key(&self) -> (&str, &str) {
        (&self.reference.group, &self.reference.kind)
    }

    fn is_service(&self) -> bool {
        [("", "Service"), IMPORT, HOSTNAME].contains(&self.key())
    }

    /// The destination, as a route of `kind` in the namespace `own` may name it.
    ///
    /// # Errors
    /// The condition of the route that does not hold.
    pub(super) fn resolve(&self, kind: &str, own: &Namespace, known: &Known) -> Result<Destination, Warning> {
        let reference = &self.reference;
        let unmet = |reason: &str, why: String| reference.place.unmet("ResolvedRefs", reason, why);
        let Reference { name, namespace, .. } = reference;
        if self.key() != HOSTNAME && !known.permits((GROUP, kind, own), reference) {
            let why = format!("no ReferenceGrant in {namespace} lets a {kind} of {own} name {} {name}", reference.kind);
            return Err(unmet("RefNotPermitted", why));
        }
        let host = match self.key() {
            ("", "Service") => format!("{name}.{namespace}.svc.cluster.local"),
            // What peers export is known under the cluster's own name, unless somebody declared the other.
            IMPORT => {
                let declared = format!("{name}.{namespace}.svc.clusterset.local");
                let is_declared = declared.parse().is_ok_and(|host| known.is_declared(&host));
                if is_declared { declared } else { format!("{name}.{namespace}.svc.cluster.local") }
            }
            HOSTNAME => name.clone(),
            (group, kind) => {
                let why = format!("{kind} of {group:?} is no backend; Service, ServiceImport and Hostname are");
                return Err(unmet("InvalidKind", why));
            }
        };
        let host = host.parse().map_err(|_| unmet("BackendNotFound", format!("{host} is no host name")))?;
        Ok(Destination { host, subset: None, port: self.port })
    }
}

/// Where nobody is (RFC 2606 keeps the name free for ever).
pub(super) fn nowhere() -> Destination {
    Destination { host: "backend.invalid".parse().expect("a host name"), subset: None, port: Some(1) }
}
