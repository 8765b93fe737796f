//! LDS and RDS: where a proxy listens, and where what it hears goes.

mod fixture;

use api::envoy::envoy::config::listener::v3::FilterChain;
use api::envoy::envoy::config::route::v3::{VirtualHost, route::Action, route_action::ClusterSpecifier};
use api::envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use api::envoy::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext;
use config::{CaptureMode, DefaultEndpoint, EgressListener, Intent};
use fixture::*;
use isthmus_translate::translate;
use model::{Protocol, Service};
use std::net::{IpAddr, Ipv6Addr};
use xds::{Interception, Node, NodeKind, Snapshot, type_url};

fn redirected(services: Vec<Service>) -> Snapshot {
    translate(&catalog(services), &Intent::default(), &node(Interception::Redirect), &identity())
}

fn unredirected(services: Vec<Service>, intent: &Intent) -> Snapshot {
    translate(&catalog(services), intent, &node(Interception::None), &identity())
}

fn route_name(chain: &FilterChain) -> String {
    match http(chain).route_specifier {
        Some(RouteSpecifier::Rds(rds)) => rds.route_config_name,
        other => panic!("{other:?}"),
    }
}

fn upstream_of(host: &VirtualHost) -> String {
    match &host.routes[0].action {
        Some(Action::Route(action)) => match &action.cluster_specifier {
            Some(ClusterSpecifier::Cluster(name)) => name.clone(),
            other => panic!("{other:?}"),
        },
        Some(Action::DirectResponse(answer)) => answer.status.to_string(),
        other => panic!("{other:?}"),
    }
}

/// What a chain wants of a connection, and what it does: `port transport [alpn] -> mtls? http|upstream`.
fn told(chain: &FilterChain) -> String {
    let matches = chain.filter_chain_match.clone().unwrap_or_default();
    let port = matches.destination_port.map(|port| format!("{} ", port.value)).unwrap_or_default();
    let alpn = matches.application_protocols.join(",");
    let tls = if chain.transport_socket.is_some() { "mtls " } else { "" };
    let target = bytes_to(chain).unwrap_or_else(|| "http".into());
    format!("{port}{} [{alpn}] -> {tls}{target}", matches.transport_protocol)
}

#[test]
fn redirected_traffic_enters_by_two_doors() {
    let snapshot = redirected(vec![]);
    assert_eq!(names(&snapshot, type_url::LISTENER), ["virtualInbound", "virtualOutbound"]);
    let out = listener(&snapshot, "virtualOutbound");
    assert_eq!(at(out.address.as_ref()), "0.0.0.0:15001");
    assert!(out.use_original_dst.expect("present").value);
    assert_eq!(out.filter_chains.iter().map(told).collect::<Vec<_>>(), ["15001  [] -> BlackHoleCluster"]);
    assert_eq!(told(&out.default_filter_chain.expect("present")), " [] -> PassthroughCluster");
    let inbound = listener(&snapshot, "virtualInbound");
    assert_eq!(at(inbound.address.as_ref()), "0.0.0.0:15006");
    assert!(inbound.use_original_dst.is_none(), "inbound is never handed to an outbound listener");
    assert_eq!(inbound.listener_filters[0].name, "envoy.filters.listener.original_dst");
    assert_eq!(told(&inbound.default_filter_chain.expect("present")), " [] -> InboundPassthroughCluster");
    let closed = translate(&catalog(vec![]), &registry_only(), &node(Interception::Redirect), &identity());
    let out = listener(&closed, "virtualOutbound");
    assert_eq!(told(&out.default_filter_chain.expect("present")), " [] -> BlackHoleCluster");
}

