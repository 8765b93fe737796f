//! CDS: the upstreams. In Envoy's words an upstream is a cluster; this file alone knows both words.

use crate::any::any;
use crate::assignment::Assigned;
use crate::scope::{Inbound, Scope, Target, served_ports};
use crate::value::{ads, milliseconds, one_field, pipe, socket};
use crate::{dynamic, endpoint, policy, transport};
use api::envoy::envoy::config::cluster::v3 as envoy;
use api::envoy::envoy::config::core::v3::{
    Address, Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions, Metadata,
};
use api::envoy::envoy::config::endpoint::v3 as eds;
use api::envoy::envoy::extensions::upstreams::http::v3 as http;
use api::envoy::google::protobuf::{ListValue, Struct, Value, value::Kind};
use config::{ConnectionPool, Server, Subset};
use envoy::cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbPolicy};
use http::http_protocol_options::{
    ExplicitHttpConfig, OutlierDetection as HttpOutliers, UpstreamProtocolOptions, UseDownstreamHttpConfig,
    explicit_http_config::ProtocolConfig,
};
use model::{Host, Location, Port, Protocol, Resolution, Service};
use prost::Message;
use std::collections::BTreeSet;
use xds::Resource;

/// Where requests go that nobody declared: to where they were going.
pub(crate) const PASSTHROUGH: &str = "PassthroughCluster";
/// The same, for requests to the workload.
pub(crate) const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";
/// Where connections go that must not go anywhere.
pub(crate) const BLACK_HOLE: &str = "BlackHoleCluster";

/// How an upstream finds its endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Discovery {
    /// They are told by EDS.
    Eds,
    /// They are where the connection was going.
    OriginalDestination,
    /// Names, of which every address is used.
    StrictDns,
    /// One name, of which one address is used.
    LogicalDns,
    /// The name that is asked for.
    Dynamic,
}

const CONNECT_TIMEOUT_MS: u32 = 10_000;
/// Where the HTTP of an upstream is described.
pub(crate) const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

pub(crate) fn resources(scope: &Scope<'_>) -> Vec<Resource> {
    let outbound = scope.services.iter().flat_map(|service| of_service(scope, service));
    let inbound = scope.inbound.values().map(|inbound| resource(&inbound_upstream(inbound)));
    let mut fixed = vec![original_destination(PASSTHROUGH), black_hole()];
    if scope.is_redirected() {
        fixed.push(original_destination(INBOUND_PASSTHROUGH));
    }
    let passed = scope.east_west().flat_map(|server| passed(scope, server));
    let passed =
        passed.map(|(name, ..)| name).collect::<BTreeSet<_>>().into_iter().map(|name| resource(&passing(&name)));
    outbound.chain(passed).chain(inbound).chain(fixed.iter().map(resource)).collect()
}

/// The upstreams of `service`.
pub(crate) fn of_service<'a>(scope: &'a Scope<'_>, service: &'a Service) -> impl Iterator<Item = Resource> + 'a {
    upstreams(scope, service).map(|(port, subset)| outbound(scope, service, port, subset))
}

/// What `service` has an upstream for: each port that a proxy can serve, and each subset of it.
pub(crate) fn upstreams<'a>(
    scope: &'a Scope<'_>,
    service: &'a Service,
) -> impl Iterator<Item = (&'a Port, Option<&'a Subset>)> {
    served_ports(service).flat_map(|port| {
        let subsets = scope.subsets(service).iter().map(Some);
        [None].into_iter().chain(subsets).map(move |subset| (port, subset))
    })
}

/// What `server` passes on of the mesh's own TLS: the server names, which are the upstreams' names as well, with what
/// each of them means.
pub(crate) fn passed<'a>(
    scope: &'a Scope<'_>,
    server: &'a Server,
) -> impl Iterator<Item = (String, &'a Service, &'a Port, Option<&'a Subset>)> {
    let is_served = |service: &Service| server.hosts.iter().any(|host| host.host.matches(&service.key.host));
    scope.services.iter().filter(move |service| is_served(service)).flat_map(|service| {
        upstreams(scope, service).map(|(port, subset)| (passed_name(service, port, subset), *service, port, subset))
    })
}

/// The mesh's own server name for `port` of `service`, or of its `subset`.
pub(crate) fn passed_name(service: &Service, port: &Port, subset: Option<&Subset>) -> String {
    format!("outbound_.{}_.{}_.{}", port.number, subset.map_or("", |subset| &subset.name), service.key.host)
}

/// Istio's name for requests to `port` of `service`.
pub(crate) fn outbound_name(service: &Service, port: &Port) -> String {
    subset_name(&service.key.host, port.number, "")
}

