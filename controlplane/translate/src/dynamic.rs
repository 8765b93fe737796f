//! Names that are resolved when somebody asks for them (DYNAMIC_DNS): by the authority of a request, or by the server
//! name of TLS. Envoy calls it the dynamic forward proxy.
//!
//! ```text
//! request:    … route to the upstream -> filter resolves the authority     -> upstream connects there
//! connection: … chain of the name     -> filter resolves the server name   -> upstream connects there
//! ```
//! Both filters and the upstream share one bounded cache of names.

use crate::any::any;
use crate::cluster::{self, HTTP_OPTIONS};
use crate::listener::Listeners;
use crate::scope::Scope;
use crate::value::number;
use api::envoy::envoy::config::cluster::v3::{self as envoy, cluster::ClusterDiscoveryType};
use api::envoy::envoy::config::core::v3::{TrafficDirection, UpstreamHttpProtocolOptions};
use api::envoy::envoy::config::listener::v3 as listener;
use api::envoy::envoy::extensions::clusters::dynamic_forward_proxy::v3 as upstream;
use api::envoy::envoy::extensions::common::dynamic_forward_proxy::v3::DnsCacheConfig;
use api::envoy::envoy::extensions::filters::http::dynamic_forward_proxy::v3 as http;
use api::envoy::envoy::extensions::filters::network::http_connection_manager::v3 as manager;
use api::envoy::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3 as sni;
use api::envoy::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier};
use api::envoy::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use api::envoy::google::protobuf::Any;
use config::ClientTls;
use envoy::cluster::{CustomClusterType, DnsLookupFamily, LbPolicy};
use listener::filter::ConfigType;
use model::{Resolution, Service};
use prost::{Message, Name};
use std::collections::BTreeMap;

/// The name of the cache.
const CACHE: &str = "dynamic_dns";
/// How many names are known at once.
const MOST_NAMES: u32 = 1024;
const UPSTREAM: &str = "envoy.clusters.dynamic_forward_proxy";
const HTTP_FILTER: &str = "envoy.filters.http.dynamic_forward_proxy";
const SNI_FILTER: &str = "envoy.filters.network.sni_dynamic_forward_proxy";
const ROUTER: &str = "envoy.filters.http.router";

/// Whether the service's names are resolved when they are asked for.
pub(crate) fn is_dynamic(service: &Service) -> bool {
    service.resolution == Resolution::DynamicDns
}

/// Makes `upstream` one that connects to the name that was resolved. Where TLS is spoken to it, the server must show that
/// very name, unless `tls` says which.
pub(crate) fn become_dynamic(upstream: &mut envoy::Cluster, family: DnsLookupFamily, tls: Option<&ClientTls>) {
    let says_which = |tls: &ClientTls| tls.insecure || !tls.subject_alt_names.is_empty() || tls.sni.is_some();
    let is_checked = !tls.is_some_and(says_which);
    upstream.set_lb_policy(LbPolicy::ClusterProvided);
    upstream.lb_config = None;
    upstream.cluster_discovery_type = Some(ClusterDiscoveryType::ClusterType(kind(family, is_checked)));
    let options = upstream.typed_extension_protocol_options.get_mut(HTTP_OPTIONS);
    if let Some(options) = options.filter(|_| is_checked)
        && let Ok(mut http) = HttpProtocolOptions::decode(&options.value[..])
    {
        http.upstream_http_protocol_options =
            Some(UpstreamHttpProtocolOptions { auto_sni: true, auto_san_validation: true, ..Default::default() });
        *options = any(&http);
    }
}

fn kind(family: DnsLookupFamily, is_checked: bool) -> CustomClusterType {
    let config = upstream::ClusterConfig {
        allow_insecure_cluster_options: !is_checked,
        cluster_implementation_specifier: Some(
            upstream::cluster_config::ClusterImplementationSpecifier::DnsCacheConfig(cache(family)),
        ),
        ..Default::default()
    };
    CustomClusterType { name: UPSTREAM.to_owned(), typed_config: Some(any(&config)) }
}