#[test]
fn http_goes_by_port_and_authority() {
    let own = service(HOST, "240.240.0.1", vec![port(9080, Protocol::Http)]);
    let other = service("api.example", "fd00::1", vec![port(9080, Protocol::Grpc), port(80, Protocol::Http2)]);
    let snapshot = redirected(vec![own, other]);
    let listener = listener(&snapshot, "0.0.0.0_9080");
    assert_eq!(
        (at(listener.address.as_ref()).as_str(), listener.bind_to_port.expect("present").value),
        ("0.0.0.0:9080", false)
    );
    assert_eq!(route_name(&listener.filter_chains[0]), "9080");
    let manager = http(&listener.filter_chains[0]);
    assert!(manager.merge_slashes && manager.normalize_path.expect("present").value);
    assert_eq!(manager.upgrade_configs[0].upgrade_type, "websocket");
    assert_eq!(names(&snapshot, type_url::ROUTE), ["80", "9080"]);
    let routes = routes(&snapshot, "9080");
    let [api, reviews, rest] = &routes.virtual_hosts[..] else { panic!("{routes:?}") };
    assert_eq!(api.domains, ["api.example:9080", "api.example", "[fd00::1]:9080", "[fd00::1]"]);
    assert_eq!(reviews.name, format!("{HOST}:9080"));
    for name in
        [HOST, "reviews", "reviews.shop", "reviews.shop.svc", "reviews.shop.svc.clusterset.local", "240.240.0.1"]
    {
        assert!(reviews.domains.contains(&name.to_owned()), "{name}");
        assert!(reviews.domains.contains(&format!("{name}:9080")), "{name}:9080");
    }
    assert_eq!(upstream_of(reviews), format!("outbound|9080||{HOST}"));
    assert_eq!((rest.name.as_str(), upstream_of(rest)), ("allow_any", "PassthroughCluster".into()));
    let Some(Action::Route(action)) = &reviews.routes[0].action else { panic!("a route") };
    let retries = action.retry_policy.as_ref().expect("present");
    assert_eq!(retries.retry_on, "connect-failure,refused-stream,unavailable,cancelled");
    assert_eq!(action.timeout.expect("present").seconds, 0);
}

#[test]
fn a_declared_host_goes_before_a_derived_name_and_no_domain_stands_twice() {
    let services = vec![
        service("reviews", "", vec![port(80, Protocol::Http)]),
        service(HOST, "240.240.0.1", vec![port(80, Protocol::Http)]),
        service("reviews.shop.svc.other.local", "240.240.0.1", vec![port(80, Protocol::Http)]),
    ];
    let routes = routes(&redirected(services), "80");
    let mut all: Vec<_> = routes.virtual_hosts.iter().flat_map(|host| host.domains.clone()).collect();
    let owner = |name: &str| {
        routes.virtual_hosts.iter().find(|host| host.domains.iter().any(|d| d == name)).map(|host| host.name.clone())
    };
    assert_eq!(owner("reviews"), Some("reviews:80".into()));
    assert_eq!(owner("reviews.shop"), Some(format!("{HOST}:80")));
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count);
}

#[test]
fn a_short_name_means_the_proxys_own_namespace() {
    let mut far = service("ratings.other.svc.cluster.local", "", vec![port(80, Protocol::Http)]);
    far.key.namespace = text("other");
    let routes = routes(&redirected(vec![far]), "80");
    assert!(!routes.virtual_hosts[0].domains.contains(&"ratings".to_owned()));
    assert!(routes.virtual_hosts[0].domains.contains(&"ratings.other".to_owned()));
}