/// Istio's name for requests to `port` of the subset of that name, or to all if it is empty.
pub(crate) fn subset_name(host: &Host, port: u16, subset: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// Istio's name for requests to `port` of `service`, or of its `subset`.
pub(crate) fn upstream_name(service: &Service, port: &Port, subset: Option<&Subset>) -> String {
    subset_name(&service.key.host, port.number, subset.map_or("", |subset| &subset.name))
}

/// Istio's name for requests to the workload's own `port`.
pub(crate) fn inbound_name(port: u16) -> String {
    format!("inbound|{port}||")
}

/// How the endpoints of `service` are found.
pub(crate) fn discovery(scope: &Scope<'_>, service: &Service) -> Discovery {
    let lists_nothing = service.endpoints.is_empty() && service.imports.is_empty();
    let by_name = service.endpoints.iter().any(|endpoint| matches!(endpoint.address, model::Address::Name(_)));
    let is_external = service.location == Location::External && !service.key.host.is_wildcard();
    match service.resolution {
        Resolution::DynamicDns => Discovery::Dynamic,
        Resolution::None if lists_nothing && scope.is_redirected() => Discovery::OriginalDestination,
        Resolution::DnsRoundRobin if lists_nothing && is_external => Discovery::LogicalDns,
        Resolution::Dns if lists_nothing && is_external => Discovery::StrictDns,
        // Envoy's logical DNS takes exactly one name.
        Resolution::DnsRoundRobin if by_name && service.endpoints.len() == 1 && service.imports.is_empty() => {
            Discovery::LogicalDns
        }
        _ if by_name => Discovery::StrictDns,
        _ => Discovery::Eds,
    }
}

fn outbound(scope: &Scope<'_>, service: &Service, port: &Port, subset: Option<&Subset>) -> Resource {
    let name = upstream_name(service, port, subset);
    let wanted = scope.policy_of(service, port.number, subset.map(|subset| subset.name.as_str()));
    let discovery = if policy::is_passthrough(&wanted) && scope.is_redirected() {
        Discovery::OriginalDestination
    } else {
        discovery(scope, service)
    };
    let mut upstream = envoy::Cluster {
        transport_socket_matches: transport::matches(scope, service, port, subset, &wanted),
        typed_extension_protocol_options: protocol_options(
            port.protocol,
            wanted.pool.as_ref(),
            policy::failures(wanted.outliers.as_ref()),
        ),
        ..base(&name, discovery.envoy_type(), LbPolicy::LeastRequest)
    };
    policy::apply(&mut upstream, &wanted);
    match discovery {
        Discovery::Eds => {
            upstream.eds_cluster_config = Some(EdsClusterConfig { eds_config: ads(), service_name: name });
            resource(&upstream)
        }
        Discovery::OriginalDestination => {
            upstream.set_lb_policy(LbPolicy::ClusterProvided);
            upstream.lb_config = None;
            resource(&upstream)
        }
        Discovery::Dynamic => {
            dynamic::become_dynamic(&mut upstream, dns_family(scope), wanted.tls.as_ref());
            resource(&upstream)
        }
        Discovery::StrictDns | Discovery::LogicalDns => {
            upstream.set_dns_lookup_family(dns_family(scope));
            let assigned = Assigned { load_assignment: Some(endpoint::assignment(scope, service, port, subset)) };
            let mut body = upstream.encode_to_vec();
            body.extend(assigned.encode_to_vec());
            Resource::from_body(name, body.into())
        }
    }
}

/// Connections whose TLS is the endpoints' own.
fn passing(name: &str) -> envoy::Cluster {
    envoy::Cluster {
        eds_cluster_config: Some(EdsClusterConfig { eds_config: ads(), service_name: name.to_owned() }),
        circuit_breakers: Some(policy::limits(None, None)),
        ..base(name, DiscoveryType::Eds, LbPolicy::LeastRequest)
    }
}

fn inbound_upstream(inbound: &Inbound) -> envoy::Cluster {
    let at = match &inbound.target {
        Target::Socket(address) => socket(*address),
        Target::Unix(path) => pipe(path),
    };
    let name = inbound_name(inbound.port);
    // Which HTTP the application speaks, its port says, whatever callers are told.
    let pool = inbound.pool.clone().map(|pool| ConnectionPool { h2_upgrade: None, ..pool });
    let mut upstream = envoy::Cluster {
        load_assignment: Some(one_endpoint(&name, at)),
        metadata: inbound.service.as_ref().map(service_metadata),
        typed_extension_protocol_options: protocol_options(inbound.protocol, pool.as_ref(), None),
        ..base(&name, DiscoveryType::Static, LbPolicy::RoundRobin)
    };
    policy::apply_pool(&mut upstream, pool.as_ref(), None);
    upstream
}

/// For the telemetry of the workload's proxy, where Istio puts it: `istio: {services: [{host: HOST}]}`.
fn service_metadata(host: &Host) -> Metadata {
    let service = Value { kind: Some(Kind::StructValue(one_field("host", host.as_str()))) };
    let services = Value { kind: Some(Kind::ListValue(ListValue { values: vec![service] })) };
    let fields = Struct { fields: [("services".to_owned(), services)].into() };
    Metadata { filter_metadata: [("istio".to_owned(), fields)].into(), ..Default::default() }
}

fn original_destination(name: &str) -> envoy::Cluster {
    envoy::Cluster {
        typed_extension_protocol_options: http_options(as_asked(Http2ProtocolOptions::default()), None, None),
        circuit_breakers: Some(policy::limits(None, None)),
        ..base(name, DiscoveryType::OriginalDst, LbPolicy::ClusterProvided)
    }
}

fn black_hole() -> envoy::Cluster {
    base(BLACK_HOLE, DiscoveryType::Static, LbPolicy::RoundRobin)
}

fn base(name: &str, discovery: DiscoveryType, policy: LbPolicy) -> envoy::Cluster {
    envoy::Cluster {
        name: name.to_owned(),
        connect_timeout: milliseconds(CONNECT_TIMEOUT_MS),
        lb_policy: policy.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery.into())),
        ..Default::default()
    }
}

