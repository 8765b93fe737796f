//! Envoy's ClusterLoadAssignment with ordered maps: the same on the wire, but equal values have equal bytes.
//!
//! Field numbers are those of `envoy.config.endpoint.v3` and `envoy.config.core.v3.Metadata`.

use api::envoy::envoy::config::core::v3::Locality;
use api::envoy::envoy::config::endpoint::v3::Endpoint;
use api::envoy::google::protobuf::{Struct, UInt32Value};
use std::collections::BTreeMap;

/// The endpoints of one upstream.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Assignment {
    #[prost(string, tag = "1")]
    pub(crate) cluster_name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) endpoints: Vec<LocalityEndpoints>,
}

/// Those of one locality and priority.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct LocalityEndpoints {
    #[prost(message, optional, tag = "1")]
    pub(crate) locality: Option<Locality>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) endpoints: Vec<WeightedEndpoint>,
    #[prost(message, optional, tag = "3")]
    pub(crate) weight: Option<UInt32Value>,
    #[prost(uint32, tag = "5")]
    pub(crate) priority: u32,
}

/// One of them.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WeightedEndpoint {
    #[prost(message, optional, tag = "1")]
    pub(crate) endpoint: Option<Endpoint>,
    #[prost(message, optional, tag = "3")]
    pub(crate) metadata: Option<Metadata>,
    #[prost(message, optional, tag = "4")]
    pub(crate) weight: Option<UInt32Value>,
}

/// What is known of it beside its address, by filter.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Metadata {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(crate) by_filter: BTreeMap<String, Struct>,
}

/// The part of Envoy's Cluster that holds endpoints; appended to the rest, it completes the message.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Assigned {
    #[prost(message, optional, tag = "33")]
    pub(crate) load_assignment: Option<Assignment>,
}
