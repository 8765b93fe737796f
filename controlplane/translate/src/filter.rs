//! The filters that listeners are made of.

use crate::any::any;
use crate::authorization::Guard;
use crate::filter_config::{CORS, FAULT};
use crate::proxy_headers::{self, certificate};
use crate::scope::Scope;
use crate::stream::Way;
use crate::value::{ads, flag, time};
use api::envoy::envoy::config::listener::v3 as listener;
use api::envoy::envoy::config::route::v3::RouteConfiguration;
use api::envoy::envoy::extensions::filters::http::{cors::v3::Cors, fault::v3::HttpFault};
use api::envoy::envoy::extensions::filters::listener::{
    http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst, tls_inspector::v3::TlsInspector,
};
use api::envoy::envoy::extensions::filters::network::http_connection_manager::v3 as http;
use api::envoy::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use api::envoy::envoy::r#type::v3::{
    HashPolicy,
    hash_policy::{PolicySpecifier, SourceIp},
};
use config::PathNormalization;
use http::http_connection_manager::{
    CodecType, ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier, SetCurrentClientCertDetails,
    UpgradeConfig,
};
use prost::{Message, Name};
use tcp::tcp_proxy::{ClusterSpecifier, TunnelingConfig, weighted_cluster::ClusterWeight};

/// What a server's proxy calls itself in responses, as Istio's does; a caller's calls itself by Envoy's own name.
const SERVER_NAME: &str = "istio-envoy";

/// Requests from the workload: routes by name. What a route says of faults and CORS, these filters do.
pub(crate) fn http_outbound(scope: &Scope<'_>, stat_prefix: String, route_name: String) -> listener::Filter {
    let rds = http::Rds { config_source: ads(), route_config_name: route_name };
    let mut manager = http_manager(scope, stat_prefix, RouteSpecifier::Rds(rds));
    manager.http_filters.splice(0..0, [step(FAULT, &HttpFault::default()), step(CORS, &Cors::default())]);
    finished(scope, manager)
}

/// Requests from outside of the mesh: what they say of where they come from counts for nothing.
pub(crate) fn http_edge(scope: &Scope<'_>, stat_prefix: String, route_name: String, guard: &Guard) -> listener::Filter {
    let rds = http::Rds { config_source: ads(), route_config_name: route_name };
    let topology = &scope.intent.mesh.proxies.topology;
    let mut manager = http::HttpConnectionManager {
        server_name: SERVER_NAME.to_owned(),
        use_remote_address: flag(true),
        xff_num_trusted_hops: topology.trusted_proxies,
        forward_client_cert_details: certificate(topology.client_certificate, ForwardClientCertDetails::SanitizeSet),
        set_current_client_cert_details: Some(SetCurrentClientCertDetails {
            subject: flag(true),
            uri: true,
            dns: true,
            ..Default::default()
        }),
        ..http_manager(scope, stat_prefix, RouteSpecifier::Rds(rds))
    };
    let steps = [step(FAULT, &HttpFault::default()), step(CORS, &Cors::default())];
    manager.http_filters.splice(0..0, guard.http.iter().cloned().chain(steps));
    finished(scope, manager)
}

/// Requests to the workload: the application learns from `x-forwarded-client-cert` who asks, at the end of what the caller
/// says it knew from others; from who comes in the clear nothing is believed there.
pub(crate) fn http_inbound(
    scope: &Scope<'_>,
    stat_prefix: String,
    routes: RouteConfiguration,
    guard: &Guard,
) -> listener::Filter {
    let said = scope.intent.mesh.proxies.headers.client_certificate;
    let mut manager = http::HttpConnectionManager {
        server_name: SERVER_NAME.to_owned(),
        forward_client_cert_details: certificate(said, ForwardClientCertDetails::AppendForward),
        set_current_client_cert_details: Some(SetCurrentClientCertDetails {
            subject: flag(true),
            uri: true,
            ..Default::default()
        }),
        ..http_manager(scope, stat_prefix, RouteSpecifier::RouteConfig(routes))
    };
    manager.http_filters.splice(0..0, guard.http.iter().cloned());
    finished(scope, manager)
}

/// Bytes, to `upstream`.
pub(crate) fn tcp(upstream: String) -> listener::Filter {
    tcp_way(Way { upstreams: vec![(upstream, 1)], ..Way::default() })
}