/// HTTP/2 or HTTP/1.1 where the port says so, or the pool; else what Envoy does of itself.
fn protocol_options(
    protocol: Protocol,
    pool: Option<&ConnectionPool>,
    failures: Option<HttpOutliers>,
) -> ProtocolOptions {
    let common = pool.and_then(policy::common_http);
    let http2 = || policy::http2(pool);
    let upgrades = pool.is_some_and(|pool| pool.h2_upgrade == Some(true));
    if pool.is_some_and(|pool| pool.use_client_protocol) && !matches!(protocol, Protocol::Tcp | Protocol::Tls) {
        return http_options(as_asked(http2()), common, failures);
    }
    let explicit = match protocol {
        Protocol::Http2 | Protocol::Grpc => ProtocolConfig::Http2ProtocolOptions(http2()),
        Protocol::Http if upgrades => ProtocolConfig::Http2ProtocolOptions(http2()),
        Protocol::Http => ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default()),
        Protocol::Auto if common.is_some() || failures.is_some() => {
            return http_options(as_asked(http2()), common, failures);
        }
        Protocol::Tls | Protocol::Tcp | Protocol::Auto | Protocol::Udp => return ProtocolOptions::default(),
    };
    let explicit = ExplicitHttpConfig { protocol_config: Some(explicit) };
    http_options(UpstreamProtocolOptions::ExplicitHttpConfig(explicit), common, failures)
}

type ProtocolOptions = std::collections::HashMap<String, api::envoy::google::protobuf::Any>;

/// The upstream is spoken to as the client speaks.
fn as_asked(http2: Http2ProtocolOptions) -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
        http_protocol_options: Some(Http1ProtocolOptions::default()),
        http2_protocol_options: Some(http2),
        ..Default::default()
    })
}

fn http_options(
    upstream: UpstreamProtocolOptions,
    common: Option<HttpProtocolOptions>,
    failures: Option<HttpOutliers>,
) -> ProtocolOptions {
    let options = http::HttpProtocolOptions {
        upstream_protocol_options: Some(upstream),
        common_http_protocol_options: common,
        outlier_detection: failures,
        ..Default::default()
    };
    [(HTTP_OPTIONS.to_owned(), any(&options))].into()
}

fn one_endpoint(name: &str, at: Option<Address>) -> eds::ClusterLoadAssignment {
    let endpoint = eds::Endpoint { address: at, ..Default::default() };
    let endpoint = eds::LbEndpoint {
        host_identifier: Some(eds::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    };
    let locality = eds::LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..Default::default() };
    eds::ClusterLoadAssignment { cluster_name: name.to_owned(), endpoints: vec![locality], ..Default::default() }
}

/// The families in which names are resolved: those that the node has.
pub(crate) fn dns_family(scope: &Scope<'_>) -> DnsLookupFamily {
    match &scope.wildcards()[..] {
        [one] if one.is_ipv4() => DnsLookupFamily::V4Only,
        [_] => DnsLookupFamily::V6Only,
        _ => DnsLookupFamily::All,
    }
}

fn resource(upstream: &envoy::Cluster) -> Resource {
    Resource::new(upstream.name.as_str(), upstream)
}

// === impl Discovery ===

impl Discovery {
    fn envoy_type(self) -> DiscoveryType {
        match self {
            Self::Eds => DiscoveryType::Eds,
            Self::OriginalDestination => DiscoveryType::OriginalDst,
            Self::StrictDns => DiscoveryType::StrictDns,
            Self::LogicalDns => DiscoveryType::LogicalDns,
            // Replaced by a type of its own.
            Self::Dynamic => DiscoveryType::Static,
        }
    }
}
