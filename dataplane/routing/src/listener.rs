//! Listeners and their filter chains: what is done with a connection, by where it was going and how it begins.

use crate::chain_index::ByServerName;
use crate::decode::{message, socket, unpack};
use crate::limiter::Limiter;
use crate::limits::{Limiters, is_limit};
use crate::route::RouteTable;
use crate::stream_handler::named_port;
use crate::{ClientCertificate, DownstreamTls, PathRule, Policies, Rejection, StreamHandler, Tokens};
use ::http::HeaderValue;
use api::envoy::envoy::config::core::v3::{CidrRange, TrafficDirection};
use api::envoy::envoy::config::listener::v3::{self as proto, filter::ConfigType};
use api::envoy::envoy::extensions::filters::http::router::v3::Router;
use api::envoy::envoy::extensions::filters::network::http_connection_manager::v3 as http;
use api::envoy::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use api::envoy::google::protobuf::Any;
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Whose connections a listener takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The workload's own.
    Outbound,
    /// Those to the workload.
    Inbound,
}

/// A listener.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Its name.
    pub name: Arc<str>,
    /// The addresses that it binds; none if connections are handed to it.
    pub bind: Vec<SocketAddr>,
    /// The destinations whose connections are handed to it.
    pub captures: Vec<SocketAddr>,
    /// Whose connections it takes.
    pub direction: Direction,
    /// Whether connections are redirected to it, and are handed on by their original destination.
    pub original_destination: bool,
    /// Whether the first bytes must be looked at before a chain can be chosen.
    pub inspects: bool,
    /// How long the first bytes are waited for; then the connection counts as bytes.
    pub inspection: Duration,
    chains: Vec<Chain>,
    /// The places of the chains, by what is asked for first.
    groups: Vec<Group>,
    otherwise: Option<Chain>,
}

/// The chains of one port and the same addresses.
#[derive(Debug, Clone)]
struct Group {
    port: Option<u16>,
    destinations: Vec<IpNet>,
    by_name: ByServerName,
}

/// What is done with the connections that match.
#[derive(Debug, Clone)]
pub struct Chain {
    matches: ChainMatch,
    /// TLS that ends here.
    pub tls: Option<DownstreamTls>,
    /// What the connection carries.
    pub handler: Handler,
    /// Who may connect.
    pub policies: Arc<Policies>,
}

/// What a connection carries.
#[derive(Debug, Clone)]
pub enum Handler {
    /// Requests.
    Http(HttpHandler),
    /// Bytes.
    Tcp(StreamHandler),
}

/// How requests are handled.
#[derive(Debug, Clone)]
pub struct HttpHandler {
    /// What its counters are called: its name within the listener.
    pub name: Box<str>,
    /// Where they go.
    pub routes: RouteSource,
    /// What becomes of `x-forwarded-client-cert`.
    pub client_certificate: ClientCertificate,
    /// What is done to paths before anybody reads them.
    pub paths: PathRule,
    /// Whether a dot at the end of a host is taken away.
    pub strips_host_dot: bool,
    /// Whether callers are outside of the mesh, and what they say of where they come from counts for nothing.
    pub from_outside: bool,
    /// How many proxies before this one are believed what they say of where callers from outside come from.
    pub trusted_hops: usize,
    /// Whether a request without an id gets one.
    pub makes_ids: bool,
    /// Whether nobody is told of times, attempts that wait and overload (Envoy's `suppress_envoy_headers`).
    pub is_terse: bool,
    /// What the field `server` of responses says.
    pub server: ServerName,
    /// The tokens that requests may bring, and must; none are looked at if absent.
    pub tokens: Option<Arc<Tokens>>,
    /// Who may do what.
    pub policies: Arc<Policies>,
    /// Its rate limits in their order, by the names of their filters; routes may say something else of each.
    pub(crate) limits: Vec<(Box<str>, Option<Arc<Limiter>>)>,
}

/// What the field `server` of responses says (Envoy's `server_header_transformation`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerName {
    /// This, whatever the upstream says.
    Always(HeaderValue),
    /// This, if the upstream says nothing.
    IfNone(HeaderValue),
    /// What the upstream says.
    Never,
}

/// Where the routes are.
#[derive(Debug, Clone)]
pub enum RouteSource {
    /// Here.
    Inline(Arc<RouteTable>),
    /// In the route configuration of this name.
    Named(Arc<str>),
}

/// How a connection begins, as far as was looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Beginning<'a> {
    /// A TLS client's hello.
    Tls {
        /// The server that it asks for.
        server_name: &'a str,
        /// The protocols that it offers.
        alpn: &'a [String],
    },
    /// HTTP/1 in the clear.
    Http1,
    /// HTTP/2 in the clear.
    Http2,
    /// Something else, or nothing in time, or nobody looked.
    #[default]
    Bytes,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ChainMatch {
    destination_port: Option<u16>,
    destinations: Vec<IpNet>,
    sources: Vec<IpNet>,
    server_names: Vec<String>,
    transport: Option<Transport>,
    application_protocols: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tls,
    Raw,
}

