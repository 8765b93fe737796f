//! Sidecar: which listeners a workload's proxy has, and which services it knows.

use crate::{ConnectionPool, Destination, EgressHost, Selector, ServerTls, ServerTlsMode, labels, server_tls};
use model::{Namespace, Protocol};
use resource::{Document, Field, Fields, Node, ResourceError, Source};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// One Sidecar resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecar {
    /// Its namespace: the workloads it is for are there, or anywhere if this is the root namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: String,
    /// The workloads it is for; all of the namespace if absent.
    pub workload_selector: Option<Selector>,
    /// The listeners for requests to the workload; none means: as the workload's services say.
    pub ingress: Vec<IngressListener>,
    /// The listeners for requests from the workload; none means: all services, as their ports say.
    pub egress: Vec<EgressListener>,
    /// What happens to requests to destinations that nobody declared; absent means the mesh's default.
    pub outbound_policy: Option<OutboundPolicy>,
    /// Where they go if they are passed through: a service; where they were going if absent.
    pub egress_proxy: Option<Destination>,
    /// The limits of requests to the workload, for listeners that have none of their own.
    pub inbound_pool: Option<ConnectionPool>,
}

/// A listener for requests to the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngressListener {
    /// The port to listen on.
    pub port: u16,
    /// The port's name; may be empty.
    pub name: String,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// The address to bind; all of the workload's if absent.
    pub bind: Option<IpAddr>,
    /// How requests come to be here.
    pub capture: CaptureMode,
    /// Where the application listens.
    pub default_endpoint: DefaultEndpoint,
    /// TLS of callers outside of the mesh, which ends here; `protocol` is what it carries.
    pub tls: Option<ServerTls>,
    /// Its limits.
    pub pool: Option<ConnectionPool>,
}

/// Where the application listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultEndpoint {
    /// On the loopback interface.
    Socket(SocketAddr),
    /// On this port of the workload's own address (`0.0.0.0:PORT`, `[::]:PORT`, or nothing written).
    Own(u16),
    /// On a Unix socket.
    Unix(PathBuf),
}

/// A listener for requests from the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressListener {
    /// The port to listen on; absent for the one listener that takes all the services' own ports.
    pub port: Option<u16>,
    /// The port's name; may be empty.
    pub name: String,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// The address to bind; as the proxy sees fit if absent.
    pub bind: Option<IpAddr>,
    /// How requests come to be here.
    pub capture: CaptureMode,
    /// The services behind it.
    pub hosts: Vec<EgressHost>,
}

/// How requests come to a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CaptureMode {
    /// As the proxy was started.
    #[default]
    Default,
    /// Redirected by the kernel.
    Iptables,
    /// The application asks the listener itself: it is bound.
    None,
}

/// What happens to requests to destinations that nobody declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboundPolicy {
    /// They are passed through.
    AllowAny,
    /// They are refused.
    RegistryOnly,
}

const FIELDS: &[&str] = &["workloadSelector", "ingress", "egress", "inboundConnectionPool", "outboundTrafficPolicy"];
const INGRESS: &[&str] = &["port", "bind", "captureMode", "defaultEndpoint", "tls", "connectionPool"];
const EGRESS: &[&str] = &["port", "bind", "captureMode", "hosts"];
const PORT: &[&str] = &["number", "name", "protocol", "targetPort"];

/// The Sidecar that `document` holds in its raw `spec`.
pub(crate) fn read(document: &Document, spec: &Node, source: &mut Source) -> Result<Sidecar, ResourceError> {
    let fields = Field::new(&document.position.file, "spec", spec).fields(FIELDS)?;
    let (outbound_policy, egress_proxy) = outbound_policy(&fields.get("outboundTrafficPolicy"), document)?;
    Ok(Sidecar {
        namespace: document.metadata.namespace.clone(),
        name: document.metadata.name.clone(),
        workload_selector: selector(&fields.get("workloadSelector"))?,
        ingress: ingress(&fields.get("ingress"), source)?,
        egress: egress(&fields.get("egress"))?,
        outbound_policy,
        egress_proxy,
        inbound_pool: ConnectionPool::read(&fields.get("inboundConnectionPool"))?,
    })
}

