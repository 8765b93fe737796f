//! CDS, EDS, SDS and NDS: what a proxy is told of whom it may call.

mod fixture;

use api::envoy::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use api::envoy::envoy::extensions::transport_sockets::tls::v3 as tls_v3;
use api::envoy::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions, http_protocol_options::UpstreamProtocolOptions,
    http_protocol_options::explicit_http_config::ProtocolConfig,
};
use api::envoy::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use api::istio::nds::NameTable;
use config::Intent;
use fixture::*;
use isthmus_translate::translate;
use model::{Address, Location, Path, PeerHealth, Protocol, Resolution, Service};
use prost::Message;
use std::sync::Arc;
use tls_v3::common_tls_context::ValidationContextType;
use xds::{Interception, Snapshot, type_url};

fn redirected(services: Vec<Service>) -> Snapshot {
    translate(&catalog(services), &Intent::default(), &node(Interception::Redirect), &identity())
}

fn reviews(protocol: Protocol) -> Service {
    service(HOST, "240.240.0.1", vec![port(9080, protocol)])
}

fn with_imports(local: &[&str]) -> Service {
    let mut service = reviews(Protocol::Http);
    service.endpoints = local.iter().map(|ip| endpoint(ip, "reviews")).collect();
    for (cluster, weight) in [("north", 10), ("west", 30)] {
        service.imports.insert(text(cluster), import(cluster, &service, 2, weight));
    }
    service
}

const NAME: &str = "outbound|9080||reviews.shop.svc.cluster.local";

#[test]
fn an_upstream_asks_for_the_service_by_sni_and_expects_exactly_its_identities() {
    let mut service = with_imports(&["10.0.0.7"]);
    service.subject_alt_names.insert("spiffe://old.example/x".into());
    // A peer cannot speak for another's trust domain.
    let group = &mut service.imports.get_mut(&text("west")).expect("imported").export.groups[0];
    group.identities.insert(text("spiffe://east.example/ns/shop/sa/forged"));
    let upstream = upstream(&redirected(vec![service]), NAME);
    assert_eq!(upstream.cluster_discovery_type, Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())));
    assert_eq!(upstream.eds_cluster_config.expect("EDS").service_name, NAME);
    let [mutual, plain] = &upstream.transport_socket_matches[..] else { panic!("two transports") };
    assert_eq!((mutual.name.as_str(), plain.name.as_str()), ("tlsMode-istio", "tlsMode-disabled"));
    assert!(plain.r#match.as_ref().expect("present").fields.is_empty());
    let context: tls_v3::UpstreamTlsContext = tls(mutual.transport_socket.as_ref());
    assert_eq!(context.sni, "outbound_.9080_._.reviews.shop.svc.cluster.local");
    let common = context.common_tls_context.expect("present");
    assert_eq!(common.alpn_protocols, ["istio-http/1.1", "http/1.1"]);
    assert_eq!(common.tls_params.expect("present").tls_minimum_protocol_version, 4);
    assert_eq!(common.tls_certificate_sds_secret_configs[0].name, "default");
    let Some(ValidationContextType::CombinedValidationContext(combined)) = common.validation_context_type else {
        panic!("combined")
    };
    assert_eq!(combined.validation_context_sds_secret_config.expect("present").name, "ROOTCA");
    let names = combined.default_validation_context.expect("present").match_typed_subject_alt_names;
    let exact = |matcher: tls_v3::SubjectAltNameMatcher| match matcher.matcher.and_then(|m| m.match_pattern) {
        Some(MatchPattern::Exact(name)) => name,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        names.into_iter().map(exact).collect::<Vec<_>>(),
        [
            "spiffe://east.example/ns/shop/sa/reviews",
            "spiffe://north.example/ns/shop/sa/far",
            "spiffe://old.example/x",
            "spiffe://west.example/ns/shop/sa/far",
        ]
    );
}

#[test]
fn without_identities_there_is_no_mtls_and_no_endpoint_that_wants_it() {
    let mut service = reviews(Protocol::Tcp);
    let plain = model::Endpoint { mtls: false, identity: None, ..endpoint("10.0.0.8", "x") };
    service.endpoints = vec![model::Endpoint { identity: None, ..endpoint("10.0.0.7", "x") }, plain];
    let snapshot = redirected(vec![service]);
    let [only] = &upstream(&snapshot, NAME).transport_socket_matches[..] else { panic!("one transport") };
    assert_eq!(only.name, "tlsMode-disabled");
    let endpoints = &assignment(&snapshot, NAME).endpoints[0].lb_endpoints;
    assert_eq!(endpoints.iter().map(endpoint_at).collect::<Vec<_>>(), ["10.0.0.8:9080"]);
}

