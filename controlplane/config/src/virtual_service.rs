//! VirtualService: how requests and connections for some hosts are routed.

use crate::{GatewayName, HostPattern, HttpAction, HttpRoute, Named, TcpRoute, TlsRoute, http_route};
use model::{Host, Namespace, Visibility};
use resource::{Document, Field, Fields, Node, Position, ResourceError, Source};

/// One VirtualService resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualService {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub position: Position,
    /// The hosts that it routes; none if others delegate to it.
    pub hosts: Vec<HostPattern>,
    /// The gateways that it is for; at least one.
    pub gateways: Vec<GatewayName>,
    /// Whose workloads it is for.
    pub export_to: Visibility,
    /// The port of its hosts that it is for; all if absent, as where a VirtualService was written.
    pub port: Option<u16>,
    /// Its HTTP routes, of which the first that matches is taken.
    pub http: Vec<HttpRoute>,
    /// Its routes of the applications' own TLS.
    pub tls: Vec<TlsRoute>,
    /// Its routes of other connections.
    pub tcp: Vec<TcpRoute>,
}

const FIELDS: &[&str] = &["hosts", "gateways", "http", "tls", "tcp", "exportTo"];

/// The VirtualService that `document` holds in its raw `spec`.
pub(crate) fn read(document: &Document, spec: &Node, source: &mut Source) -> Result<VirtualService, ResourceError> {
    let at = Field::new(&document.position.file, "spec", spec).require("a VirtualService's fields")?;
    let fields = at.fields(FIELDS)?;
    let namespace = &document.metadata.namespace;
    let gateways = GatewayName::read_all(&fields.get("gateways"), namespace)?;
    let gateways = if gateways.is_empty() { vec![GatewayName::Mesh] } else { gateways };
    let (http, tls, tcp) = (fields.get("http"), fields.get("tls"), fields.get("tcp"));
    let service = VirtualService {
        namespace: namespace.clone(),
        name: document.metadata.name.clone(),
        position: document.position.clone(),
        hosts: http_route::hosts(&fields.get("hosts"), namespace)?,
        gateways,
        export_to: fields.get("exportTo").visibility(namespace)?.unwrap_or_default(),
        port: None,
        http: http.items()?.iter().map(|item| HttpRoute::read(item, namespace, source)).collect::<Result<_, _>>()?,
        tls: tls.items()?.iter().map(|item| TlsRoute::read(item, namespace)).collect::<Result<_, _>>()?,
        tcp: tcp.items()?.iter().map(|item| TcpRoute::read(item, namespace)).collect::<Result<_, _>>()?,
    };
    if service.http.is_empty() && service.tls.is_empty() && service.tcp.is_empty() {
        return Err(at.refuse("http, tls or tcp routes; one at least"));
    }
    let hosts = fields.get("hosts");
    if service.hosts.contains(&HostPattern::Any) && service.gateways.contains(&GatewayName::Mesh) {
        return Err(hosts.refuse("hosts other than '*', which is for gateways only and not for mesh"));
    }
    if service.hosts.is_empty() {
        check_delegate(&service, &fields)?;
    }
    Ok(service)
}

/// Without hosts others delegate to it: then it has HTTP routes only, no gateways, and delegates to nobody.
fn check_delegate(service: &VirtualService, fields: &Fields<'_>) -> Result<(), ResourceError> {
    let (hosts, gateways, http) = (fields.get("hosts"), fields.get("gateways"), fields.get("http"));
    if !service.tls.is_empty() || !service.tcp.is_empty() {
        return Err(hosts.refuse("one host or more"));
    }
    if gateways.is_present() {
        return Err(
            gateways.refuse("nothing in a VirtualService without hosts: those that delegate to it say for whom")
        );
    }
    if service.http.iter().any(|route| matches!(route.action, HttpAction::Delegate { .. })) {
        return Err(http.refuse("no delegate in a VirtualService without hosts: delegation goes one step"));
    }
    Ok(())
}

// === impl VirtualService ===

impl VirtualService {
    /// How closely its hosts name `host`: the length of the best one, an exact name before every wildcard.
    pub fn closeness(&self, host: &Host) -> Option<usize> {
        self.hosts.iter().filter_map(|pattern| pattern.closeness(host)).max()
    }

    /// Whether sidecars follow it.
    pub fn is_for_mesh(&self) -> bool {
        self.gateways.contains(&GatewayName::Mesh)
    }
}

impl Named for VirtualService {
    fn hosts(&self) -> impl Iterator<Item = HostPattern> {
        self.hosts.iter().cloned()
    }

    fn places(&self) -> Visibility {
        self.export_to.clone()
    }
}
