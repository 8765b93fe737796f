//! A Gateway's listener: a port, the hosts that are served there, and whose routes may be attached.

use super::label_selector::LabelSelector;
use super::object::{Reference, choice};
use super::route::{RouteKind, hostname};
use super::{GROUP, Place, object};
use crate::{ServerProtocol, ServerTlsMode};
use model::{Host, Namespace};
use resource::{Field, Fields, ResourceError, Source};

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) place: Place,
    pub(super) name: String,
    /// The hosts that it serves; all if absent.
    pub(super) hostname: Option<Host>,
    pub(super) port: u16,
    pub(super) protocol: ServerProtocol,
    /// What is done with TLS, where the protocol has it.
    pub(super) tls: Option<ListenerTls>,
    /// The namespaces whose routes may be attached.
    pub(super) from: From,
    /// The kinds of routes that may be attached.
    pub(super) kinds: Vec<RouteKind>,
}

/// What is done with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListenerTls {
    /// Where it ends, and whom it admits.
    pub(super) mode: ServerTlsMode,
    /// The secrets of what the listener shows.
    pub(super) certificates: Vec<Reference>,
}

/// The namespaces whose routes may be attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum From {
    All,
    Same,
    None,
    Selector(LabelSelector),
}

const FIELDS: &[&str] = &["name", "hostname", "port", "protocol", "tls", "allowedRoutes"];
/// Istio's option for what its own Gateways can do beyond the Gateway API.
const TERMINATE_MODE: &str = "gateway.istio.io/tls-terminate-mode";

// === impl Listener ===

impl Listener {
    /// The listener at `at`; none, but a warning, if nobody speaks its protocol.
    pub(super) fn read(at: &Field<'_>, own: &Namespace, source: &mut Source) -> Result<Option<Self>, ResourceError> {
        let fields = at.fields(FIELDS)?;
        let (number, host) = (fields.get("port"), fields.get("hostname"));
        let port = number.port()?.ok_or_else(|| number.refuse("a port number, 1 to 65535; this field is required"))?;
        let name = object::name(&fields.get("name"))?;
        let protocol = fields.get("protocol");
        let spoken = match protocol.required_text()? {
            "HTTP" => ServerProtocol::Http,
            "HTTPS" => ServerProtocol::Https,
            "TLS" => ServerProtocol::Tls,
            "TCP" => ServerProtocol::Tcp,
            other => {
                let why = format!(
                    "Accepted is False (UnsupportedProtocol): {other} is not spoken; HTTP, HTTPS, TLS and TCP are"
                );
                source.warn(&protocol, why);
                return Ok(None);
            }
        };
        let text = host.text()?.unwrap_or_default();
        if spoken == ServerProtocol::Tcp && !text.is_empty() {
            return Err(host.refuse("no host name with TCP, which knows none"));
        }
        let tls = tls(&fields.get("tls"), spoken, own, source)?;
        let (from, kinds) = allowed(&fields, spoken, tls.as_ref(), source)?;
        Ok(Some(Self {
            place: Place::of(at),
            name,
            hostname: if text.is_empty() { None } else { Some(hostname(&host)?) },
            port,
            protocol: spoken,
            tls,
            from,
            kinds,
        }))
    }

    /// Whether it looks into requests.
    pub(super) fn is_http(&self) -> bool {
        matches!(self.protocol, ServerProtocol::Http | ServerProtocol::Https)
    }

    /// Whether TLS goes on to the backends.
    pub(super) fn passes_tls(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.mode == ServerTlsMode::Passthrough)
    }
}