#[test]
fn the_protocol_decides_alpn_and_http_version() {
    for (protocol, alpn, version) in [
        (Protocol::Http, &["istio-http/1.1", "http/1.1"][..], Some(1)),
        (Protocol::Http2, &["istio-h2", "h2"], Some(2)),
        (Protocol::Grpc, &["istio-h2", "h2"], Some(2)),
        (Protocol::Tcp, &["istio"], None),
        (Protocol::Tls, &["istio"], None),
        (Protocol::Auto, &["istio"], None),
    ] {
        let mut service = reviews(protocol);
        service.endpoints = vec![endpoint("10.0.0.7", "reviews")];
        let upstream = upstream(&redirected(vec![service]), NAME);
        let socket = upstream.transport_socket_matches[0].transport_socket.as_ref();
        let context: tls_v3::UpstreamTlsContext = tls(socket);
        assert_eq!(context.common_tls_context.expect("present").alpn_protocols, alpn, "{protocol:?}");
        let options = upstream.typed_extension_protocol_options.values().next().map(open::<HttpProtocolOptions>);
        let explicit = options.and_then(|options| options.upstream_protocol_options).map(|options| match options {
            UpstreamProtocolOptions::ExplicitHttpConfig(explicit) => explicit.protocol_config,
            other => panic!("{other:?}"),
        });
        let found = explicit.flatten().map(|config| match config {
            ProtocolConfig::HttpProtocolOptions(_) => 1,
            ProtocolConfig::Http2ProtocolOptions(_) => 2,
            ProtocolConfig::Http3ProtocolOptions(_) => 3,
        });
        assert_eq!(found, version, "{protocol:?}");
    }
}

#[test]
fn local_endpoints_go_before_the_peers_behind_the_own_gateways() {
    let assignment = assignment(&redirected(vec![with_imports(&["10.0.0.7"])]), NAME);
    let [local, remote] = &assignment.endpoints[..] else { panic!("{assignment:?}") };
    assert_eq!((local.priority, remote.priority), (0, 1));
    let near = &local.lb_endpoints[0];
    assert_eq!(endpoint_at(near), "10.0.0.7:9080");
    assert_eq!(metadata(near.metadata.as_ref(), "istio", "workload"), "reviews-1;shop;;v1;east");
    assert_eq!(metadata(near.metadata.as_ref(), "envoy.transport_socket_match", "tlsMode"), "istio");
    let far: Vec<_> = remote.lb_endpoints.iter().map(endpoint_at).collect();
    assert_eq!(far, ["10.1.0.1:15443", "10.1.0.2:15443"]);
    // North's 10 and west's 30, shared by two gateways; where most of it runs is the locality.
    assert_eq!(remote.lb_endpoints[0].load_balancing_weight.expect("present").value, 20);
    assert_eq!(metadata(remote.lb_endpoints[0].metadata.as_ref(), "isthmus", "cluster"), "north,west");
    assert_eq!(remote.locality.as_ref().expect("present").region, "west");
}

#[test]
fn without_local_endpoints_the_peers_are_first() {
    let assignment = assignment(&redirected(vec![with_imports(&[])]), NAME);
    let [remote] = &assignment.endpoints[..] else { panic!("{assignment:?}") };
    assert_eq!(remote.priority, 0);
}

#[test]
fn a_peer_that_cannot_be_reached_is_not_sent_to() {
    let told = |change: fn(&mut model::Catalog)| {
        let mut catalog = catalog(vec![with_imports(&[])]);
        change(&mut catalog);
        let node = node(Interception::Redirect);
        let assignment = assignment(&translate(&catalog, &Intent::default(), &node, &identity()), NAME);
        let endpoints = assignment.endpoints.iter().flat_map(|locality| &locality.lb_endpoints);
        endpoints.map(|e| (endpoint_at(e), metadata(e.metadata.as_ref(), "isthmus", "cluster"))).collect::<Vec<_>>()
    };
    let gateway = |n: u8, clusters: &str| (format!("10.1.0.{n}:15443"), clusters.to_owned());
    let unreachable = |catalog: &mut model::Catalog| {
        Arc::make_mut(catalog.peers.get_mut(&text("west")).expect("a peer")).health = PeerHealth::Unreachable;
    };
    assert_eq!(told(unreachable), [gateway(1, "north"), gateway(2, "north")]);
    let suspect = |catalog: &mut model::Catalog| {
        Arc::make_mut(catalog.peers.get_mut(&text("west")).expect("a peer")).health = PeerHealth::Suspect;
    };
    assert_eq!(told(suspect), [gateway(1, "north,west"), gateway(2, "north,west")]);
    let one_path = |catalog: &mut model::Catalog| {
        let gateway = Arc::make_mut(catalog.gateways.get_mut("gw-1").expect("a gateway"));
        gateway.paths.insert(text("west"), Path::Unreachable);
    };
    // West has the greater weight, so gw-2 stands in west's locality, after north's.
    assert_eq!(told(one_path), [gateway(1, "north"), gateway(2, "north,west")]);
    assert!(told(|catalog| catalog.gateways.clear()).is_empty());
    assert!(told(|catalog| catalog.peers.clear()).is_empty());
}

