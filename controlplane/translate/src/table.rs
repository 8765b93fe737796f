//! Envoy's RouteConfiguration with ordered maps: the same on the wire, but equal values have equal bytes.
//!
//! Field numbers are those of `envoy.config.route.v3`.

use api::envoy::envoy::config::core::v3::HeaderValueOption;
use api::envoy::envoy::config::route::v3 as envoy;
use api::envoy::google::protobuf::{Any, BoolValue, UInt32Value};
use std::collections::BTreeMap;

/// The routes of one listener or port.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RouteTable {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) virtual_hosts: Vec<VirtualHost>,
    #[prost(message, optional, tag = "7")]
    pub(crate) validate_clusters: Option<BoolValue>,
    #[prost(message, optional, tag = "11")]
    pub(crate) max_direct_response_body_size_bytes: Option<UInt32Value>,
    #[prost(bool, tag = "14")]
    pub(crate) ignore_port_in_host_matching: bool,
}

/// The routes of some authorities.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct VirtualHost {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) domains: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) routes: Vec<Route>,
    #[prost(enumeration = "envoy::virtual_host::TlsRequirementType", tag = "4")]
    pub(crate) require_tls: i32,
    #[prost(bool, tag = "14")]
    pub(crate) include_request_attempt_count: bool,
}

/// A route.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Route {
    #[prost(string, tag = "14")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "1")]
    pub(crate) matches: Option<envoy::RouteMatch>,
    #[prost(message, repeated, tag = "9")]
    pub(crate) request_headers_to_add: Vec<HeaderValueOption>,
    #[prost(string, repeated, tag = "12")]
    pub(crate) request_headers_to_remove: Vec<String>,
    #[prost(message, repeated, tag = "10")]
    pub(crate) response_headers_to_add: Vec<HeaderValueOption>,
    #[prost(string, repeated, tag = "11")]
    pub(crate) response_headers_to_remove: Vec<String>,
    #[prost(btree_map = "string, message", tag = "13")]
    pub(crate) by_filter: BTreeMap<String, Any>,
    #[prost(string, tag = "19")]
    pub(crate) stat_prefix: String,
    #[prost(oneof = "envoy::route::Action", tags = "2, 3, 7, 17, 18")]
    pub(crate) action: Option<envoy::route::Action>,
}