#[test]
fn other_protocols_go_by_address_and_port() {
    let ports = vec![port(1, Protocol::Tcp), port(2, Protocol::Tls), port(3, Protocol::Auto), port(4, Protocol::Udp)];
    let snapshot = redirected(vec![service(HOST, "240.240.0.1", ports)]);
    let names = names(&snapshot, type_url::LISTENER);
    assert_eq!(names, ["240.240.0.1_1", "240.240.0.1_2", "240.240.0.1_3", "virtualInbound", "virtualOutbound"]);
    let tcp = listener(&snapshot, "240.240.0.1_1");
    assert_eq!(tcp.filter_chains.iter().map(told).collect::<Vec<_>>(), [format!(" [] -> outbound|1||{HOST}")]);
    let tls = listener(&snapshot, "240.240.0.1_2");
    let names = &tls.filter_chains[0].filter_chain_match.as_ref().expect("present").server_names;
    assert_eq!(names, &[HOST, "reviews.shop.svc.clusterset.local"]);
    assert_eq!(tls.listener_filters[0].name, "envoy.filters.listener.tls_inspector");
    let auto = listener(&snapshot, "240.240.0.1_3");
    assert_eq!(route_name(&auto.filter_chains[0]), format!("{HOST}:3"));
    assert_eq!(told(&auto.filter_chains[0]), "raw_buffer [http/1.0,http/1.1,h2c] -> http");
    assert_eq!(told(&auto.default_filter_chain.expect("present")), format!(" [] -> outbound|3||{HOST}"));
    assert_eq!(routes(&snapshot, &format!("{HOST}:3")).virtual_hosts[0].domains, ["*"]);
}

#[test]
fn a_redirected_workload_is_found_by_address_or_labels_and_never_by_anothers_identity() {
    let inbound_of = |endpoint: model::Endpoint| {
        let mut service = service(HOST, "240.240.0.1", vec![port(9080, Protocol::Http)]);
        service.ports[0].target = Some(8080);
        service.endpoints = vec![endpoint];
        let snapshot = redirected(vec![service]);
        let chains = listener(&snapshot, "virtualInbound").filter_chains;
        let target = snapshot.get(type_url::CLUSTER).contains_key("inbound|8080||").then(|| {
            let upstream = upstream(&snapshot, "inbound|8080||");
            endpoint_at(&upstream.load_assignment.expect("present").endpoints[0].lb_endpoints[0])
        });
        (chains.iter().skip(1).map(told).collect::<Vec<_>>(), target)
    };
    let both = vec!["8080 tls [] -> mtls http".to_owned(), "8080 raw_buffer [] -> http".to_owned()];
    assert_eq!(inbound_of(endpoint(OWN, "reviews")), (both.clone(), Some(format!("{OWN}:8080"))));
    assert_eq!(inbound_of(endpoint(OWN, "neighbour")), (vec![], None));
    let mut replica = endpoint("10.0.0.9", "reviews");
    assert_eq!(inbound_of(replica.clone()), (vec![], None));
    replica.labels = std::sync::Arc::new([("app".to_owned(), "reviews".to_owned())].into());
    assert_eq!(inbound_of(replica), (both, Some(format!("{OWN}:8080"))));
}

#[test]
fn inbound_chains_follow_the_protocol() {
    let of = |protocol| {
        let intent = sidecar(vec![ingress(9080, protocol, Some(OWN), DefaultEndpoint::Own(8080))], vec![]);
        listener(&unredirected(vec![], &intent), &format!("{OWN}_9080"))
    };
    let told = |protocol| of(protocol).filter_chains.iter().map(told).collect::<Vec<_>>();
    let mesh = "istio,istio-peer-exchange,istio-http/1.0,istio-http/1.1,istio-h2";
    assert_eq!(told(Protocol::Http), ["tls [] -> mtls http", "raw_buffer [] -> http"]);
    assert_eq!(told(Protocol::Tcp), ["tls [] -> mtls inbound|9080||", "raw_buffer [] -> inbound|9080||"]);
    let own_tls = [
        format!("tls [{mesh}] -> mtls inbound|9080||"),
        "tls [] -> inbound|9080||".into(),
        "raw_buffer [] -> inbound|9080||".into(),
    ];
    assert_eq!(told(Protocol::Tls), own_tls);
    assert_eq!(
        told(Protocol::Auto),
        [
            "tls [istio-http/1.0,istio-http/1.1,istio-h2] -> mtls http",
            "tls [istio,istio-peer-exchange] -> mtls inbound|9080||",
            "tls [] -> inbound|9080||",
            "raw_buffer [http/1.0,http/1.1,h2c] -> http",
            "raw_buffer [] -> inbound|9080||",
        ]
    );
    let listener = of(Protocol::Http);
    let context: DownstreamTlsContext = tls(listener.filter_chains[0].transport_socket.as_ref());
    assert!(context.require_client_certificate.expect("present").value);
    let common = context.common_tls_context.expect("present");
    assert_eq!(common.alpn_protocols[..2], ["h2", "http/1.1"]);
    let manager = http(&listener.filter_chains[0]);
    assert_eq!(manager.forward_client_cert_details, 2, "APPEND_FORWARD");
    let Some(RouteSpecifier::RouteConfig(inline)) = manager.route_specifier else { panic!("inline routes") };
    assert_eq!(
        (inline.name.as_str(), upstream_of(&inline.virtual_hosts[0])),
        ("inbound|9080||", "inbound|9080||".into())
    );
}

