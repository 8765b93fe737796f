//! Gateway: the listeners of a proxy at the edge.

use super::Place;
use super::listener::Listener;
use super::object::{self, Reference, choice};
use model::Namespace;
use resource::{Document, Field, Node, ResourceError, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// One Gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gateway {
    pub(super) namespace: Namespace,
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) class: String,
    /// Where it wants to listen.
    pub(super) addresses: Vec<IpAddr>,
    /// The listeners whose protocol is spoken.
    pub(super) listeners: Vec<Listener>,
    /// By what clients are verified: for all ports of HTTPS, and what differs for single ones.
    pub(super) clients: (Option<Clients>, BTreeMap<u16, Option<Clients>>),
}

/// By what clients are verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clients {
    /// Where the roots are.
    pub(super) roots: Vec<Reference>,
    /// Whether a client may come without a certificate.
    pub(super) is_optional: bool,
}

const FIELDS: &[&str] = &[
    "gatewayClassName",
    "listeners",
    "addresses",
    "infrastructure",
    "allowedListeners",
    "tls",
    "defaultScope",
    "backendTLS",
];
const MOST_LISTENERS: usize = 64;

/// The Gateway that `document` holds in its raw `spec`.
pub(super) fn read(document: &Document, spec: &Node, source: &mut Source) -> Result<Gateway, ResourceError> {
    let own = &document.metadata.namespace;
    let at = Field::new(&document.position.file, "spec", spec).require("a Gateway's fields")?;
    let fields = at.fields(FIELDS)?;
    let class = object::name(&fields.get("gatewayClassName"))?;
    infrastructure(&fields.get("infrastructure"), own, source)?;
    for name in ["allowedListeners", "backendTLS"] {
        let field = fields.get(name);
        if field.is_present() {
            source.warn(&field, "not honoured");
        }
    }
    let scope = fields.get("defaultScope");
    if choice(&scope, &[("All", true), ("None", false)], false)? {
        source.warn(&scope, "not honoured: routes name the Gateway in parentRefs");
    }
    let clients = clients(&fields.get("tls"), own, source)?;
    Ok(Gateway {
        namespace: own.clone(),
        name: document.metadata.name.clone(),
        place: Place::document(&document.position),
        class,
        addresses: addresses(&fields.get("addresses"), source)?,
        listeners: listeners(&fields.get("listeners"), own, source)?,
        clients,
    })
}

fn listeners(at: &Field<'_>, own: &Namespace, source: &mut Source) -> Result<Vec<Listener>, ResourceError> {
    let items = at.items()?;
    if items.is_empty() || items.len() > MOST_LISTENERS {
        return Err(at.refuse(format!("1 to {MOST_LISTENERS} listeners")));
    }
    let (mut names, mut listeners) = (BTreeSet::new(), Vec::<Listener>::new());
    for item in &items {
        if let Some(name) = item.node().and_then(|node| node.get("name")?.as_text())
            && !names.insert(name)
        {
            return Err(item.refuse(format!("each listener's name once: {name:?} stands twice")));
        }
        let Some(listener) = Listener::read(item, own, source)? else { continue };
        let is_same = |other: &Listener| {
            (other.port, other.protocol, &other.hostname) == (listener.port, listener.protocol, &listener.hostname)
        };
        if listeners.iter().any(is_same) {
            return Err(item.refuse("each port, protocol and hostname once together"));
        }
        let differs = |other: &&Listener| {
            let is_clear = |listener: &Listener| listener.tls.is_none();
            other.port == listener.port
                && (is_clear(other) != is_clear(&listener) || is_clear(other) && other.protocol != listener.protocol)
        };
        if let Some(other) = listeners.iter().find(differs) {
            let why = format!("the listener {} of the same port speaks something else", other.name);
            source.warnings.push(listener.place.unmet("Accepted", "ProtocolConflict", why));
            continue;
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

/// The addresses of the type IPAddress; a proxy that has none of them listens at all of its own.
fn addresses(at: &Field<'_>, source: &mut Source) -> Result<Vec<IpAddr>, ResourceError> {
    let mut addresses = Vec::new();
    for item in at.items()? {
        let fields = item.fields(&["type", "value"])?;
        let (kind, value) = (fields.get("type"), fields.get("value"));
        match (kind.text()?.unwrap_or("IPAddress"), value.text()?) {
            ("IPAddress", Some(text)) => addresses.push(text.parse().map_err(|_| value.refuse("an IP address"))?),
            ("IPAddress", None) => source.warn(&item, "not honoured: nobody here gives out addresses"),
            (other, _) => {
                let why = format!("AddressNotUsable: {other} is not honoured; an IPAddress of the proxy is");
                source.warn(&item, why);
            }
        }
    }
    Ok(addresses)
}

fn infrastructure(at: &Field<'_>, own: &Namespace, source: &mut Source) -> Result<(), ResourceError> {
    let fields = at.fields(&["labels", "annotations", "parametersRef"])?;
    for name in ["labels", "annotations"] {
        fields.get(name).texts()?;
    }
    let parameters = fields.get("parametersRef");
    if parameters.is_present() {
        Reference::read(&parameters, own, None)?;
    }
    if at.is_present() {
        source.warn(at, "not honoured: nothing is deployed for a Gateway");
    }
    Ok(())
}

type ByPort = (Option<Clients>, BTreeMap<u16, Option<Clients>>);

fn clients(at: &Field<'_>, own: &Namespace, source: &mut Source) -> Result<ByPort, ResourceError> {
    let fields = at.fields(&["backend", "frontend"])?;
    let backend = fields.get("backend");
    let shown = backend.fields(&["clientCertificateRef"])?.get("clientCertificateRef");
    if shown.is_present() {
        Reference::read(&shown, own, Some("Secret"))?;
        source.warn(&backend, "not honoured: backends see no certificate, or the mesh's own");
    }
    let frontend = fields.get("frontend");
    let inside = frontend.fields(&["default", "perPort"])?;
    let default = inside.get("default");
    if frontend.is_present() && !default.is_present() {
        return Err(default.refuse("what holds for all ports; this field is required"));
    }
    let general = validation(&default, own)?;
    let mut ports = BTreeMap::new();
    for item in inside.get("perPort").items()? {
        let of = item.fields(&["port", "tls"])?;
        let number = of.get("port");
        let port = number.port()?.ok_or_else(|| number.refuse("a port number, 1 to 65535"))?;
        if ports.insert(port, validation(&of.get("tls"), own)?).is_some() {
            return Err(number.refuse("each port once"));
        }
    }
    Ok((general, ports))
}

fn validation(at: &Field<'_>, own: &Namespace) -> Result<Option<Clients>, ResourceError> {
    let validation = at.fields(&["validation"])?.get("validation");
    if !validation.is_present() {
        return Ok(None);
    }
    let fields = validation.fields(&["caCertificateRefs", "mode"])?;
    let refs = fields.get("caCertificateRefs");
    let roots = refs.items()?.iter().map(|item| Reference::read(item, own, None)).collect::<Result<Vec<_>, _>>()?;
    if roots.is_empty() {
        return Err(refs.refuse("one ConfigMap or more with ca.crt"));
    }
    let modes = [("AllowValidOnly", false), ("AllowInsecureFallback", true)];
    Ok(Some(Clients { roots, is_optional: choice(&fields.get("mode"), &modes, false)? }))
}
