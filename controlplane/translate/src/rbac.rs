//! Envoy's RBAC filters with ordered maps: the same on the wire, but equal values have equal bytes.
//!
//! Field numbers are those of `envoy.config.rbac.v3` and of the two filters.

use api::envoy::envoy::config::rbac::v3 as envoy;
use prost::Name;
use std::collections::BTreeMap;

/// Policies of one action.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Rules {
    #[prost(enumeration = "envoy::rbac::Action", tag = "1")]
    pub(crate) action: i32,
    #[prost(btree_map = "string, message", tag = "2")]
    pub(crate) policies: BTreeMap<String, envoy::Policy>,
}

/// The filter of requests.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HttpRbac {
    #[prost(message, optional, tag = "1")]
    pub(crate) rules: Option<Rules>,
    #[prost(message, optional, tag = "2")]
    pub(crate) shadow_rules: Option<Rules>,
    #[prost(string, tag = "3")]
    pub(crate) shadow_rules_stat_prefix: String,
}

/// The filter of connections.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct NetworkRbac {
    #[prost(message, optional, tag = "1")]
    pub(crate) rules: Option<Rules>,
    #[prost(message, optional, tag = "2")]
    pub(crate) shadow_rules: Option<Rules>,
    #[prost(string, tag = "3")]
    pub(crate) stat_prefix: String,
    #[prost(string, tag = "5")]
    pub(crate) shadow_rules_stat_prefix: String,
}

impl Name for HttpRbac {
    const NAME: &'static str = "RBAC";
    const PACKAGE: &'static str = "envoy.extensions.filters.http.rbac.v3";
    fn type_url() -> String {
        format!("type.googleapis.com/{}", Self::full_name())
    }
}

impl Name for NetworkRbac {
    const NAME: &'static str = "RBAC";
    const PACKAGE: &'static str = "envoy.extensions.filters.network.rbac.v3";
    fn type_url() -> String {
        format!("type.googleapis.com/{}", Self::full_name())
    }
}
