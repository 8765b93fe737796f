//! Where the bytes of a connection go.

use crate::decode::{duration, unpack};
use api::envoy::envoy::config::listener::v3::{self as proto, filter::ConfigType};
use api::envoy::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3::{
    FilterConfig as SniFilter, filter_config::PortSpecifier,
};
use api::envoy::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier};
use std::sync::Arc;
use std::time::Duration;

/// Where bytes go.
#[derive(Debug, Clone)]
pub struct StreamHandler {
    /// The upstreams with their weights; at least one, and the sum is not 0.
    pub(crate) targets: Vec<(Arc<str>, u64)>,
    /// How long a connection may carry nothing: for ever if it is 0, as the proxy does it if absent.
    pub idle: Option<Duration>,
    /// How long a connection may last.
    pub longest: Option<Duration>,
    /// Whether the same callers come to the same endpoints.
    pub by_source: bool,
    /// Through what they are carried on from there.
    pub tunnel: Option<Tunnel>,
    /// The port of the server that TLS names, where that name is resolved.
    pub named_port: Option<u16>,
}

/// Bytes are carried in an HTTP request to the upstream, which brings them to somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// To whom: `HOST:PORT`.
    pub to: Arc<str>,
    /// Whether it is asked for with POST instead of CONNECT.
    pub by_post: bool,
}

// === impl StreamHandler ===

impl StreamHandler {
    pub(crate) fn parse(proxy: TcpProxy) -> Result<Self, String> {
        let targets: Vec<(Arc<str>, u64)> = match proxy.cluster_specifier {
            Some(ClusterSpecifier::Cluster(upstream)) => vec![(upstream.into(), 1)],
            Some(ClusterSpecifier::WeightedClusters(weighted)) => {
                weighted.clusters.into_iter().map(|one| (one.name.into(), one.weight.into())).collect()
            }
            None => return Err("tcp_proxy: cluster or weighted_clusters is expected".into()),
        };
        if targets.iter().all(|(_, weight)| *weight == 0) {
            return Err("tcp_proxy: a sum of weights greater than 0 is expected".into());
        }
        Ok(Self {
            targets,
            idle: duration(proxy.idle_timeout.as_ref()),
            longest: duration(proxy.max_downstream_connection_duration.as_ref()),
            by_source: !proxy.hash_policy.is_empty(),
            tunnel: proxy
                .tunneling_config
                .map(|tunnel| Tunnel { to: tunnel.hostname.into(), by_post: tunnel.use_post }),
            named_port: None,
        })
    }

    /// One of the upstreams by weight, `draw` being by chance.
    pub fn target(&self, draw: u64) -> &Arc<str> {
        let mut left = draw % self.targets.iter().map(|(_, weight)| weight).sum::<u64>().max(1);
        let is_it = |(_, weight): &&(Arc<str>, u64)| {
            let found = left < *weight;
            left = left.saturating_sub(*weight);
            found
        };
        &self.targets.iter().find(is_it).unwrap_or(&self.targets[0]).0
    }
}

/// The port at which the filter resolves the server that TLS names.
pub(crate) fn named_port(filter: &proto::Filter) -> Result<u16, String> {
    let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
        return Err(format!("filter {:?}: typed_config is expected", filter.name));
    };
    let Some(config) = unpack::<SniFilter>(any) else {
        return Err(format!("filter {:?}: sni_dynamic_forward_proxy is accepted before another", filter.name));
    };
    let Some(PortSpecifier::PortValue(port)) = config.map_err(|error| error.to_string())?.port_specifier else {
        return Err("sni_dynamic_forward_proxy: port_value is expected".into());
    };
    u16::try_from(port).map_err(|_| format!("sni_dynamic_forward_proxy: port_value {port}"))
}
