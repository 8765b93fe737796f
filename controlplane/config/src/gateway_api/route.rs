//! A route of any kind: whose it is, what it is attached to, for which hosts, and its rules.

use super::http_route::HttpRule;
use super::parent::Parent;
use super::stream_route::StreamRule;
use super::{Place, grpc_route, http_route, stream_route};
use model::{Host, Namespace};
use resource::{Document, Field, Node, ResourceError, Source};
use std::net::IpAddr;

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) kind: RouteKind,
    pub(super) namespace: Namespace,
    pub(super) name: String,
    /// When it was made, if that is known.
    pub(super) created: Option<String>,
    pub(super) place: Place,
    pub(super) parents: Vec<Parent>,
    /// The hosts that it is for; all if empty.
    pub(super) hostnames: Vec<Host>,
    pub(super) rules: Rules,
}

/// The kinds of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RouteKind {
    Http,
    Grpc,
    Tls,
    Tcp,
}

/// The rules of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rules {
    /// About requests.
    Http(Vec<HttpRule>),
    /// About connections.
    Stream(Vec<StreamRule>),
}

const MOST_HOSTNAMES: usize = 16;

/// The route of `kind` that `document` holds in its raw `spec`.
pub(super) fn read(
    kind: RouteKind,
    document: &Document,
    spec: &Node,
    source: &mut Source,
) -> Result<Route, ResourceError> {
    let own = &document.metadata.namespace;
    let at = Field::new(&document.position.file, "spec", spec).require("a route's parentRefs and rules")?;
    let common = ["parentRefs", "useDefaultGateways", "rules", "hostnames"];
    let fields = at.fields(if kind == RouteKind::Tcp { &common[..3] } else { &common })?;
    let default = fields.get("useDefaultGateways");
    if default.text()?.is_some_and(|text| text != "None") {
        source.warn(&default, "not honoured: name the Gateway in parentRefs");
    }
    let parents = fields.get("parentRefs");
    let read = Parent::read_all(&parents, own, source)?;
    if parents.items()?.is_empty() {
        source.warn(&parents, "Accepted is False (NoMatchingParent): a route without parents is never taken");
    }
    let rules = fields.get("rules");
    Ok(Route {
        kind,
        namespace: own.clone(),
        name: document.metadata.name.clone(),
        created: document.metadata.created.clone(),
        place: Place::document(&document.position),
        parents: read,
        hostnames: hostnames(&fields.get("hostnames"))?,
        rules: match kind {
            RouteKind::Http => Rules::Http(http_route::read_all(&rules, own, source)?),
            RouteKind::Grpc => Rules::Http(grpc_route::read_all(&rules, own, source)?),
            RouteKind::Tls | RouteKind::Tcp => Rules::Stream(stream_route::read_all(&rules, own, source)?),
        },
    })
}

fn hostnames(at: &Field<'_>) -> Result<Vec<Host>, ResourceError> {
    let items = at.items()?;
    if items.len() > MOST_HOSTNAMES {
        return Err(at.refuse(format!("at most {MOST_HOSTNAMES} host names")));
    }
    let mut hosts: Vec<Host> = Vec::new();
    for item in &items {
        let host = hostname(item)?;
        if hosts.contains(&host) {
            return Err(item.refuse("each host name once"));
        }
        hosts.push(host);
    }
    Ok(hosts)
}

/// A host name, or a wildcard such as `*.example.com`.
pub(super) fn hostname(at: &Field<'_>) -> Result<Host, ResourceError> {
    let host: Host = at.required()?;
    if host.as_str().parse::<IpAddr>().is_ok() {
        return Err(at.refuse("a host name, or a wildcard such as *.example.com; no IP address"));
    }
    Ok(host)
}

// === impl RouteKind ===

impl RouteKind {
    /// The kind of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Http, Self::Grpc, Self::Tls, Self::Tcp].into_iter().find(|kind| kind.name() == name)
    }

    /// `HTTPRoute` and so on.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
            Self::Tls => "TLSRoute",
            Self::Tcp => "TCPRoute",
        }
    }
}
