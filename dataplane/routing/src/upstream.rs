//! Upstreams: what Envoy calls a cluster. How its endpoints are found, spoken to and chosen.

use crate::balance::Balance;
use crate::decode::{duration, message, unpack};
use crate::endpoint::{self, Facts};
use crate::policy::Policy;
use crate::upstream_tls::{OutsideTls, ProxyProtocol, Transport, TransportOf, UpstreamTls};
use crate::{Endpoint, Load, Rejection, Report, Target, Usage, Wanted};
use api::envoy::envoy::config::cluster::v3 as proto;
use api::envoy::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use api::envoy::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
};
use api::envoy::google::protobuf::value::Kind;
use proto::cluster::{ClusterDiscoveryType, DiscoveryType};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// An upstream with its endpoints of the moment.
#[derive(Debug)]
pub struct Upstream {
    /// How it is spoken to.
    pub settings: Arc<UpstreamSettings>,
    /// All its endpoints.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// What is under way to it.
    pub usage: Arc<Usage>,
    balance: Balance,
}

/// How an upstream is spoken to.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamSettings {
    /// Its name: `outbound|9080||reviews.default.svc.cluster.local`.
    pub name: Arc<str>,
    /// The host of the service; empty if it belongs to none.
    pub host: Arc<str>,
    /// How its endpoints are found.
    pub discovery: Discovery,
    /// The HTTP that it speaks.
    pub http: HttpVersion,
    /// How long connecting may take, if it says.
    pub connect_timeout: Option<Duration>,
    /// The mesh's mTLS, for endpoints that take it.
    pub tls: Option<UpstreamTls>,
    /// How all other endpoints are spoken to.
    pub otherwise: Transport,
    /// Whether those are first told who asks whom.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Its limits and choices.
    pub policy: Policy,
    listed: Vec<Facts>,
}

/// How endpoints are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discovery {
    /// Told by EDS.
    Eds,
    /// Listed in the upstream itself; names are resolved when connections are made.
    Listed,
    /// Where the connection was going.
    OriginalDestination,
    /// The name that a request or a connection asks for, resolved then: see [`Upstream::named`].
    Dynamic,
}

/// Which HTTP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// The caller's.
    AsAsked,
}

/// Envoy's name of the upstreams whose names are resolved when they are asked for.
const DYNAMIC: &str = "envoy.clusters.dynamic_forward_proxy";

/// Numbers endpoints. Starts where no small test number is, so that mistaken identities show.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

// === impl Upstream ===

impl Upstream {
    /// `assigned` are the endpoints that EDS tells. Endpoints that `before` had and that are spoken to as before stay
    /// the same, with their load.
    pub(crate) fn new(settings: Arc<UpstreamSettings>, assigned: &[Facts], before: Option<&Self>) -> Self {
        let facts = if settings.discovery == Discovery::Eds { assigned } else { &settings.listed };
        let usage = before.map(|before| before.usage.clone());
        let before = before.filter(|before| before.settings.speaks_like(&settings));
        let known = |facts: &Facts| before?.endpoints.iter().find(|endpoint| endpoint.facts == *facts).cloned();
        let endpoints: Vec<_> =
            facts.iter().map(|facts| known(facts).unwrap_or_else(|| numbered(facts.clone()))).collect();
        let usage = usage.unwrap_or_default();
        Self { balance: Balance::new(&endpoints, &settings.policy), settings, endpoints, usage }
    }

    /// An endpoint; none of those tried if another is left. `draw` gives random numbers.
    pub fn pick(&self, wanted: &Wanted<'_>, mut draw: impl FnMut() -> u64) -> Option<Arc<Endpoint>> {
        if self.settings.discovery == Discovery::OriginalDestination {
            return Some(numbered(Facts::new(Target::Socket(wanted.destination))));
        }
        self.balance.pick(wanted, &mut draw).cloned()
    }

    /// A new endpoint: the name `host`, to be resolved, at `port`. The caller keeps it, for as long as it likes.
    pub fn named(&self, host: Arc<str>, port: u16) -> Arc<Endpoint> {
        numbered(Facts::new(Target::Name(host, port)))
    }

    /// Counts how a request or connection to `endpoint` ended at `now`, and leaves it out for a while if it failed too
    /// often, as far as enough others are left.
    pub fn report(&self, endpoint: &Endpoint, report: Report, now: Duration) {
        let Some(outliers) = &self.settings.policy.outliers else { return };
        if !endpoint.load.report(report, outliers) || endpoint.load.is_ejected(now) {
            return;
        }
        let ejected = self.endpoints.iter().filter(|endpoint| endpoint.load.is_ejected(now)).count();
        let share = ejected * 100 / self.endpoints.len().max(1);
        if ejected == 0 || share < outliers.most_percent as usize {
            endpoint.load.eject(now, outliers);
        }
    }
}

fn numbered(facts: Facts) -> Arc<Endpoint> {
    Arc::new(Endpoint { id: NEXT_ID.fetch_add(1, Ordering::Relaxed), facts, load: Load::default() })
}

// === impl UpstreamSettings ===

