//! From a listener's TLS to that of a server: what it shows, and by what clients are verified.

use super::gateway::{Clients, Gateway};
use super::listener::{Listener, ListenerTls};
use super::object::Reference;
use super::{GROUP, Known};
use crate::{Credential, ROOTS_SUFFIX, ServerProtocol, ServerTls, ServerTlsMode, Shown};
use model::Namespace;
use resource::Warning;
use std::collections::BTreeMap;

/// Roots of clients, by the namespace and the name of a secret that nobody can write.
pub(super) type Roots = BTreeMap<(Namespace, String), Credential>;

/// How `listener` takes TLS.
///
/// # Errors
/// If it could not be taken: then the listener is left out, and the warnings say why.
pub(super) fn server_tls(
    gateway: &Gateway,
    listener: &Listener,
    known: &Known,
    roots: &mut Roots,
    warnings: &mut Vec<Warning>,
) -> Result<Option<ServerTls>, ()> {
    let Some(tls) = &listener.tls else { return Ok(None) };
    let mut server = ServerTls { mode: tls.mode, ..ServerTls::default() };
    if matches!(tls.mode, ServerTlsMode::Passthrough | ServerTlsMode::IstioMutual) {
        return Ok(Some(server));
    }
    for reference in &tls.certificates {
        match certificate(gateway, reference, known) {
            Ok(shown) => server.shown.push(shown),
            Err(warning) => warnings.push(warning),
        }
    }
    if server.shown.is_empty() {
        return Err(());
    }
    let own = clients(gateway, listener);
    let pem = match own {
        Some(clients) => roots_of(gateway, &clients.roots, known, warnings),
        None if tls.mode == ServerTlsMode::Simple => return Ok(Some(server)),
        None => roots_beside(tls, known),
    };
    let Some(pem) = pem else {
        let why = "there are no roots to verify clients by: the listener is left out";
        warnings.push(listener.place.unmet("ResolvedRefs", "InvalidCACertificateRef", why));
        return Err(());
    };
    if let Some(clients) = own {
        server.mode = if clients.is_optional { ServerTlsMode::OptionalMutual } else { ServerTlsMode::Mutual };
        if clients.is_optional {
            let why = "AllowInsecureFallback admits clients without a certificate, but not those with a wrong one";
            warnings.push(listener.place.unmet("InsecureFrontendValidationMode", "NotHonoured", why));
        }
    }
    // A slash is in no name of Kubernetes: nobody else can have this one.
    let name = format!("{}/clients:{}", gateway.name, listener.name);
    let credential = Credential { roots: Some(pem), ..Credential::default() };
    roots.insert((gateway.namespace.clone(), name.clone()), credential);
    server.roots_secret = Some(name);
    Ok(Some(server))
}

fn clients<'a>(gateway: &'a Gateway, listener: &Listener) -> Option<&'a Clients> {
    let (general, ports) = &gateway.clients;
    let wanted = ports.get(&listener.port).unwrap_or(general).as_ref();
    wanted.filter(|_| listener.protocol == ServerProtocol::Https)
}

fn certificate(gateway: &Gateway, reference: &Reference, known: &Known) -> Result<Shown, Warning> {
    let unmet = |reason: &str, why: String| reference.place.unmet("ResolvedRefs", reason, why);
    let Reference { group, kind, namespace, name, .. } = reference;
    if !matches!(group.as_str(), "" | "core") || kind != "Secret" {
        return Err(unmet("InvalidCertificateRef", format!("{kind} of {group:?} holds no certificate; a Secret does")));
    }
    permitted(gateway, reference, known)?;
    let credential = known.credentials.get(&(namespace.clone(), name.clone()));
    if credential.is_none_or(|credential| credential.certificate.is_none()) {
        return Err(unmet(
            "InvalidCertificateRef",
            format!("there is no Secret {namespace}/{name} with a certificate"),
        ));
    }
    Ok(if *namespace == gateway.namespace {
        Shown::Secret(name.clone())
    } else {
        Shown::Granted(namespace.clone(), name.clone())
    })
}

fn permitted(gateway: &Gateway, reference: &Reference, known: &Known) -> Result<(), Warning> {
    if known.permits((GROUP, "Gateway", &gateway.namespace), reference) {
        return Ok(());
    }
    let Reference { kind, namespace, name, .. } = reference;
    let why = format!("no ReferenceGrant in {namespace} lets a Gateway of {} name {kind} {name}", gateway.namespace);
    Err(reference.place.unmet("ResolvedRefs", "RefNotPermitted", why))
}

/// All roots that can be had.
fn roots_of(
    gateway: &Gateway,
    references: &[Reference],
    known: &Known,
    warnings: &mut Vec<Warning>,
) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    for reference in references {
        let found = permitted(gateway, reference, known).and_then(|()| {
            let Reference { place, kind, namespace, name, .. } = reference;
            let why = || format!("there is no {kind} {namespace}/{name} with roots under ca.crt");
            let missing = || place.unmet("ResolvedRefs", "InvalidCACertificateRef", why());
            known.roots(reference).ok_or_else(missing)
        });
        match found {
            Ok(pem) => {
                all.extend(pem);
                all.push(b'\n');
            }
            Err(warning) => warnings.push(warning),
        }
    }
    (!all.is_empty()).then_some(all)
}

/// The roots that go with the first certificate, as Istio's own Gateways find them.
fn roots_beside(tls: &ListenerTls, known: &Known) -> Option<Vec<u8>> {
    let Reference { namespace, name, .. } = tls.certificates.first()?;
    let of = |name: String| known.credentials.get(&(namespace.clone(), name))?.roots.clone();
    of(format!("{name}{ROOTS_SUFFIX}")).or_else(|| of(name.clone()))
}
