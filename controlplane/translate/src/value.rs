//! Envoy's small value messages, wrapped as every field of a message is.
#![allow(clippy::unnecessary_wraps)]

use api::envoy::envoy::config::core::v3 as core;
use api::envoy::envoy::r#type::v3::{FractionalPercent, Percent, fractional_percent::DenominatorType};
use api::envoy::google::protobuf::{BoolValue, Duration, Struct, UInt32Value, Value, value::Kind};
use config::Percentage;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// The bootstrap upstream through which a proxy gets its own certificate: its agent's Unix socket, as with Istio.
const SDS_UPSTREAM: &str = "sds-grpc";

/// How long a listener or an upstream of Envoy's waits for a secret before it goes on without.
const MOMENT_MS: u32 = 1000;

pub(crate) fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(crate) fn flag(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

pub(crate) fn milliseconds(count: u32) -> Option<Duration> {
    Some(Duration { seconds: i64::from(count / 1000), nanos: (count % 1000 * 1_000_000).cast_signed() })
}

pub(crate) fn time(time: std::time::Duration) -> Option<Duration> {
    Some(Duration { seconds: time.as_secs().cast_signed(), nanos: time.subsec_nanos().cast_signed() })
}

/// What stands in a file, which the proxy reads.
pub(crate) fn file(path: &str) -> core::DataSource {
    let specifier = Some(core::data_source::Specifier::Filename(path.to_owned()));
    core::DataSource { specifier, ..core::DataSource::default() }
}

pub(crate) fn percent(value: f64) -> Option<Percent> {
    Some(Percent { value })
}

pub(crate) fn fraction(share: Percentage) -> Option<FractionalPercent> {
    Some(FractionalPercent { numerator: share.0, denominator: DenominatorType::Million.into() })
}

pub(crate) fn fraction_at_runtime(share: Percentage) -> Option<core::RuntimeFractionalPercent> {
    Some(core::RuntimeFractionalPercent { default_value: fraction(share), ..Default::default() })
}

/// A struct of one field: with more, Envoy's hash map would encode them in a random order.
pub(crate) fn one_field(key: &str, value: &str) -> Struct {
    let value = Value { kind: Some(Kind::StringValue(value.to_owned())) };
    Struct { fields: [(key.to_owned(), value)].into() }
}

/// An address by text: an IP address, or a name for upstreams that resolve names.
pub(crate) fn address(host: String, port: u16) -> Option<core::Address> {
    let socket = core::SocketAddress {
        address: host,
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port.into())),
        ..core::SocketAddress::default()
    };
    Some(core::Address { address: Some(core::address::Address::SocketAddress(socket)) })
}

pub(crate) fn socket(at: SocketAddr) -> Option<core::Address> {
    address(at.ip().to_string(), at.port())
}

pub(crate) fn pipe(path: &Path) -> Option<core::Address> {
    let pipe = core::Pipe { path: path.to_string_lossy().into_owned(), mode: 0 };
    Some(core::Address { address: Some(core::address::Address::Pipe(pipe)) })
}

/// An address as it stands in an authority: IPv6 in brackets.
pub(crate) fn authority(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// "Ask for it on this stream."
pub(crate) fn ads() -> Option<core::ConfigSource> {
    source(core::config_source::ConfigSourceSpecifier::Ads(core::AggregatedConfigSource {}))
}

/// The same, for what may be missing while everything beside it works: without it, connections are refused.
pub(crate) fn ads_for_a_moment() -> Option<core::ConfigSource> {
    ads().map(|source| core::ConfigSource { initial_fetch_timeout: milliseconds(MOMENT_MS), ..source })
}

/// "Ask your agent for it": keys never cross xDS.
pub(crate) fn agent() -> Option<core::ConfigSource> {
    let upstream = core::grpc_service::EnvoyGrpc {
        cluster_name: SDS_UPSTREAM.to_owned(),
        ..core::grpc_service::EnvoyGrpc::default()
    };
    let service = core::GrpcService {
        target_specifier: Some(core::grpc_service::TargetSpecifier::EnvoyGrpc(upstream)),
        ..core::GrpcService::default()
    };
    source(core::config_source::ConfigSourceSpecifier::ApiConfigSource(core::ApiConfigSource {
        api_type: core::api_config_source::ApiType::Grpc.into(),
        transport_api_version: core::ApiVersion::V3.into(),
        grpc_services: vec![service],
        set_node_on_first_message_only: true,
        ..core::ApiConfigSource::default()
    }))
}

fn source(specifier: core::config_source::ConfigSourceSpecifier) -> Option<core::ConfigSource> {
    Some(core::ConfigSource {
        // Wait for it as long as it takes: to go on without would be to serve half a configuration.
        initial_fetch_timeout: milliseconds(0),
        resource_api_version: core::ApiVersion::V3.into(),
        config_source_specifier: Some(specifier),
        ..core::ConfigSource::default()
    })
}
