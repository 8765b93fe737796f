//! What makes requests alike, as Envoy has it.

use crate::value::time;
use api::envoy::envoy::config::route::v3::route_action::HashPolicy;
use api::envoy::envoy::config::route::v3::route_action::hash_policy::{
    ConnectionProperties, Cookie, CookieAttribute, Header, PolicySpecifier, QueryParameter,
};
use config::{Choice, HashKey, PortPolicy};

/// The hash policy of a route to a service that is spoken to so.
pub(crate) fn policy(policy: &PortPolicy) -> Option<HashPolicy> {
    let Choice::Hash { key, .. } = &policy.load_balancer.as_ref()?.choice else { return None };
    let specifier = match key {
        HashKey::Header(name) => PolicySpecifier::Header(Header { header_name: name.clone(), ..Default::default() }),
        HashKey::Query(name) => PolicySpecifier::QueryParameter(QueryParameter { name: name.clone() }),
        HashKey::SourceIp => PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true }),
        HashKey::Cookie { name, path, ttl, attributes } => PolicySpecifier::Cookie(Cookie {
            name: name.clone(),
            ttl: ttl.and_then(time),
            path: path.clone(),
            attributes: attributes
                .iter()
                .map(|(name, value)| CookieAttribute { name: name.clone(), value: value.clone() })
                .collect(),
        }),
    };
    Some(HashPolicy { policy_specifier: Some(specifier), ..Default::default() })
}
