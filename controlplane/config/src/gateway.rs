//! Gateway: which ports a proxy at the edge of the mesh has, and which hosts are served there.

use crate::{EgressHost, GatewayName, HostPattern, NamespacePattern, ServerTls, ServerTlsMode, VirtualService, field};
use model::Namespace;
use resource::{Document, Field, Fields, Node, Position, ResourceError, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// One Gateway resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub position: Position,
    /// The labels of the proxies that serve it, in any namespace; all proxies at the edge if empty.
    pub selector: BTreeMap<String, String>,
    /// Whether only proxies of its own namespace serve it, as a Gateway of the Gateway API has it.
    pub stays_in_namespace: bool,
    /// Its class, if it is of the Gateway API.
    pub class: Option<String>,
    /// Where servers listen that say no address: at those of these that the proxy has, or at all of its own if it has
    /// none of them.
    pub addresses: Vec<IpAddr>,
    /// Its servers.
    pub servers: Vec<Server>,
}

/// A port with the hosts that are served there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name; may be empty.
    pub name: String,
    /// The port.
    pub port: u16,
    /// The port's name.
    pub port_name: String,
    /// What is spoken.
    pub protocol: ServerProtocol,
    /// The address to bind; all if absent.
    pub bind: Option<IpAddr>,
    /// The hosts, and the namespaces of the VirtualServices that may route them.
    pub hosts: Vec<EgressHost>,
    /// What is done with TLS.
    pub tls: Option<ServerTls>,
}

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerProtocol {
    /// HTTP in the clear, of any version.
    Http,
    /// HTTP over TLS.
    Https,
    /// Bytes over TLS.
    Tls,
    /// Bytes, perhaps over TLS.
    Tcp,
}

const FIELDS: &[&str] = &["servers", "selector"];
const SERVER: &[&str] = &["port", "bind", "hosts", "tls", "defaultEndpoint", "name"];
const PORT: &[&str] = &["number", "protocol", "name", "targetPort"];
const PROTOCOLS: &str = "HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, TLS, TCP, MONGO, MYSQL or REDIS";

/// The Gateway that `document` holds in its raw `spec`.
pub(crate) fn read(document: &Document, spec: &Node, source: &mut Source) -> Result<Gateway, ResourceError> {
    let at = Field::new(&document.position.file, "spec", spec).require("a Gateway's fields")?;
    let fields = at.fields(FIELDS)?;
    let namespace = &document.metadata.namespace;
    let servers = fields.get("servers");
    let read = servers.items()?.iter().map(|item| Server::read(item, source)).collect::<Result<Vec<_>, _>>()?;
    if read.is_empty() {
        return Err(servers.refuse("one server or more"));
    }
    let mut names = BTreeSet::new();
    for (server, item) in read.iter().zip(servers.items()?) {
        if !server.name.is_empty() && !names.insert(&server.name) {
            return Err(item.fields(SERVER)?.get("name").refuse("each name once"));
        }
    }
    Ok(Gateway {
        namespace: namespace.clone(),
        name: document.metadata.name.clone(),
        position: document.position.clone(),
        selector: field::labels(&fields.get("selector"))?,
        stays_in_namespace: false,
        class: None,
        addresses: Vec::new(),
        servers: read,
    })
}

// === impl Gateway ===

impl Gateway {
    /// Whether a VirtualService names it.
    pub fn is_named(&self, names: &[GatewayName]) -> bool {
        names.iter().any(|name| match name {
            GatewayName::Mesh => false,
            GatewayName::Named { namespace, name } => *namespace == self.namespace && *name == self.name,
        })
    }
}

// === impl Server ===

impl Server {
    fn read(at: &Field<'_>, source: &mut Source) -> Result<Self, ResourceError> {
        let fields = at.fields(SERVER)?;
        let port = fields.get("port").require("a port with number, protocol and name")?.fields(PORT)?;
        let number = port.get("number");
        // Checked, as all that is written.
        port.get("targetPort").port()?;
        fields.get("defaultEndpoint").text()?;
        for unused in [&fields.get("defaultEndpoint"), &port.get("targetPort")] {
            if unused.is_present() {
                source.warn(unused, "not honoured, as in Istio");
            }
        }
        let server = Self {
            name: fields.get("name").text()?.unwrap_or_default().to_owned(),
            port: number.port()?.ok_or_else(|| number.refuse("a port number, 1 to 65535"))?,
            port_name: port_name(&port)?,
            protocol: protocol(&port.get("protocol"))?,
            bind: bind(&fields.get("bind"))?,
            hosts: hosts(&fields.get("hosts"))?,
            tls: ServerTls::read(&fields.get("tls"), source)?,
        };
        server.check(&fields, source)?;
        Ok(server)
    }

