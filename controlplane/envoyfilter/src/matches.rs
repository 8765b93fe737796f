//! What a patch is for: which proxies, and which of the things that they are told.

use regex::Regex;
use resource::{Field, Fields, ResourceError, Source};
use std::collections::BTreeMap;
use xds::{Node, NodeKind};

/// Whose traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Context {
    /// Any.
    #[default]
    Any,
    /// To a sidecar's workload.
    Inbound,
    /// From a sidecar's workload.
    Outbound,
    /// Through a gateway.
    Gateway,
    /// Through a waypoint, of which there are none here.
    Waypoint,
}

/// All that a patch may ask for. What is not said is any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Match {
    pub(crate) context: Context,
    pub(crate) version: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) listener: ListenerMatch,
    pub(crate) routes: RoutesMatch,
    pub(crate) cluster: ClusterMatch,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ListenerMatch {
    pub(crate) name: Option<String>,
    pub(crate) port: Option<u32>,
    pub(crate) listener_filter: Option<String>,
    pub(crate) chain: ChainMatch,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ChainMatch {
    pub(crate) name: Option<String>,
    pub(crate) sni: Option<String>,
    pub(crate) transport: Option<String>,
    pub(crate) protocols: Vec<String>,
    pub(crate) port: Option<u32>,
    pub(crate) filter: Option<String>,
    pub(crate) http_filter: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RoutesMatch {
    pub(crate) name: Option<String>,
    pub(crate) port: Option<u32>,
    pub(crate) gateway: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) domain: Option<String>,
    pub(crate) route: Option<String>,
    pub(crate) action: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ClusterMatch {
    pub(crate) name: Option<String>,
    pub(crate) service: Option<String>,
    pub(crate) port: Option<u32>,
    pub(crate) subset: Option<String>,
}

const CONTEXTS: [(&str, Context); 5] = [
    ("ANY", Context::Any),
    ("SIDECAR_INBOUND", Context::Inbound),
    ("SIDECAR_OUTBOUND", Context::Outbound),
    ("GATEWAY", Context::Gateway),
    ("WAYPOINT", Context::Waypoint),
];
/// Envoy's names of a route's actions.
const ACTIONS: [(&str, Option<&str>); 4] = [
    ("ANY", None),
    ("ROUTE", Some("route")),
    ("REDIRECT", Some("redirect")),
    ("DIRECT_RESPONSE", Some("direct_response")),
];
const CHAIN: &[&str] =
    &["name", "sni", "transportProtocol", "applicationProtocols", "filter", "destinationPort", "transportSocket"];

/// The word of `words` at `at`; none if there is nothing.
pub(crate) fn word<T: Copy>(at: &Field<'_>, words: &[(&str, T)]) -> Result<Option<T>, ResourceError> {
    let Some(text) = at.text()? else { return Ok(None) };
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    let names = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
    found.map(Some).ok_or_else(|| at.refuse(format!("one of {}", names())))
}

type Said = fn(&Node) -> &str;

/// What is kept of what a node says of itself.
const KEPT: [(&str, Said); 6] = [
    ("CLUSTER_ID", |node| &node.cluster),
    ("NETWORK", |node| &node.network),
    ("NAMESPACE", |node| node.namespace.as_str()),
    ("SERVICE_ACCOUNT", |node| &node.service_account),
    ("INTERCEPTION_MODE", |node| node.interception.as_str()),
    ("ISTIO_VERSION", |node| &node.version),
];

fn some(at: &Field<'_>) -> Result<Option<String>, ResourceError> {
    Ok(at.text()?.filter(|text| !text.is_empty()).map(str::to_owned))
}

fn port(fields: &Fields<'_>, name: &str) -> Result<Option<u32>, ResourceError> {
    Ok(fields.get(name).integer(0..=65_535, "a port number, 1 to 65535")?.filter(|port| *port != 0))
}

// === impl Match ===

impl Match {
    pub(crate) fn read(at: &Field<'_>, source: &mut Source) -> Result<Self, ResourceError> {
        let kinds = ["listener", "routeConfiguration", "cluster", "waypoint"];
        let fields = at.fields(&["context", "proxy", "listener", "routeConfiguration", "cluster", "waypoint"])?;
        let mut present = kinds.iter().filter(|name| fields.get(name).is_present());
        if let (Some(first), Some(second)) = (present.next(), present.next()) {
            return Err(fields.get(second).refuse(format!("nothing beside {first}: they exclude each other")));
        }
        let proxy = fields.get("proxy").fields(&["proxyVersion", "metadata"])?;
        let version = proxy.get("proxyVersion");
        if Regex::new(version.text()?.unwrap_or_default()).is_err() {
            return Err(version.refuse("a regular expression in RE2's syntax"));
        }
        let metadata = proxy.get("metadata");
        for (name, member) in metadata.members()? {
            if KEPT.iter().all(|(kept, _)| *kept != name) {
                let names: Vec<&str> = KEPT.iter().map(|(kept, _)| *kept).collect();
                source
                    .warn(&member, format!("never matches: of a proxy's metadata only {} are kept", names.join(", ")));
            }
        }
        let (at_context, waypoint) = (fields.get("context"), fields.get("waypoint"));
        let context = word(&at_context, &CONTEXTS)?.unwrap_or_default();
        check_waypoint(&waypoint)?;
        if (context == Context::Waypoint) != waypoint.is_present() {
            return Err(at_context.refuse("WAYPOINT with a match of a waypoint, and with nothing else"));
        }
        Ok(Self {
            context,
            version: some(&version)?,
            metadata: metadata.texts()?,
            listener: ListenerMatch::read(&fields.get("listener"), source)?,
            routes: RoutesMatch::read(&fields.get("routeConfiguration"), source)?,
            cluster: ClusterMatch::read(&fields.get("cluster"))?,
        })
    }

    /// Whether it is for the proxy `node` at all.
    pub(crate) fn is_for(&self, node: &Node) -> bool {
        let of_kind = match self.context {
            Context::Any => true,
            Context::Inbound | Context::Outbound => node.kind == NodeKind::Sidecar,
            Context::Gateway => node.kind == NodeKind::Router,
            Context::Waypoint => false,
        };
        let fits = |version: &String| Regex::new(version).is_ok_and(|wanted| wanted.is_match(&node.version));
        let says = |(key, wanted): (&String, &String)| said(node, key).is_some_and(|said| said == wanted);
        of_kind && self.version.as_ref().is_none_or(fits) && self.metadata.iter().all(says)
    }

    /// Whether it is for what is used in `context`.
    pub(crate) fn is_in(&self, context: Context) -> bool {
        self.context == Context::Any || self.context == context
    }
}

/// A waypoint's match: it is checked, and there are no waypoints here.
fn check_waypoint(at: &Field<'_>) -> Result<(), ResourceError> {
    let fields = at.fields(&["portNumber", "filter", "route"])?;
    fields.get("portNumber").integer(1..=65_535, "a port number, 1 to 65535")?;
    let filter = fields.get("filter").fields(&["name", "subFilter"])?;
    some(&filter.get("name"))?;
    some(&filter.get("subFilter").fields(&["name"])?.get("name"))?;
    some(&fields.get("route").fields(&["name"])?.get("name"))?;
    Ok(())
}

/// What a node says of itself under `key`.
fn said<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    KEPT.iter().find(|(name, _)| *name == key).map(|(_, of)| of(node))
}

// === impl ListenerMatch ===

impl ListenerMatch {
    fn read(at: &Field<'_>, source: &mut Source) -> Result<Self, ResourceError> {
        let fields = at.fields(&["name", "portName", "portNumber", "filterChain", "listenerFilter"])?;
        if fields.get("portName").text()?.is_some() {
            source.warn(&fields.get("portName"), "without effect, as in Istio");
        }
        Ok(Self {
            name: some(&fields.get("name"))?,
            port: port(&fields, "portNumber")?,
            listener_filter: some(&fields.get("listenerFilter"))?,
            chain: ChainMatch::read(&fields.get("filterChain"), source)?,
        })
    }
}

// === impl ChainMatch ===

impl ChainMatch {
    fn read(at: &Field<'_>, source: &mut Source) -> Result<Self, ResourceError> {
        let fields = at.fields(CHAIN)?;
        if fields.get("transportSocket").text()?.is_some() {
            source.warn(&fields.get("transportSocket"), "not honoured");
        }
        let filter = fields.get("filter").fields(&["name", "subFilter"])?;
        let protocols = fields.get("applicationProtocols").text()?.unwrap_or_default();
        Ok(Self {
            name: some(&fields.get("name"))?,
            sni: some(&fields.get("sni"))?,
            transport: some(&fields.get("transportProtocol"))?,
            protocols: protocols.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect(),
            port: port(&fields, "destinationPort")?,
            filter: some(&filter.get("name"))?,
            http_filter: some(&filter.get("subFilter").fields(&["name"])?.get("name"))?,
        })
    }
}

// === impl RoutesMatch ===

impl RoutesMatch {
    fn read(at: &Field<'_>, source: &mut Source) -> Result<Self, ResourceError> {
        let fields = at.fields(&["name", "portNumber", "portName", "gateway", "vhost"])?;
        if fields.get("portName").text()?.is_some() {
            source.warn(&fields.get("portName"), "not honoured");
        }
        let host = fields.get("vhost").fields(&["name", "domainName", "route"])?;
        let route = host.get("route").fields(&["name", "action"])?;
        Ok(Self {
            name: some(&fields.get("name"))?,
            port: port(&fields, "portNumber")?,
            gateway: some(&fields.get("gateway"))?,
            host: some(&host.get("name"))?,
            domain: some(&host.get("domainName"))?,
            route: some(&route.get("name"))?,
            action: word(&route.get("action"), &ACTIONS)?.flatten(),
        })
    }
}

// === impl ClusterMatch ===

impl ClusterMatch {
    fn read(at: &Field<'_>) -> Result<Self, ResourceError> {
        let fields = at.fields(&["name", "service", "portNumber", "subset"])?;
        Ok(Self {
            name: some(&fields.get("name"))?,
            service: some(&fields.get("service"))?,
            port: port(&fields, "portNumber")?,
            subset: some(&fields.get("subset"))?,
        })
    }
}