/// Bytes, as `way` says.
pub(crate) fn tcp_way(way: Way) -> listener::Filter {
    let stat_prefix = way.upstreams.first().map(|(name, _)| name.clone()).unwrap_or_default();
    let weighted = |(name, weight): (String, u32)| ClusterWeight { name, weight, ..Default::default() };
    let specifier = match <[_; 1]>::try_from(way.upstreams) {
        Ok([(only, _)]) => ClusterSpecifier::Cluster(only),
        Err(several) => {
            let clusters = several.into_iter().map(weighted).collect();
            ClusterSpecifier::WeightedClusters(tcp::tcp_proxy::WeightedCluster { clusters })
        }
    };
    let source = PolicySpecifier::SourceIp(SourceIp {});
    let proxy = tcp::TcpProxy {
        stat_prefix,
        cluster_specifier: Some(specifier),
        idle_timeout: way.idle.and_then(time),
        max_downstream_connection_duration: way.longest.and_then(time),
        tunneling_config: way.tunnel.map(|tunnel| TunnelingConfig {
            hostname: authority(&tunnel.host, tunnel.port),
            use_post: tunnel.by_post,
            ..Default::default()
        }),
        hash_policy: way.by_source.then_some(HashPolicy { policy_specifier: Some(source) }).into_iter().collect(),
        ..Default::default()
    };
    filter("envoy.filters.network.tcp_proxy", &proxy)
}

/// `HOST:PORT`, with brackets where the host is an IPv6 address.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Finds out where a redirected connection was going.
pub(crate) fn original_destination() -> listener::ListenerFilter {
    listener_filter("envoy.filters.listener.original_dst", &OriginalDst::default())
}

/// Looks for TLS, and reads its server name and ALPN.
pub(crate) fn tls_inspector() -> listener::ListenerFilter {
    listener_filter("envoy.filters.listener.tls_inspector", &TlsInspector::default())
}

/// Looks for HTTP in the clear.
pub(crate) fn http_inspector() -> listener::ListenerFilter {
    listener_filter("envoy.filters.listener.http_inspector", &HttpInspector::default())
}

fn http_manager(scope: &Scope<'_>, stat_prefix: String, routes: RouteSpecifier) -> http::HttpConnectionManager {
    let (paths, headers) = (scope.intent.mesh.paths, &scope.intent.mesh.proxies.headers);
    http::HttpConnectionManager {
        codec_type: CodecType::Auto.into(),
        stat_prefix,
        http_filters: vec![step("envoy.filters.http.router", &proxy_headers::router(headers))],
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".to_owned(), ..Default::default() }],
        // What is authorized and routed must be what the application sees.
        normalize_path: flag(paths >= PathNormalization::Base),
        merge_slashes: paths >= PathNormalization::MergeSlashes,
        path_with_escaped_slashes_action: escaped_slashes(paths).into(),
        strip_trailing_host_dot: true,
        use_remote_address: flag(false),
        route_specifier: Some(routes),
        ..Default::default()
    }
}

fn escaped_slashes(paths: PathNormalization) -> PathWithEscapedSlashesAction {
    match paths {
        PathNormalization::DecodeAndMergeSlashes => PathWithEscapedSlashesAction::UnescapeAndForward,
        _ => PathWithEscapedSlashesAction::KeepUnchanged,
    }
}

fn step<M: Message + Name>(name: &str, config: &M) -> http::HttpFilter {
    let config = http::http_filter::ConfigType::TypedConfig(any(config));
    http::HttpFilter { name: name.to_owned(), config_type: Some(config), ..Default::default() }
}

fn finished(scope: &Scope<'_>, manager: http::HttpConnectionManager) -> listener::Filter {
    let manager = proxy_headers::tell(manager, &scope.intent.mesh.proxies.headers);
    filter("envoy.filters.network.http_connection_manager", &manager)
}

fn filter<M: Message + Name>(name: &str, config: &M) -> listener::Filter {
    let config = listener::filter::ConfigType::TypedConfig(any(config));
    listener::Filter { name: name.to_owned(), config_type: Some(config) }
}

fn listener_filter<M: Message + Name>(name: &str, config: &M) -> listener::ListenerFilter {
    let config = listener::listener_filter::ConfigType::TypedConfig(any(config));
    listener::ListenerFilter { name: name.to_owned(), filter_disabled: None, config_type: Some(config) }
}