/// Gives `listeners` of the workload's own requests the filters that resolve names, if there are names to resolve.
pub(crate) fn equip(scope: &Scope<'_>, listeners: &mut Listeners) {
    let dynamic = scope.ports().filter(|(service, _)| is_dynamic(service));
    let mut ports: BTreeMap<String, u16> = BTreeMap::new();
    for (service, port) in dynamic {
        let subsets = scope.subsets(service).iter().map(|subset| subset.name.as_str());
        let names = [""].into_iter().chain(subsets);
        // A connection goes to the port that an endpoint would have.
        let target = port.target.unwrap_or(port.number);
        ports.extend(names.map(|subset| (cluster::subset_name(&service.key.host, port.number, subset), target)));
    }
    if ports.is_empty() {
        return;
    }
    let cache = cache(cluster::dns_family(scope));
    let outbound = listeners.values_mut().filter(|one| one.traffic_direction() == TrafficDirection::Outbound);
    for chain in outbound.flat_map(|one| one.filter_chains.iter_mut().chain(&mut one.default_filter_chain)) {
        chain.filters = chain.filters.drain(..).flat_map(|filter| equipped(filter, &ports, &cache)).collect();
    }
}

fn equipped(filter: listener::Filter, ports: &BTreeMap<String, u16>, cache: &DnsCacheConfig) -> Vec<listener::Filter> {
    if let Some(manager) = unpack::<manager::HttpConnectionManager>(&filter) {
        return vec![pack(filter.name, &with_filter(manager, cache))];
    }
    let port = unpack::<TcpProxy>(&filter).and_then(|proxy| match proxy.cluster_specifier? {
        ClusterSpecifier::Cluster(name) => ports.get(&name).copied(),
        ClusterSpecifier::WeightedClusters(several) => {
            several.clusters.iter().find_map(|one| ports.get(&one.name).copied())
        }
    });
    let resolving = port.map(|port| {
        let config = sni::FilterConfig {
            dns_cache_config: Some(cache.clone()),
            port_specifier: Some(sni::filter_config::PortSpecifier::PortValue(port.into())),
            ..Default::default()
        };
        pack(SNI_FILTER.to_owned(), &config)
    });
    resolving.into_iter().chain([filter]).collect()
}

/// The filter leaves requests alone whose upstream is of another kind.
fn with_filter(mut manager: manager::HttpConnectionManager, cache: &DnsCacheConfig) -> manager::HttpConnectionManager {
    let config = http::FilterConfig {
        implementation_specifier: Some(http::filter_config::ImplementationSpecifier::DnsCacheConfig(cache.clone())),
        ..Default::default()
    };
    let filter = manager::HttpFilter {
        name: HTTP_FILTER.to_owned(),
        config_type: Some(manager::http_filter::ConfigType::TypedConfig(any(&config))),
        ..Default::default()
    };
    let router = manager.http_filters.iter().position(|filter| filter.name == ROUTER);
    manager.http_filters.insert(router.unwrap_or(manager.http_filters.len()), filter);
    manager
}

fn cache(family: DnsLookupFamily) -> DnsCacheConfig {
    DnsCacheConfig {
        name: CACHE.to_owned(),
        dns_lookup_family: family.into(),
        max_hosts: number(MOST_NAMES),
        ..Default::default()
    }
}

fn unpack<M: Message + Default + Name>(filter: &listener::Filter) -> Option<M> {
    let Some(ConfigType::TypedConfig(Any { type_url, value })) = &filter.config_type else { return None };
    let is_it = type_url.ends_with(&format!("/{}", M::full_name()));
    // What was packed here can be unpacked.
    is_it.then(|| M::decode(&value[..]).ok()).flatten()
}

fn pack<M: Message + Name>(name: String, config: &M) -> listener::Filter {
    listener::Filter { name, config_type: Some(ConfigType::TypedConfig(any(config))) }
}