fn tls(
    at: &Field<'_>,
    protocol: ServerProtocol,
    own: &Namespace,
    source: &mut Source,
) -> Result<Option<ListenerTls>, ResourceError> {
    let is_secure = matches!(protocol, ServerProtocol::Https | ServerProtocol::Tls);
    match (is_secure, at.is_present()) {
        (false, true) => return Err(at.refuse("no tls with HTTP and TCP")),
        (true, false) => return Err(at.refuse("tls, which HTTPS and TLS need")),
        (false, false) => return Ok(None),
        (true, true) => {}
    }
    let fields = at.fields(&["mode", "certificateRefs", "options"])?;
    let (mode, refs) = (fields.get("mode"), fields.get("certificateRefs"));
    let ends = choice(&mode, &[("Terminate", true), ("Passthrough", false)], true)?;
    if !ends && protocol == ServerProtocol::Https {
        return Err(mode.refuse("Terminate, which HTTPS needs; Passthrough goes with TLS"));
    }
    let items = refs.items()?;
    let certificates =
        items.iter().map(|item| Reference::read(item, own, Some("Secret"))).collect::<Result<Vec<_>, _>>()?;
    let terminated = options(&fields.get("options"), source)?;
    if !ends {
        if !items.is_empty() {
            source.warn(&refs, "without effect: with Passthrough the backends show their own certificates");
        }
        return Ok(Some(ListenerTls { mode: ServerTlsMode::Passthrough, certificates: Vec::new() }));
    }
    if items.is_empty() && terminated != ServerTlsMode::IstioMutual {
        return Err(refs.refuse("a Secret with a certificate, which Terminate needs"));
    }
    Ok(Some(ListenerTls { mode: terminated, certificates }))
}

/// How TLS ends: as Istio's option says, or without asking for a certificate.
fn options(at: &Field<'_>, source: &mut Source) -> Result<ServerTlsMode, ResourceError> {
    let modes = [
        ("SIMPLE", ServerTlsMode::Simple),
        ("MUTUAL", ServerTlsMode::Mutual),
        ("OPTIONAL_MUTUAL", ServerTlsMode::OptionalMutual),
        ("ISTIO_MUTUAL", ServerTlsMode::IstioMutual),
    ];
    let mut mode = ServerTlsMode::Simple;
    for (key, value) in at.members()? {
        if key == TERMINATE_MODE {
            mode = choice(&value, &modes, mode)?;
        } else {
            source.warn(&value, format!("not honoured; the only option is {TERMINATE_MODE}"));
        }
    }
    Ok(mode)
}

fn allowed(
    fields: &Fields<'_>,
    protocol: ServerProtocol,
    tls: Option<&ListenerTls>,
    source: &mut Source,
) -> Result<(From, Vec<RouteKind>), ResourceError> {
    let allowed = fields.get("allowedRoutes").fields(&["namespaces", "kinds"])?;
    let namespaces = allowed.get("namespaces").fields(&["from", "selector"])?;
    let (from, selector) = (namespaces.get("from"), namespaces.get("selector"));
    let from = match from.text()? {
        None | Some("Same") => From::Same,
        Some("All") => From::All,
        Some("None") => From::None,
        Some("Selector") if selector.is_present() => From::Selector(LabelSelector::read(&selector)?),
        Some("Selector") => return Err(selector.refuse("a selector of namespaces by their labels")),
        Some(_) => return Err(from.refuse("Same, All, Selector or None")),
    };
    let possible: &[RouteKind] = match protocol {
        ServerProtocol::Http | ServerProtocol::Https => &[RouteKind::Http, RouteKind::Grpc],
        ServerProtocol::Tls if tls.is_some_and(|tls| tls.mode == ServerTlsMode::Passthrough) => &[RouteKind::Tls],
        ServerProtocol::Tls => &[RouteKind::Tls, RouteKind::Tcp],
        ServerProtocol::Tcp => &[RouteKind::Tcp],
    };
    let listed = allowed.get("kinds").items()?;
    if listed.is_empty() {
        return Ok((from, possible.to_vec()));
    }
    let mut kinds = Vec::new();
    for item in &listed {
        let inside = item.fields(&["group", "kind"])?;
        let (group, kind) = (inside.get("group").text()?.unwrap_or(GROUP), inside.get("kind").required_text()?);
        match RouteKind::named(kind).filter(|kind| group == GROUP && possible.contains(kind)) {
            Some(kind) => kinds.push(kind),
            None => source.warn(
                item,
                format!("ResolvedRefs is False (InvalidRouteKinds): {kind} cannot be attached to a listener of this protocol"),
            ),
        }
    }
    Ok((from, kinds))
}