#[test]
fn default_endpoints_become_inbound_upstreams() {
    for (default, expected) in [
        (DefaultEndpoint::Own(8080), format!("{OWN}:8080")),
        (DefaultEndpoint::Socket(text("127.0.0.1:8080")), "127.0.0.1:8080".into()),
        (DefaultEndpoint::Socket(text("[::1]:8080")), "::1:8080".into()),
        (DefaultEndpoint::Unix("/run/app.sock".into()), "/run/app.sock".into()),
    ] {
        let intent = sidecar(vec![ingress(9080, Protocol::Http2, None, default)], vec![]);
        let snapshot = unredirected(vec![], &intent);
        assert_eq!(at(listener(&snapshot, "0.0.0.0_9080").address.as_ref()), "0.0.0.0:9080");
        let upstream = upstream(&snapshot, "inbound|9080||");
        let found = endpoint_at(&upstream.load_assignment.expect("present").endpoints[0].lb_endpoints[0]);
        assert_eq!(found, expected);
        assert_eq!(upstream.typed_extension_protocol_options.len(), 1, "HTTP/2 to the application");
    }
}

#[test]
fn egress_listeners_are_bound_and_show_their_services() {
    let reviews = service(HOST, "240.240.0.1", vec![port(9080, Protocol::Http)]);
    let api = service("api.example", "", vec![port(80, Protocol::Http), port(443, Protocol::Tls)]);
    let db = service("db.example", "", vec![port(5432, Protocol::Tcp)]);
    let egress = vec![
        egress(9080, Protocol::Http, &["./reviews.shop.svc.cluster.local", "*/api.example"]),
        egress(5432, Protocol::Tcp, &["*/db.example"]),
        egress(5433, Protocol::Tcp, &["*/db.example"]),
        egress(443, Protocol::Tls, &["*/*.example"]),
        EgressListener { port: None, ..egress(1, Protocol::Auto, &["~/*"]) },
    ];
    let snapshot = unredirected(vec![reviews, api, db], &sidecar(vec![], egress));
    assert_eq!(
        names(&snapshot, type_url::LISTENER),
        ["127.0.0.1_443", "127.0.0.1_5432", "127.0.0.1_5433", "127.0.0.1_9080"]
    );
    let first = |name: &str| listener(&snapshot, name).filter_chains[0].clone();
    assert_eq!(route_name(&first("127.0.0.1_9080")), "127.0.0.1_9080");
    assert_eq!(bytes_to(&first("127.0.0.1_5432")), Some("outbound|5432||db.example".into()));
    assert_eq!(bytes_to(&first("127.0.0.1_5433")), Some("BlackHoleCluster".into()));
    assert_eq!(bytes_to(&first("127.0.0.1_443")), Some("outbound|443||api.example".into()));
    assert!(listener(&snapshot, "127.0.0.1_443").bind_to_port.is_none());
    let routes = routes(&snapshot, "127.0.0.1_9080");
    let told: Vec<_> = routes.virtual_hosts.iter().map(|host| (host.name.as_str(), upstream_of(host))).collect();
    let reviews = format!("{HOST}:9080");
    assert_eq!(
        told,
        [
            ("api.example:80", "outbound|80||api.example".to_owned()),
            (reviews.as_str(), format!("outbound|9080||{HOST}")),
            ("block_all", "502".to_owned()),
        ]
    );
    assert_eq!(routes.virtual_hosts[0].domains, ["api.example:80", "api.example:9080", "api.example"]);
}

