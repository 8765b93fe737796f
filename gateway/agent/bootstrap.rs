//! The bootstrap that makes an unmodified Envoy a sidecar of ours.
//!
//! It names two servers: the control plane, over mTLS, for everything but keys; and the agent, over a Unix socket,
//! for the workload's own certificate. (Envoy: `envoy.config.bootstrap.v3.Bootstrap`, in its JSON form.)

use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;

/// The cluster through which Envoy asks the agent for its certificate, named as Istio names it.
pub const SDS_CLUSTER: &str = "sds-grpc";
const XDS_CLUSTER: &str = "xds-grpc";
const CONNECT_TIMEOUT: &str = "5s";

/// What the bootstrap is made from.
pub struct Bootstrap<'a> {
    /// The node that Envoy presents, in Envoy's JSON form.
    pub node: Value,
    /// The control plane.
    pub control_plane: SocketAddr,
    /// The SPIFFE id that the control plane must show.
    pub control_plane_identity: String,
    /// The PEM roots of the own trust domain.
    pub roots: &'a str,
    /// The agent's Unix socket.
    pub sds: &'a Path,
    /// Envoy's own admin address, on loopback.
    pub admin: SocketAddr,
    /// Where Envoy shows its statistics to Prometheus.
    pub metrics: SocketAddr,
    /// Delta discovery, or the state of the world.
    pub delta: bool,
}

impl Bootstrap<'_> {
    /// The bootstrap in Envoy's JSON form.
    pub fn to_json(&self) -> Value {
        json!({
            "node": self.node,
            "admin": {"address": address(self.admin)},
            "dynamic_resources": {
                "ads_config": {
                    "api_type": if self.delta { "DELTA_GRPC" } else { "GRPC" },
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": true,
                    "grpc_services": [{"envoy_grpc": {"cluster_name": XDS_CLUSTER}}],
                },
                "cds_config": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"},
                "lds_config": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"},
            },
            "static_resources": {
                "clusters": [self.xds_cluster(), self.sds_cluster(), self.admin_cluster()],
                "listeners": [self.metrics_listener()],
            },
        })
    }

    fn xds_cluster(&self) -> Value {
        json!({
            "name": XDS_CLUSTER,
            "type": "STATIC",
            "connect_timeout": CONNECT_TIMEOUT,
            "typed_extension_protocol_options": http2(),
            "load_assignment": assignment(XDS_CLUSTER, &address(self.control_plane)),
            "transport_socket": {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "sni": "controlplane",
                    "common_tls_context": {
                        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
                        "alpn_protocols": ["h2"],
                        "tls_certificate_sds_secret_configs": [{
                            "name": "default",
                            "sds_config": {
                                "resource_api_version": "V3",
                                "initial_fetch_timeout": "0s",
                                "api_config_source": {
                                    "api_type": "GRPC",
                                    "transport_api_version": "V3",
                                    "set_node_on_first_message_only": true,
                                    "grpc_services": [{"envoy_grpc": {"cluster_name": SDS_CLUSTER}}],
                                },
                            },
                        }],
                        "validation_context": {
                            "trusted_ca": {"inline_string": self.roots},
                            "match_typed_subject_alt_names": [
                                {"san_type": "URI", "matcher": {"exact": self.control_plane_identity}},
                            ],
                        },
                    },
                },
            },
            "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 300}},
        })
    }

    fn sds_cluster(&self) -> Value {
        json!({
            "name": SDS_CLUSTER,
            "type": "STATIC",
            "connect_timeout": CONNECT_TIMEOUT,
            "typed_extension_protocol_options": http2(),
            "load_assignment": assignment(SDS_CLUSTER, &json!({"pipe": {"path": self.sds}})),
        })
    }

    fn admin_cluster(&self) -> Value {
        json!({
            "name": "prometheus_stats",
            "type": "STATIC",
            "connect_timeout": CONNECT_TIMEOUT,
            "load_assignment": assignment("prometheus_stats", &address(self.admin)),
        })
    }

    /// Lets Prometheus see Envoy's statistics, and nothing else of its admin surface.
    fn metrics_listener(&self) -> Value {
        json!({
            "name": "prometheus_stats",
            "address": address(self.metrics),
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "stat_prefix": "stats",
                    "route_config": {"virtual_hosts": [{
                        "name": "backend",
                        "domains": ["*"],
                        "routes": [
                            {"match": {"path": "/metrics"}, "route": {"cluster": "prometheus_stats", "prefix_rewrite": "/stats/prometheus"}},
                            {"match": {"path": "/stats/prometheus"}, "route": {"cluster": "prometheus_stats"}},
                            {"match": {"path": "/healthz/ready"}, "route": {"cluster": "prometheus_stats", "prefix_rewrite": "/ready"}},
                        ],
                    }]},
                    "http_filters": [{
                        "name": "envoy.filters.http.router",
                        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                    }],
                },
            }]}],
        })
    }
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn assignment(name: &str, address: &Value) -> Value {
    json!({"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]})
}

fn http2() -> Value {
    json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        },
    })
}
