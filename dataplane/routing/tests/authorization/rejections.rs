//! What cannot be enforced is rejected, so that what is enforced stays.

use api::envoy::envoy::config::core::v3::{
    Address, SocketAddress, TypedExtensionConfig, address, socket_address::PortSpecifier,
};
use api::envoy::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter::ConfigType};
use api::envoy::envoy::config::rbac::v3::{
    Permission, Policy, Principal, Rbac as Rules, permission::Rule, permission::Set, principal::Identifier,
};
use api::envoy::envoy::extensions::filters::network::rbac::v3::Rbac;
use api::envoy::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier};
use api::envoy::google::protobuf::Any;
use isthmus_routing::Resources;
use prost::{Message, Name};
use xds::{Resource, type_url};

fn filter<M: Message + Name>(name: &str, config: &M) -> Filter {
    let any = Any { type_url: M::type_url(), value: config.encode_to_vec() };
    Filter { name: name.to_owned(), config_type: Some(ConfigType::TypedConfig(any)) }
}

fn apply(rules: Rules) -> Result<(), String> {
    let rbac = Rbac { rules: Some(rules), stat_prefix: "tcp.".to_owned(), ..Rbac::default() };
    let to = Some(ClusterSpecifier::Cluster("a".to_owned()));
    let proxy = TcpProxy { stat_prefix: "a".to_owned(), cluster_specifier: to, ..TcpProxy::default() };
    let filters = vec![filter("rbac", &rbac), filter("tcp_proxy", &proxy)];
    let address = SocketAddress {
        address: "10.0.0.1".to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(80)),
        ..SocketAddress::default()
    };
    let listener = Listener {
        name: "a".to_owned(),
        address: Some(Address { address: Some(address::Address::SocketAddress(address)) }),
        filter_chains: vec![FilterChain { filters, ..FilterChain::default() }],
        ..Listener::default()
    };
    let mut resources = Resources::default();
    resources.apply(type_url::LISTENER, &[Resource::new("a", &listener)], &[]).map_err(|error| error.to_string())
}

fn rules(permission: Option<Rule>, principal: Option<Identifier>, action: i32) -> Rules {
    let policy = Policy {
        permissions: vec![Permission { rule: permission }],
        principals: vec![Principal { identifier: principal }],
        ..Policy::default()
    };
    Rules { action, policies: [("p".to_owned(), policy)].into(), ..Rules::default() }
}

/// A12: what is not known is not taken for anything.
#[test]
fn sec_a12_unknown_actions_permissions_and_principals_are_rejected() {
    let any = || (Some(Rule::Any(true)), Some(Identifier::Any(true)));
    assert_eq!(apply(rules(any().0, any().1, 0)), Ok(()));
    let extension = TypedExtensionConfig { name: "x".to_owned(), typed_config: None };
    let deep =
        (0..40).fold(Rule::Any(true), |rule, _| Rule::AndRules(Set { rules: vec![Permission { rule: Some(rule) }] }));
    for (rules, part) in [
        (rules(any().0, any().1, 7), "action 7"),
        (rules(None, any().1, 0), "permission None"),
        (rules(Some(Rule::Any(false)), any().1, 0), "permission Some(Any(false))"),
        (rules(Some(Rule::Matcher(extension)), any().1, 0), "permission"),
        (rules(Some(Rule::OrRules(Set::default())), any().1, 0), "sets of one or more"),
        (rules(Some(deep), any().1, 0), "within each other"),
        (rules(any().0, None, 0), "principal None"),
        (Rules { policies: [("p".to_owned(), Policy::default())].into(), ..Rules::default() }, "one of permissions"),
    ] {
        let error = apply(rules).expect_err("rejected");
        assert!(error.contains("rbac") && error.contains(part), "{error}");
    }
}