fn selector(at: &Field<'_>) -> Result<Option<Selector>, ResourceError> {
    let labels = labels(&at.fields(&["labels"])?.get("labels"))?;
    Ok(Some(labels).filter(|labels| !labels.is_empty()))
}

fn ingress(at: &Field<'_>, source: &mut Source) -> Result<Vec<IngressListener>, ResourceError> {
    let mut listeners: Vec<IngressListener> = Vec::new();
    for item in at.items()? {
        let fields = item.fields(INGRESS)?;
        let listener = ingress_listener(&fields, source)?;
        if listeners.iter().any(|other| other.port == listener.port) {
            let number = fields.get("port").fields(PORT)?.get("number");
            return Err(number.refuse("each port number once among the ingress listeners"));
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

fn ingress_listener(fields: &Fields<'_>, source: &mut Source) -> Result<IngressListener, ResourceError> {
    let (number, name, protocol) = port(&fields.get("port"))?;
    let tls = ingress_tls(fields, protocol, source)?;
    let protocol = match &tls {
        Some(_) if is_https(fields)? => Protocol::Http,
        Some(_) => Protocol::Tcp,
        None => protocol,
    };
    let number = number.ok_or_else(|| fields.get("port").refuse("a port with a number, 1 to 65535"))?;
    Ok(IngressListener {
        port: number,
        name,
        protocol,
        bind: bind(&fields.get("bind"))?,
        capture: capture(&fields.get("captureMode"))?,
        default_endpoint: default_endpoint(&fields.get("defaultEndpoint"), number)?,
        tls,
        pool: ConnectionPool::read(&fields.get("connectionPool"))?,
    })
}

/// Istio's rules: a port of HTTPS or TLS, and no modes or redirections that are a gateway's.
fn ingress_tls(
    fields: &Fields<'_>,
    protocol: Protocol,
    source: &mut Source,
) -> Result<Option<ServerTls>, ResourceError> {
    let at = fields.get("tls");
    let Some(tls) = ServerTls::read(&at, source)? else { return Ok(None) };
    let inside = at.fields(server_tls::FIELDS)?;
    if protocol != Protocol::Tls {
        return Err(at.refuse("nothing on a port whose protocol is neither HTTPS nor TLS"));
    }
    if !matches!(tls.mode, ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual) {
        return Err(inside.get("mode").refuse("SIMPLE, MUTUAL or OPTIONAL_MUTUAL"));
    }
    if tls.redirects {
        return Err(inside.get("httpsRedirect").refuse("false: a port takes TLS or it does not"));
    }
    Ok(Some(tls))
}

fn is_https(fields: &Fields<'_>) -> Result<bool, ResourceError> {
    let protocol = fields.get("port").fields(PORT)?.get("protocol");
    Ok(protocol.text()?.is_some_and(|text| text.eq_ignore_ascii_case("HTTPS")))
}

fn egress(at: &Field<'_>) -> Result<Vec<EgressListener>, ResourceError> {
    let mut listeners: Vec<EgressListener> = Vec::new();
    for item in at.items()? {
        let fields = item.fields(EGRESS)?;
        let listener = egress_listener(&fields)?;
        if listeners.last().is_some_and(|last| last.port.is_none()) {
            return Err(item.refuse("at most one egress listener without a port, and it last"));
        }
        if listeners.iter().any(|other| (other.bind, other.port) == (listener.bind, listener.port)) {
            return Err(fields.get("port").refuse("each combination of bind and port once among the egress listeners"));
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

fn egress_listener(fields: &Fields<'_>) -> Result<EgressListener, ResourceError> {
    let (port, name, protocol) = port(&fields.get("port"))?;
    let at = fields.get("bind");
    let bind = bind(&at)?;
    if bind.is_some() && port.is_none() {
        return Err(at.refuse("an address together with a port"));
    }
    let at = fields.get("hosts");
    let hosts = at.items()?.iter().map(Field::required).collect::<Result<Vec<EgressHost>, _>>()?;
    if hosts.is_empty() {
        return Err(at.refuse("one host or more, each NAMESPACE/HOST, e.g. \"./*\""));
    }
    Ok(EgressListener { port, name, protocol, bind, capture: capture(&fields.get("captureMode"))?, hosts })
}

/// Number, name and protocol; no number only if there is no port at all.
fn port(at: &Field<'_>) -> Result<(Option<u16>, String, Protocol), ResourceError> {
    let fields = at.fields(PORT)?;
    let number = fields.get("number");
    if at.is_present() && !number.is_present() {
        return Err(number.refuse("a port number, 1 to 65535"));
    }
    if fields.get("targetPort").is_present() {
        return Err(fields.get("targetPort").refuse("nothing: the target of a Sidecar's port is its defaultEndpoint"));
    }
    let name = fields.get("name").text()?.unwrap_or_default().to_owned();
    Ok((number.port()?, name, fields.get("protocol").parse()?.unwrap_or(Protocol::Auto)))
}

fn bind(at: &Field<'_>) -> Result<Option<IpAddr>, ResourceError> {
    let parse = |text: &str| text.parse().map_err(|_| at.refuse("an IP address (Unix sockets are not supported)"));
    at.text()?.filter(|text| !text.is_empty()).map(parse).transpose()
}

fn capture(at: &Field<'_>) -> Result<CaptureMode, ResourceError> {
    match at.text()? {
        None | Some("DEFAULT") => Ok(CaptureMode::Default),
        Some("IPTABLES") => Ok(CaptureMode::Iptables),
        Some("NONE") => Ok(CaptureMode::None),
        Some(_) => Err(at.refuse("DEFAULT, IPTABLES or NONE")),
    }
}

fn default_endpoint(at: &Field<'_>, port: u16) -> Result<DefaultEndpoint, ResourceError> {
    let refuse =
        || at.refuse("127.0.0.1:PORT, [::1]:PORT, 0.0.0.0:PORT, [::]:PORT or unix:///PATH, PORT being 1 to 65535");
    let Some(text) = at.text()?.filter(|text| !text.is_empty()) else { return Ok(DefaultEndpoint::Own(port)) };
    if let Some(path) = text.strip_prefix("unix://") {
        // Linux takes at most 107 bytes (unix(7)).
        let fits = path.starts_with('/') && path.len() <= 107 && !path.contains('\0');
        return if fits { Ok(DefaultEndpoint::Unix(path.into())) } else { Err(refuse()) };
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(refuse()),
        Ok(address) if address.ip().is_unspecified() => Ok(DefaultEndpoint::Own(address.port())),
        Ok(address) if address.ip().is_loopback() => Ok(DefaultEndpoint::Socket(address)),
        _ => Err(refuse()),
    }
}

fn outbound_policy(
    at: &Field<'_>,
    document: &Document,
) -> Result<(Option<OutboundPolicy>, Option<Destination>), ResourceError> {
    if !at.is_present() {
        return Ok((None, None));
    }
    let fields = at.fields(&["mode", "egressProxy"])?;
    let mode = fields.get("mode");
    let policy = match mode.text()? {
        // Protobuf's first value: what an OutboundTrafficPolicy without a mode says in Istio.
        None | Some("REGISTRY_ONLY") => OutboundPolicy::RegistryOnly,
        Some("ALLOW_ANY") => OutboundPolicy::AllowAny,
        Some(_) => return Err(mode.refuse("REGISTRY_ONLY or ALLOW_ANY")),
    };
    let at = fields.get("egressProxy");
    if !at.is_present() {
        return Ok((Some(policy), None));
    }
    if policy == OutboundPolicy::RegistryOnly {
        return Err(at.refuse("nothing beside REGISTRY_ONLY: what nobody declared is refused"));
    }
    Ok((Some(policy), Some(Destination::read(&at, &document.metadata.namespace)?)))
}