impl UpstreamSettings {
    pub(crate) fn parse(resource: &xds::Resource) -> Result<Self, Rejection> {
        let upstream: proto::Cluster = message(resource)?;
        let reject = |reason: String| Rejection::new(&resource.name, reason);
        let discovery = match &upstream.cluster_discovery_type {
            Some(ClusterDiscoveryType::Type(kind)) => match DiscoveryType::try_from(*kind) {
                Ok(DiscoveryType::Eds) => Discovery::Eds,
                Ok(DiscoveryType::OriginalDst) => Discovery::OriginalDestination,
                Ok(_) => Discovery::Listed,
                Err(_) => return Err(reject(format!("type: {kind} is not known"))),
            },
            Some(ClusterDiscoveryType::ClusterType(kind)) if kind.name == DYNAMIC => Discovery::Dynamic,
            _ => return Err(reject(format!("cluster_discovery_type: type, or {DYNAMIC}, is expected"))),
        };
        let listed = upstream.load_assignment.as_ref().map(endpoint::parse).transpose().map_err(reject)?;
        let mutual = upstream.transport_socket_matches.iter().find(|matches| matches.name == "tlsMode-istio");
        let others = upstream.transport_socket_matches.iter().find(|matches| matches.name != "tlsMode-istio");
        let otherwise = others.and_then(|matches| matches.transport_socket.as_ref());
        let (proxy_protocol, otherwise) =
            otherwise.map(ProxyProtocol::unwrap).transpose().map_err(reject)?.unwrap_or_default();
        let otherwise = otherwise.as_ref().map(Transport::parse);
        let tls = mutual.and_then(|matches| matches.transport_socket.as_ref()).map(UpstreamTls::parse);
        Ok(Self {
            host: host(&upstream).into(),
            name: resource.name.clone(),
            discovery,
            http: HttpVersion::parse(&upstream).map_err(reject)?,
            connect_timeout: duration(upstream.connect_timeout.as_ref()),
            tls: tls.transpose().map_err(reject)?,
            otherwise: otherwise.transpose().map_err(reject)?.unwrap_or(Transport::Clear),
            proxy_protocol,
            policy: Policy::parse(&upstream).map_err(reject)?,
            listed: listed.unwrap_or_default(),
        })
    }
}

impl UpstreamSettings {
    /// Whether endpoints are spoken to in the same way under `other`, so that connections can stay.
    fn speaks_like(&self, other: &Self) -> bool {
        self.name == other.name
            && self.http == other.http
            && self.tls == other.tls
            && self.otherwise == other.otherwise
            && self.proxy_protocol == other.proxy_protocol
            && self.policy.life == other.policy.life
            && self.policy.keepalive == other.policy.keepalive
            && self.connect_timeout == other.connect_timeout
    }

    /// How an endpoint is told who asks whom, before anything else.
    pub fn announces(&self, facts: &Facts) -> Option<ProxyProtocol> {
        self.proxy_protocol.filter(|_| !matches!(self.transport(facts), TransportOf::Mesh(_)))
    }

    /// The names of the secrets that it needs.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Arc<str>> {
        match &self.otherwise {
            Transport::Outside(tls) => Some(tls),
            Transport::Clear | Transport::Mesh(_) => None,
        }
        .into_iter()
        .flat_map(OutsideTls::secrets)
    }

    /// How an endpoint is spoken to.
    pub fn transport(&self, facts: &Facts) -> TransportOf<'_> {
        match (&self.tls, &self.otherwise) {
            (Some(tls), _) if facts.tls => TransportOf::Mesh(tls),
            (_, Transport::Mesh(tls)) => TransportOf::Mesh(tls),
            (_, Transport::Outside(tls)) => TransportOf::Outside(tls),
            (_, Transport::Clear) => TransportOf::Clear,
        }
    }
}

/// The host of `outbound|PORT||HOST`, or the first of the services in Istio's metadata.
fn host(upstream: &proto::Cluster) -> &str {
    if let Some(rest) = upstream.name.strip_prefix("outbound|") {
        return rest.rsplit('|').next().unwrap_or_default();
    }
    let services = upstream.metadata.as_ref().and_then(|metadata| metadata.filter_metadata.get("istio"));
    let services = services.and_then(|fields| fields.fields.get("services")).and_then(|value| value.kind.as_ref());
    let Some(Kind::ListValue(services)) = services else { return "" };
    let Some(Kind::StructValue(first)) = services.values.first().and_then(|value| value.kind.as_ref()) else {
        return "";
    };
    match first.fields.get("host").and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(host)) => host,
        _ => "",
    }
}

// === impl HttpVersion ===

impl HttpVersion {
    fn parse(upstream: &proto::Cluster) -> Result<Self, String> {
        let Some(any) = upstream.typed_extension_protocol_options.values().next() else { return Ok(Self::AsAsked) };
        let options = unpack::<HttpProtocolOptions>(any)
            .ok_or_else(|| format!("typed_extension_protocol_options: {:?} is not known", any.type_url))?
            .map_err(|error| error.to_string())?;
        Ok(match options.upstream_protocol_options {
            Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => match explicit.protocol_config {
                Some(ProtocolConfig::Http2ProtocolOptions(_)) => Self::Http2,
                _ => Self::Http1,
            },
            _ => Self::AsAsked,
        })
    }
}