const DEFAULT_INSPECTION: Duration = Duration::from_secs(15);

// === impl Listener ===

impl Listener {
    /// Parses an Envoy listener.
    pub(crate) fn parse(resource: &xds::Resource, limiters: &Limiters) -> Result<Self, Rejection> {
        let listener: proto::Listener = message(resource)?;
        let reject = |reason: String| Rejection::new(&resource.name, reason);
        let addresses = std::iter::once(listener.address.as_ref())
            .chain(listener.additional_addresses.iter().map(|additional| additional.address.as_ref()))
            .map(|address| {
                socket(address).ok_or_else(|| reject("address: an IP address and a port are expected".into()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let is_bound = listener.bind_to_port.as_ref().is_none_or(|bind| bind.value);
        let direction = match listener.traffic_direction() {
            TrafficDirection::Inbound => Direction::Inbound,
            _ => Direction::Outbound,
        };
        let known = ["envoy.filters.listener.tls_inspector", "envoy.filters.listener.http_inspector", ORIGINAL_DST];
        if let Some(other) = listener.listener_filters.iter().find(|filter| !known.contains(&filter.name.as_str())) {
            return Err(reject(format!("listener_filters: {:?} is not known: {known:?} are", other.name)));
        }
        let by_filter = listener.listener_filters.iter().any(|filter| filter.name == ORIGINAL_DST);
        let chains =
            listener.filter_chains.iter().map(|chain| Chain::parse(chain, &resource.name, limiters).map_err(reject));
        let chains: Vec<Chain> = chains.collect::<Result<_, _>>()?;
        let (bind, captures) = if is_bound { (addresses, Vec::new()) } else { (Vec::new(), addresses) };
        Ok(Self {
            name: resource.name.clone(),
            bind,
            captures,
            direction,
            original_destination: by_filter || listener.use_original_dst.as_ref().is_some_and(|flag| flag.value),
            inspects: listener.listener_filters.iter().any(|filter| filter.name != ORIGINAL_DST),
            inspection: crate::decode::duration(listener.listener_filters_timeout.as_ref())
                .unwrap_or(DEFAULT_INSPECTION),
            groups: groups(&chains),
            chains,
            otherwise: listener
                .default_filter_chain
                .as_ref()
                .map(|chain| Chain::parse(chain, &resource.name, limiters).map_err(reject))
                .transpose()?,
        })
    }

    /// All chains.
    pub fn chains(&self) -> impl Iterator<Item = &Chain> {
        self.chains.iter().chain(&self.otherwise)
    }

    /// How requests are handled under this name.
    pub fn http(&self, name: &str) -> Option<&HttpHandler> {
        self.chains().find_map(|chain| match &chain.handler {
            Handler::Http(handler) if *handler.name == *name => Some(handler),
            _ => None,
        })
    }

    /// The names of the secrets that its chains need.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Arc<str>> {
        self.chains().filter_map(|chain| chain.tls.as_ref()).flat_map(DownstreamTls::secrets)
    }

    /// The chain for a connection from `source` to `destination` that begins so, as Envoy chooses: by port, then address,
    /// then server name, then transport, then application protocol, then source, each time the most specific; and then
    /// without coming back.
    pub fn chain(&self, destination: SocketAddr, source: IpAddr, beginning: Beginning<'_>) -> Option<&Chain> {
        let mut groups: Vec<&Group> = self.groups.iter().collect();
        keep(&mut groups, |group| group.fits_port(destination.port()));
        keep(&mut groups, |group| ChainMatch::within(&group.destinations, destination.ip()));
        let name = match beginning {
            Beginning::Tls { server_name, .. } => Some(server_name),
            _ => None,
        };
        let mut named: Vec<_> = groups.iter().filter_map(|group| group.by_name.find(name)).collect();
        let best = named.iter().map(|(fit, _)| *fit).max();
        named.retain(|(fit, _)| Some(*fit) == best);
        let mut places: Vec<usize> = named.into_iter().flat_map(|(_, places)| places).copied().collect();
        places.sort_unstable();
        let mut left: Vec<&Chain> = places.into_iter().map(|place| &self.chains[place]).collect();
        keep(&mut left, |chain| chain.matches.transport(beginning));
        keep(&mut left, |chain| chain.matches.application(beginning));
        keep(&mut left, |chain| ChainMatch::within(&chain.matches.sources, source));
        left.first().copied().or(self.otherwise.as_ref())
    }
}

/// What is done to requests; faults and CORS only where a route says so. What resolves names is done by the upstream.
const FILTERS: [&str; 4] = [
    "envoy.filters.http.fault",
    "envoy.filters.http.cors",
    "envoy.filters.http.dynamic_forward_proxy",
    "envoy.filters.http.router",
];
const ORIGINAL_DST: &str = "envoy.filters.listener.original_dst";

/// Keeps those that fit best: `fit` tells how well, or that it does not.
fn keep<T>(all: &mut Vec<&T>, fit: impl Fn(&T) -> Option<usize>) {
    let best = all.iter().filter_map(|one| fit(one)).max();
    all.retain(|one| best.is_some() && fit(one) == best);
}

/// `chains`, those of one port and the same addresses together.
fn groups(chains: &[Chain]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut known: HashMap<(Option<u16>, &[IpNet]), usize> = HashMap::new();
    for (place, ChainMatch { destination_port, destinations, server_names, .. }) in
        chains.iter().map(|chain| &chain.matches).enumerate()
    {
        let group = *known.entry((*destination_port, destinations)).or_insert_with(|| {
            let (port, destinations) = (*destination_port, destinations.clone());
            groups.push(Group { port, destinations, by_name: ByServerName::default() });
            groups.len() - 1
        });
        groups[group].by_name.add(server_names, place);
    }
    groups
}

// === impl Group ===

impl Group {
    fn fits_port(&self, port: u16) -> Option<usize> {
        match self.port {
            None => Some(0),
            Some(wanted) => (wanted == port).then_some(1),
        }
    }
}

// === impl ChainMatch ===

impl ChainMatch {
    fn parse(matches: Option<&proto::FilterChainMatch>) -> Result<Self, String> {
        let Some(matches) = matches else { return Ok(Self::default()) };
        if !matches.source_ports.is_empty() || !matches.address_suffix.is_empty() {
            return Err("filter_chain_match: by port, prefix ranges, server name, transport and application protocol \
                        is accepted"
                .into());
        }
        let transport = match matches.transport_protocol.as_str() {
            "" => None,
            "tls" => Some(Transport::Tls),
            "raw_buffer" => Some(Transport::Raw),
            other => return Err(format!("transport_protocol: {other:?}: tls or raw_buffer is accepted")),
        };
        let port = matches.destination_port.as_ref().map(|port| u16::try_from(port.value));
        Ok(Self {
            destinations: matches.prefix_ranges.iter().map(net).collect::<Result<_, _>>()?,
            sources: matches.source_prefix_ranges.iter().map(net).collect::<Result<_, _>>()?,
            destination_port: port.transpose().map_err(|error| format!("destination_port: {error}"))?,
            server_names: matches.server_names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            transport,
            application_protocols: matches.application_protocols.clone(),
        })
    }

    /// The longest prefix fits best.
    fn within(nets: &[IpNet], address: IpAddr) -> Option<usize> {
        if nets.is_empty() {
            return Some(0);
        }
        nets.iter().filter(|net| net.contains(&address)).map(|net| usize::from(net.prefix_len()) + 1).max()
    }

    fn transport(&self, beginning: Beginning<'_>) -> Option<usize> {
        let is_tls = matches!(beginning, Beginning::Tls { .. });
        match self.transport {
            None => Some(0),
            Some(Transport::Tls) => is_tls.then_some(1),
            Some(Transport::Raw) => (!is_tls).then_some(1),
        }
    }

    fn application(&self, beginning: Beginning<'_>) -> Option<usize> {
        if self.application_protocols.is_empty() {
            return Some(0);
        }
        let has = |name: &str| self.application_protocols.iter().any(|protocol| protocol == name);
        let fits = match beginning {
            Beginning::Tls { alpn, .. } => alpn.iter().any(|offered| has(offered)),
            Beginning::Http1 => has("http/1.1"),
            Beginning::Http2 => has("h2c"),
            Beginning::Bytes => false,
        };
        fits.then_some(1)
    }
}

pub(crate) fn net(range: &CidrRange) -> Result<IpNet, String> {
    let address: IpAddr =
        range.address_prefix.parse().map_err(|_| format!("prefix_ranges: {:?}", range.address_prefix))?;
    let length = range.prefix_len.as_ref().map_or(0, |length| length.value);
    let length = u8::try_from(length).map_err(|_| format!("prefix_ranges: length {length}"))?;
    IpNet::new(address, length).map_err(|error| format!("prefix_ranges: {error}"))
}

// === impl Chain ===

impl Chain {
    /// The chain of the listener of this name.
    fn parse(chain: &proto::FilterChain, listener: &str, limiters: &Limiters) -> Result<Self, String> {
        let mut policies = Policies::default();
        let mut filters = &chain.filters[..];
        while let [proto::Filter { config_type: Some(ConfigType::TypedConfig(any)), .. }, rest @ ..] = filters
            && policies.take(any, false)?
        {
            filters = rest;
        }
        let (named_port, filter) = match filters {
            [filter] => (None, filter),
            [first, filter] => (Some(named_port(first)?), filter),
            all => {
                return Err(format!(
                    "filters: {} of them: one is accepted, or one that resolves names first, and before them rbac",
                    all.len()
                ));
            }
        };
        let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
            return Err(format!("filter {:?}: typed_config is expected", filter.name));
        };
        let tls = match &chain.transport_socket {
            None => None,
            Some(socket) => Some(DownstreamTls::parse(socket)?),
        };
        let handler = if let Some(manager) = unpack::<http::HttpConnectionManager>(any) {
            Handler::Http(HttpHandler::parse(&manager.map_err(|error| error.to_string())?, listener, limiters)?)
        } else if let Some(proxy) = unpack::<TcpProxy>(any) {
            let handler = StreamHandler::parse(proxy.map_err(|error| error.to_string())?)?;
            Handler::Tcp(StreamHandler { named_port, ..handler })
        } else {
            return Err(format!("filter {:?} is not known: tcp_proxy and http_connection_manager are", filter.name));
        };
        Ok(Self {
            matches: ChainMatch::parse(chain.filter_chain_match.as_ref())?,
            tls,
            handler,
            policies: policies.into(),
        })
    }
}

// === impl HttpHandler ===

impl HttpHandler {
    fn parse(manager: &http::HttpConnectionManager, listener: &str, limiters: &Limiters) -> Result<Self, String> {
        use http::http_connection_manager::RouteSpecifier;
        let (mut limits, mut policies, mut tokens, mut is_terse) = (Vec::new(), Policies::default(), None, false);
        for filter in &manager.http_filters {
            if let Some(router) = config_of(filter).and_then(unpack::<Router>) {
                is_terse = router.map_err(|error| error.to_string())?.suppress_envoy_headers;
            }
            if let Some(config) = config_of(filter)
                && policies.take(config, filter.disabled)?
            {
                continue;
            }
            if let Some(read) = config_of(filter).and_then(Tokens::parse) {
                tokens = Some(Arc::new(read?)).filter(|_| !filter.disabled);
                continue;
            }
            let limit = config_of(filter).filter(|config| is_limit(config));
            match limit {
                Some(config) => {
                    let place = format!("{listener}/{}/{}", manager.stat_prefix, filter.name);
                    let limiter = limiters.read(&place, config).transpose()?.filter(|_| !filter.disabled);
                    limits.push((filter.name.as_str().into(), limiter));
                }
                None if FILTERS.contains(&filter.name.as_str()) => {}
                None => {
                    let known = "local_ratelimit, jwt_authn and rbac are";
                    return Err(format!("http_filters: {:?} is not known: {FILTERS:?} are, and {known}", filter.name));
                }
            }
        }
        let routes = match &manager.route_specifier {
            Some(RouteSpecifier::Rds(rds)) => RouteSource::Named(rds.route_config_name.as_str().into()),
            Some(RouteSpecifier::RouteConfig(routes)) => {
                RouteSource::Inline(Arc::new(RouteTable::from_proto(routes, limiters).map_err(|error| error.reason)?))
            }
            _ => return Err("route_specifier: rds or route_config is expected".into()),
        };
        Ok(Self {
            name: manager.stat_prefix.as_str().into(),
            routes,
            client_certificate: ClientCertificate::parse(manager),
            paths: PathRule::parse(manager)?,
            strips_host_dot: manager.strip_trailing_host_dot,
            from_outside: manager.use_remote_address.as_ref().is_some_and(|flag| flag.value),
            trusted_hops: manager.xff_num_trusted_hops as usize,
            makes_ids: manager.generate_request_id.as_ref().is_none_or(|flag| flag.value),
            is_terse,
            server: ServerName::parse(manager)?,
            tokens,
            policies: policies.into(),
            limits,
        })
    }
}

// === impl ServerName ===

impl ServerName {
    fn parse(manager: &http::HttpConnectionManager) -> Result<Self, String> {
        use http::http_connection_manager::ServerHeaderTransformation;
        let name = Some(manager.server_name.as_str()).filter(|name| !name.is_empty()).unwrap_or("envoy");
        let name = HeaderValue::from_str(name).map_err(|_| format!("server_name: {name:?} is no header value"))?;
        Ok(match manager.server_header_transformation() {
            ServerHeaderTransformation::Overwrite => Self::Always(name),
            ServerHeaderTransformation::AppendIfAbsent => Self::IfNone(name),
            ServerHeaderTransformation::PassThrough => Self::Never,
        })
    }
}

fn config_of(filter: &http::HttpFilter) -> Option<&Any> {
    match &filter.config_type {
        Some(http::http_filter::ConfigType::TypedConfig(any)) => Some(any),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
