//! CDS: the upstreams. In Envoy's words an upstream is a cluster; this file alone knows both words.

use crate::any::any;
use crate::assignment::Assigned;
use crate::scope::{Inbound, Scope, Target};
use crate::value::{ads, milliseconds, number, one_field, pipe, socket};
use crate::{endpoint, tls};
use api::envoy::envoy::config::cluster::v3 as envoy;
use api::envoy::envoy::config::core::v3::{
    Address, Http1ProtocolOptions, Http2ProtocolOptions, Metadata, TransportSocket, transport_socket::ConfigType,
};
use api::envoy::envoy::config::endpoint::v3 as eds;
use api::envoy::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use api::envoy::envoy::extensions::upstreams::http::v3 as http;
use api::envoy::google::protobuf::{ListValue, Struct, Value, value::Kind};
use envoy::cluster::{
    ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, EdsClusterConfig, LbPolicy, TransportSocketMatch,
};
use http::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig, explicit_http_config::ProtocolConfig,
};
use model::{Catalog, Host, Location, Port, Protocol, Resolution, Service, Sni};
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
}

const CONNECT_TIMEOUT_MS: u32 = 10_000;
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

pub(crate) fn resources(scope: &Scope<'_>) -> Vec<Resource> {
    let outbound = scope.ports().map(|(service, port)| outbound(scope, service, port));
    let inbound = scope.inbound.values().map(|inbound| resource(&inbound_upstream(inbound)));
    let mut fixed = vec![original_destination(PASSTHROUGH), black_hole()];
    if scope.is_redirected() {
        fixed.push(original_destination(INBOUND_PASSTHROUGH));
    }
    outbound.chain(inbound).chain(fixed.iter().map(resource)).collect()
}

