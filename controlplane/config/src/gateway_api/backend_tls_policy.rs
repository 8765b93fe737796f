//! BackendTLSPolicy: TLS towards services, and by what they are verified.

use super::object::{self, Reference};
use super::{Known, Place};
use crate::{BackendTls, ClientTls};
use model::{Host, Namespace};
use resource::{Document, Field, Node, ResourceError, Source, Warning};
use std::net::IpAddr;

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BackendTlsPolicy {
    namespace: Namespace,
    name: String,
    created: Option<String>,
    place: Place,
    targets: Vec<PolicyTarget>,
    /// The server name that is sent.
    hostname: String,
    /// The names of which the server must show one.
    names: Vec<String>,
    /// Where the roots are; those of the system if there are none.
    roots: Vec<Reference>,
}

/// A service that a policy is for, or one of its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PolicyTarget {
    place: Place,
    host: Host,
    port: Option<String>,
}

const FIELDS: &[&str] = &["targetRefs", "validation", "options"];
const VALIDATION: &[&str] = &["caCertificateRefs", "wellKnownCACertificates", "hostname", "subjectAltNames"];
const MOST_TARGETS: usize = 16;
const MOST_ROOTS: usize = 8;
const MOST_NAMES: usize = 5;
/// A name that nobody can show (RFC 2606): what cannot be verified is not spoken to.
const NOBODY: &str = "backend.invalid";

/// The policy that `document` holds in its raw `spec`.
pub(super) fn read(document: &Document, spec: &Node, source: &mut Source) -> Result<BackendTlsPolicy, ResourceError> {
    let own = &document.metadata.namespace;
    let at = Field::new(&document.position.file, "spec", spec).require("a policy's targetRefs and validation")?;
    let fields = at.fields(FIELDS)?;
    let options = fields.get("options");
    options.texts()?;
    if options.is_present() {
        source.warn(&options, "not honoured: no option is known");
    }
    let validation = fields.get("validation").require("by what services are verified; this field is required")?;
    let inside = validation.fields(VALIDATION)?;
    let hostname = hostname(&inside.get("hostname"))?;
    let names = names(&inside.get("subjectAltNames"))?;
    Ok(BackendTlsPolicy {
        namespace: own.clone(),
        name: document.metadata.name.clone(),
        created: document.metadata.created.clone(),
        place: Place::document(&document.position),
        targets: targets(&fields.get("targetRefs"), own, source)?,
        names: if names.is_empty() { vec![hostname.clone()] } else { names },
        hostname,
        roots: roots(&validation, own)?,
    })
}

fn targets(at: &Field<'_>, own: &Namespace, source: &mut Source) -> Result<Vec<PolicyTarget>, ResourceError> {
    let items = at.items()?;
    if items.is_empty() || items.len() > MOST_TARGETS {
        return Err(at.refuse(format!("1 to {MOST_TARGETS} services")));
    }
    let mut targets: Vec<PolicyTarget> = Vec::new();
    for item in &items {
        let fields = item.fields(&["group", "kind", "name", "sectionName"])?;
        let (group, kind) = (fields.get("group").text()?.unwrap_or_default(), fields.get("kind").required_text()?);
        let name = object::name(&fields.get("name"))?;
        let host = match (group, kind) {
            ("" | "core", "Service") | ("multicluster.x-k8s.io", "ServiceImport") => {
                format!("{name}.{own}.svc.cluster.local")
            }
            ("networking.istio.io", "Hostname") => name,
            _ => {
                let why = format!("{kind} of {group:?} is no target; Service, ServiceImport and Hostname are");
                source.warn(item, format!("Accepted is False (TargetNotFound): {why}"));
                continue;
            }
        };
        let port = fields.get("sectionName");
        let target = PolicyTarget {
            place: Place::of(item),
            host: host.parse().map_err(|_| fields.get("name").refuse("the name of a service"))?,
            port: port.text()?.filter(|text| !text.is_empty()).map(str::to_owned),
        };
        if targets.iter().any(|other| (&other.host, &other.port) == (&target.host, &target.port)) {
            return Err(item.refuse("each target once: another sectionName"));
        }
        targets.push(target);
    }
    Ok(targets)
}

fn hostname(at: &Field<'_>) -> Result<String, ResourceError> {
    let host: Host = at.required()?;
    if host.is_wildcard() || host.as_str().parse::<IpAddr>().is_ok() {
        return Err(at.refuse("a host name without '*', no IP address"));
    }
    Ok(host.to_string())
}