#[test]
fn hostile_weights_stay_within_what_envoy_accepts() {
    let mut service = with_imports(&[]);
    for import in service.imports.values_mut() {
        import.export.groups[0].weight = u32::MAX;
    }
    let assignment = assignment(&redirected(vec![service]), NAME);
    let sum: u64 =
        assignment.endpoints.iter().map(|l| u64::from(l.load_balancing_weight.expect("present").value)).sum();
    assert!(sum < u64::from(u32::MAX));
}

#[test]
fn names_and_undeclared_places_are_found_by_other_means() {
    let named = |host: &str, resolution, endpoints: &[&str]| {
        let mut service = service(host, "", vec![port(443, Protocol::Tcp)]);
        service.resolution = resolution;
        service.location = Location::External;
        let name = |name: &&str| model::Endpoint {
            address: Address::Name(text(name)),
            mtls: false,
            ..endpoint("1.1.1.1", "x")
        };
        service.endpoints = endpoints.iter().map(name).collect();
        service
    };
    let snapshot = redirected(vec![
        named("a.example", Resolution::Dns, &["one.example", "two.example"]),
        named("b.example", Resolution::DnsRoundRobin, &["one.example"]),
        named("c.example", Resolution::Dns, &[]),
        named("*.d.example", Resolution::None, &[]),
    ]);
    let of = |host: &str| upstream(&snapshot, &format!("outbound|443||{host}"));
    let found = |host: &str| {
        let upstream = of(host);
        let endpoints = upstream.load_assignment.iter().flat_map(|a| &a.endpoints).flat_map(|l| &l.lb_endpoints);
        (upstream.cluster_discovery_type.clone(), endpoints.map(endpoint_at).collect::<Vec<_>>())
    };
    let kind = |kind: DiscoveryType| Some(ClusterDiscoveryType::Type(kind.into()));
    let at = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(found("a.example"), (kind(DiscoveryType::StrictDns), at(&["one.example:443", "two.example:443"])));
    assert_eq!(found("b.example"), (kind(DiscoveryType::LogicalDns), at(&["one.example:443"])));
    assert_eq!(found("c.example"), (kind(DiscoveryType::StrictDns), at(&["c.example:443"])));
    assert_eq!(found("*.d.example"), (kind(DiscoveryType::OriginalDst), vec![]));
    assert!(snapshot.get(type_url::ENDPOINT).is_empty());
}

#[test]
fn each_root_stands_under_its_own_trust_domain() {
    let snapshot = redirected(vec![]);
    let secret = tls_v3::Secret::decode(&snapshot.get(type_url::SECRET)["ROOTCA"].body[..]).expect("decodes");
    let Some(tls_v3::secret::Type::ValidationContext(context)) = secret.r#type else { panic!("a validation context") };
    let validator = context.custom_validator_config.expect("present");
    assert_eq!(validator.name, "envoy.tls.cert_validator.spiffe");
    let validator: tls_v3::SpiffeCertValidatorConfig = open(&validator.typed_config.expect("present"));
    let domains: Vec<_> = validator.trust_domains.iter().map(|domain| domain.name.as_str()).collect();
    assert_eq!(domains, ["north.example", "west.example"]);
}

#[test]
fn the_name_table_holds_hosts_twins_and_headless_services() {
    let mut headless = service("db.shop.svc.cluster.local", "", vec![port(5432, Protocol::Tcp)]);
    headless.endpoints = vec![endpoint("10.0.0.7", "db"), endpoint("10.0.0.8", "db")];
    let api = service("api.example", "240.240.0.9", vec![port(80, Protocol::Http)]);
    let nameless = service("ghost.example", "", vec![port(80, Protocol::Http)]);
    let snapshot = redirected(vec![reviews(Protocol::Http), headless, api, nameless]);
    let table = NameTable::decode(&snapshot.get(type_url::NAME_TABLE)["nametable"].body[..]).expect("decodes").table;
    let told: Vec<_> =
        table.iter().map(|(host, info)| (host.as_str(), info.ips.join(" "), info.registry.as_str())).collect();
    assert_eq!(
        told,
        [
            ("api.example", "240.240.0.9".to_owned(), "External"),
            ("db.shop.svc.cluster.local", "10.0.0.7 10.0.0.8".to_owned(), "Kubernetes"),
            ("db.shop.svc.clusterset.local", "10.0.0.7 10.0.0.8".to_owned(), "Kubernetes"),
            ("reviews.shop.svc.cluster.local", "240.240.0.1".to_owned(), "Kubernetes"),
            ("reviews.shop.svc.clusterset.local", "240.240.0.1".to_owned(), "Kubernetes"),
        ]
    );
    assert_eq!((table[HOST].shortname.as_str(), table[HOST].namespace.as_str()), ("reviews", "shop"));
}

#[test]
fn equal_inputs_give_equal_bytes() {
    let services =
        || vec![with_imports(&["10.0.0.7", "10.0.0.8"]), service("a.example", "", vec![port(80, Protocol::Http)])];
    let first = redirected(services());
    for _ in 0..16 {
        assert!(redirected(services()) == first);
    }
}