/// Istio's name for requests to `port` of `service`.
pub(crate) fn outbound_name(service: &Service, port: &Port) -> String {
    format!("outbound|{}||{}", port.number, service.key.host)
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

fn outbound(scope: &Scope<'_>, service: &Service, port: &Port) -> Resource {
    let discovery = discovery(scope, service);
    let name = outbound_name(service, port);
    let mut upstream = envoy::Cluster {
        transport_socket_matches: transport_sockets(scope.catalog, service, port),
        typed_extension_protocol_options: protocol_options(port.protocol),
        circuit_breakers: Some(unlimited()),
        ..base(&name, discovery.envoy_type(), LbPolicy::LeastRequest)
    };
    match discovery {
        Discovery::Eds => {
            upstream.eds_cluster_config = Some(EdsClusterConfig { eds_config: ads(), service_name: name });
            resource(&upstream)
        }
        Discovery::OriginalDestination => {
            upstream.set_lb_policy(LbPolicy::ClusterProvided);
            resource(&upstream)
        }
        Discovery::StrictDns | Discovery::LogicalDns => {
            upstream.set_dns_lookup_family(dns_family(scope));
            let assigned = Assigned { load_assignment: Some(endpoint::assignment(scope, service, port)) };
            let mut body = upstream.encode_to_vec();
            body.extend(assigned.encode_to_vec());
            Resource::from_body(name, body.into())
        }
    }
}

/// Which transport each endpoint wants, by its metadata: mTLS only if it is known who should answer.
fn transport_sockets(catalog: &Catalog, service: &Service, port: &Port) -> Vec<TransportSocketMatch> {
    let expected = expected(catalog, service);
    let plain = TransportSocketMatch {
        name: "tlsMode-disabled".to_owned(),
        r#match: Some(Struct::default()),
        transport_socket: Some(TransportSocket {
            name: "envoy.transport_sockets.raw_buffer".to_owned(),
            config_type: Some(ConfigType::TypedConfig(any(&RawBuffer::default()))),
        }),
    };
    if expected.is_empty() {
        return vec![plain];
    }
    let sni = Sni { port: port.number, group: None, host: service.key.host.clone() };
    let mutual = TransportSocketMatch {
        name: "tlsMode-istio".to_owned(),
        r#match: Some(one_field("tlsMode", "istio")),
        transport_socket: Some(tls::upstream(sni.to_string(), port.protocol, &expected)),
    };
    vec![mutual, plain]
}

/// Who may answer for `service`: its local endpoints, what its owner declares, and the peers' groups, each peer
/// speaking for its own trust domain only.
fn expected(catalog: &Catalog, service: &Service) -> BTreeSet<String> {
    let local = service.endpoints.iter().filter(|endpoint| endpoint.mtls).filter_map(|e| e.identity.as_ref());
    let remote = service.imports.values().flat_map(|import| {
        let domain = catalog.peers.get(&import.cluster).map(|peer| &peer.cluster.trust_domain);
        let identities = import.export.groups.iter().flat_map(|group| &group.identities);
        identities.filter(move |identity| Some(&identity.trust_domain) == domain)
    });
    let shown: BTreeSet<_> = local.chain(remote).collect();
    shown.iter().map(ToString::to_string).chain(service.subject_alt_names.iter().cloned()).collect()
}

fn inbound_upstream(inbound: &Inbound) -> envoy::Cluster {
    let at = match &inbound.target {
        Target::Socket(address) => socket(*address),
        Target::Unix(path) => pipe(path),
    };
    let name = inbound_name(inbound.port);
    envoy::Cluster {
        load_assignment: Some(one_endpoint(&name, at)),
        metadata: inbound.service.as_ref().map(service_metadata),
        typed_extension_protocol_options: protocol_options(inbound.protocol),
        circuit_breakers: Some(unlimited()),
        ..base(&name, DiscoveryType::Static, LbPolicy::RoundRobin)
    }
}

/// For the telemetry of the workload's proxy, where Istio puts it: `istio: {services: [{host: HOST}]}`.
fn service_metadata(host: &Host) -> Metadata {
    let service = Value { kind: Some(Kind::StructValue(one_field("host", host.as_str()))) };
    let services = Value { kind: Some(Kind::ListValue(ListValue { values: vec![service] })) };
    let fields = Struct { fields: [("services".to_owned(), services)].into() };
    Metadata { filter_metadata: [("istio".to_owned(), fields)].into(), ..Default::default() }
}

fn original_destination(name: &str) -> envoy::Cluster {
    let as_asked = UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
        http_protocol_options: Some(Http1ProtocolOptions::default()),
        http2_protocol_options: Some(Http2ProtocolOptions::default()),
        ..Default::default()
    });
    envoy::Cluster {
        typed_extension_protocol_options: http_options(as_asked),
        circuit_breakers: Some(unlimited()),
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

/// HTTP/2 or HTTP/1.1 where the port says so; else what Envoy does of itself.
fn protocol_options(protocol: Protocol) -> ProtocolOptions {
    let explicit = match protocol {
        Protocol::Http => ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default()),
        Protocol::Http2 | Protocol::Grpc => ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default()),
        Protocol::Tls | Protocol::Tcp | Protocol::Auto | Protocol::Udp => return ProtocolOptions::default(),
    };
    http_options(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(explicit) }))
}

type ProtocolOptions = std::collections::HashMap<String, api::envoy::google::protobuf::Any>;

fn http_options(upstream: UpstreamProtocolOptions) -> ProtocolOptions {
    let options = http::HttpProtocolOptions { upstream_protocol_options: Some(upstream), ..Default::default() };
    [(HTTP_OPTIONS.to_owned(), any(&options))].into()
}

/// Istio's default: no limit. Envoy's own (1024 connections, 3 retries) would refuse ordinary load.
fn unlimited() -> envoy::CircuitBreakers {
    let thresholds = envoy::circuit_breakers::Thresholds {
        max_connections: number(u32::MAX),
        max_pending_requests: number(u32::MAX),
        max_requests: number(u32::MAX),
        max_retries: number(u32::MAX),
        ..Default::default()
    };
    envoy::CircuitBreakers { thresholds: vec![thresholds], ..Default::default() }
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

fn dns_family(scope: &Scope<'_>) -> DnsLookupFamily {
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
        }
    }
}