    fn check(&self, fields: &Fields<'_>, source: &mut Source) -> Result<(), ResourceError> {
        let tls = fields.get("tls");
        match (self.protocol, &self.tls) {
            (ServerProtocol::Https | ServerProtocol::Tls, None) => Err(tls.refuse("tls, which HTTPS and TLS need")),
            (ServerProtocol::Http, Some(settings)) if !settings.redirects => {
                source.warn(&tls, "without effect on a port of HTTP, but for httpsRedirect");
                Ok(())
            }
            (ServerProtocol::Https | ServerProtocol::Tls | ServerProtocol::Tcp, Some(settings))
                if settings.redirects =>
            {
                Err(tls.refuse("httpsRedirect on a server of HTTP only"))
            }
            _ => Ok(()),
        }
    }

    /// Whether it is HTTP without TLS.
    pub fn is_clear_http(&self) -> bool {
        self.protocol == ServerProtocol::Http
    }

    /// Whether requests are looked into.
    pub fn is_http(&self) -> bool {
        match self.protocol {
            ServerProtocol::Http => true,
            ServerProtocol::Https => self.tls.as_ref().is_some_and(ServerTls::ends_here),
            ServerProtocol::Tls | ServerProtocol::Tcp => false,
        }
    }

    /// Whether TLS is passed on as it is, by the mesh's own server names.
    pub fn is_east_west(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.mode == ServerTlsMode::AutoPassthrough)
    }

    /// The hosts by which `service`, which routes for a gateway in `own`, is reached here: of its hosts and the
    /// server's, where they overlap, the narrower.
    pub fn shared_hosts(&self, service: &VirtualService, own: &Namespace) -> Vec<HostPattern> {
        let mut shared: Vec<HostPattern> = Vec::new();
        for served in self.hosts.iter().filter(|served| served.namespace.includes(&service.namespace, own)) {
            for routed in &service.hosts {
                let narrower = served.host.narrower(routed);
                shared.extend(narrower.filter(|host| !shared.contains(host)).cloned());
            }
        }
        shared
    }
}

fn port_name(port: &Fields<'_>) -> Result<String, ResourceError> {
    let at = port.get("name");
    match at.text()? {
        Some("") | None => Err(at.refuse("a name for the port")),
        Some(name) => Ok(name.to_owned()),
    }
}

fn protocol(at: &Field<'_>) -> Result<ServerProtocol, ResourceError> {
    let text = at.text()?.ok_or_else(|| at.refuse(PROTOCOLS))?;
    Ok(match text.to_ascii_uppercase().as_str() {
        "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" | "HTTP_PROXY" => ServerProtocol::Http,
        "HTTPS" => ServerProtocol::Https,
        "TLS" => ServerProtocol::Tls,
        "TCP" | "MONGO" | "MYSQL" | "REDIS" => ServerProtocol::Tcp,
        _ => return Err(at.refuse(PROTOCOLS)),
    })
}

fn bind(at: &Field<'_>) -> Result<Option<IpAddr>, ResourceError> {
    match at.text()? {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| at.refuse("an IP address")),
    }
}

/// `HOST`, `NAMESPACE/HOST`, `./HOST` and `*/HOST`; at least one.
fn hosts(at: &Field<'_>) -> Result<Vec<EgressHost>, ResourceError> {
    const EXPECTED: &str = "HOST or NAMESPACE/HOST, where the host is a full name, '*.DOMAIN' or '*', and the namespace \
                            a name, '*' or '.'";
    let mut hosts = Vec::new();
    for item in at.items()? {
        let text = item.required_text()?;
        let whole = if text.contains('/') { text.to_owned() } else { format!("*/{text}") };
        let host: EgressHost = whole.parse().map_err(|_| item.refuse(EXPECTED))?;
        let is_short = matches!(&host.host, HostPattern::Host(host) if !host.as_str().contains('.'));
        if host.namespace == NamespacePattern::None || is_short {
            return Err(item.refuse(EXPECTED));
        }
        hosts.push(host);
    }
    if hosts.is_empty() { Err(at.refuse("one host or more")) } else { Ok(hosts) }
}