fn names(at: &Field<'_>) -> Result<Vec<String>, ResourceError> {
    let items = at.items()?;
    if items.len() > MOST_NAMES {
        return Err(at.refuse(format!("at most {MOST_NAMES} names")));
    }
    let mut names = Vec::new();
    for item in &items {
        let fields = item.fields(&["type", "hostname", "uri"])?;
        let (host, uri) = (fields.get("hostname"), fields.get("uri"));
        let is_host = object::chosen(&fields.get("type"), &[("Hostname", true), ("URI", false)])?;
        let other = if is_host { &uri } else { &host };
        if other.is_present() {
            return Err(other.refuse("nothing here: the type is another"));
        }
        if is_host {
            names.push(host.required::<Host>()?.to_string());
        } else {
            let text = uri.required_text()?;
            if !text.contains("://") || text.len() > 253 {
                return Err(uri.refuse("a URI such as spiffe://east.example/ns/shop/sa/web"));
            }
            names.push(text.to_owned());
        }
    }
    Ok(names)
}

/// The references to roots; none means the system's. One of the two must be said, and not both.
fn roots(at: &Field<'_>, own: &Namespace) -> Result<Vec<Reference>, ResourceError> {
    let fields = at.fields(VALIDATION)?;
    let (refs, well_known) = (fields.get("caCertificateRefs"), fields.get("wellKnownCACertificates"));
    let system = object::choice(&well_known, &[("System", true)], false)?;
    let items = refs.items()?;
    match (items.len(), system) {
        (0, false) => return Err(at.refuse("caCertificateRefs or wellKnownCACertificates: System")),
        (1.., true) => return Err(well_known.refuse("nothing beside caCertificateRefs")),
        (count, _) if count > MOST_ROOTS => return Err(refs.refuse(format!("at most {MOST_ROOTS} references"))),
        _ => {}
    }
    let mut references = Vec::new();
    for item in &items {
        // Roots are those of the policy's own namespace.
        item.fields(&["group", "kind", "name"])?;
        references.push(Reference::read(item, own, None)?);
    }
    Ok(references)
}

/// What all policies come to, the oldest first, which has its target alone.
pub(super) fn backend_tls(
    policies: &[BackendTlsPolicy],
    known: &Known,
    warnings: &mut Vec<Warning>,
) -> Vec<BackendTls> {
    let mut sorted: Vec<&BackendTlsPolicy> = policies.iter().collect();
    sorted.sort_by_key(|policy| {
        (policy.created.is_none(), policy.created.clone(), policy.namespace.clone(), policy.name.clone())
    });
    let mut all: Vec<BackendTls> = Vec::new();
    for policy in sorted {
        let tls = policy.client_tls(known, warnings);
        for target in &policy.targets {
            if all.iter().any(|other| (&other.host, &other.port) == (&target.host, &target.port)) {
                let why = format!("another policy is for {} already", target.host);
                warnings.push(target.place.unmet("Accepted", "Conflicted", why));
                continue;
            }
            all.push(BackendTls { host: target.host.clone(), port: target.port.clone(), tls: tls.clone() });
        }
    }
    all
}

// === impl BackendTlsPolicy ===

impl BackendTlsPolicy {
    /// Where no roots can be had, the service is not spoken to at all.
    fn client_tls(&self, known: &Known, warnings: &mut Vec<Warning>) -> ClientTls {
        let (mut pem, mut is_missing) = (String::new(), false);
        for reference in &self.roots {
            if let Some(roots) = known.roots(reference).and_then(|roots| String::from_utf8(roots).ok()) {
                pem.push_str(&roots);
                pem.push('\n');
            } else {
                is_missing = true;
                let Reference { place, kind, namespace, name, .. } = reference;
                let why = format!("there is no {kind} {namespace}/{name} with roots under ca.crt");
                warnings.push(place.unmet("ResolvedRefs", "InvalidCACertificateRef", why));
            }
        }
        let is_unverifiable = is_missing && pem.is_empty();
        if is_unverifiable {
            let why = "there are no roots: requests to the services are answered 503";
            warnings.push(self.place.unmet("Accepted", "NoValidCACertificate", why));
        }
        ClientTls {
            subject_alt_names: if is_unverifiable { vec![NOBODY.to_owned()] } else { self.names.clone() },
            roots: Some(pem).filter(|pem| !pem.is_empty()),
            ..ClientTls::simple(self.hostname.clone())
        }
    }
}