#[test]
fn egress_hosts_hide_all_other_services() {
    let seen = service("seen.example", "240.240.0.1", vec![port(80, Protocol::Http)]);
    let hidden = service("hidden.example", "240.240.0.2", vec![port(80, Protocol::Http)]);
    let intent = sidecar(vec![], vec![EgressListener { port: None, ..egress(1, Protocol::Auto, &["*/seen.example"]) }]);
    let snapshot = translate(&catalog(vec![seen, hidden]), &intent, &node(Interception::Redirect), &identity());
    assert_eq!(names(&snapshot, type_url::ENDPOINT), ["outbound|80||seen.example"]);
}

#[test]
fn a_listener_that_wants_no_capture_is_bound_though_traffic_is_redirected() {
    let mut bound = egress(7000, Protocol::Http, &["*/*"]);
    bound.capture = CaptureMode::None;
    let intent = sidecar(vec![ingress(8080, Protocol::Http, None, DefaultEndpoint::Own(8080))], vec![bound]);
    let snapshot = translate(&catalog(vec![]), &intent, &node(Interception::Redirect), &identity());
    assert_eq!(names(&snapshot, type_url::LISTENER), ["127.0.0.1_7000", "virtualInbound", "virtualOutbound"]);
    assert_eq!(told(&listener(&snapshot, "virtualInbound").filter_chains[1]), "8080 tls [] -> mtls http");
}

#[test]
fn the_nodes_families_are_the_listeners_families() {
    let web = || vec![service("web.example", "fd00::9", vec![port(80, Protocol::Http), port(81, Protocol::Tcp)])];
    let six: IpAddr = Ipv6Addr::LOCALHOST.into();
    let dual = Node { addresses: vec![text(OWN), six], ..node(Interception::Redirect) };
    let snapshot = translate(&catalog(web()), &Intent::default(), &dual, &identity());
    for (name, port) in [("virtualOutbound", 15001), ("virtualInbound", 15006), ("0.0.0.0_80", 80)] {
        let listener = listener(&snapshot, name);
        assert_eq!(at(listener.address.as_ref()), format!("0.0.0.0:{port}"));
        assert_eq!(at(listener.additional_addresses[0].address.as_ref()), format!(":::{port}"));
    }
    assert_eq!(at(listener(&snapshot, "fd00::9_81").address.as_ref()), "fd00::9:81");
    let only = Node { addresses: vec![six], ..node(Interception::Redirect) };
    let snapshot = translate(&catalog(web()), &Intent::default(), &only, &identity());
    assert_eq!(at(listener(&snapshot, "virtualOutbound").address.as_ref()), ":::15001");
    assert!(listener(&snapshot, "virtualOutbound").additional_addresses.is_empty());
}

#[test]
fn the_own_namespaces_declaration_of_a_host_wins() {
    let near = service("api.example", "240.240.0.2", vec![port(81, Protocol::Http)]);
    let mut far = service("api.example", "240.240.0.1", vec![port(80, Protocol::Http)]);
    far.key.namespace = text("aaa");
    let snapshot = redirected(vec![far, near]);
    assert_eq!(names(&snapshot, type_url::ENDPOINT), ["outbound|81||api.example"]);
}

#[test]
fn a_router_has_upstreams_and_no_listeners() {
    let router = Node { kind: NodeKind::Router, ..node(Interception::Redirect) };
    let web = service("web.example", "240.240.0.1", vec![port(80, Protocol::Http)]);
    let snapshot = translate(&catalog(vec![web]), &Intent::default(), &router, &identity());
    assert!(snapshot.get(type_url::LISTENER).is_empty());
    assert_eq!(names(&snapshot, type_url::ENDPOINT), ["outbound|80||web.example"]);
}
