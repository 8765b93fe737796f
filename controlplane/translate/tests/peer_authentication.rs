//! PeerAuthentications: which connections a workload's proxy takes, and how callers speak to it.

mod fixture;

use api::envoy::envoy::config::listener::v3::FilterChain;
use config::Intent;
use fixture::*;
use isthmus_translate::translate;
use model::{Endpoint, Protocol, Service};
use std::sync::Arc;
use xds::{Interception, Snapshot, type_url};

fn policies(text: &str) -> Intent {
    let policy = |line: &str| {
        let (place, spec) = line.trim().split_once(' ').expect("a place and a spec");
        let (namespace, name) = place.split_once('/').expect("a namespace and a name");
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
             metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
        )
    };
    let all: String = text.lines().map(policy).collect();
    Intent::from_documents(&resource::parse("p.yaml", &all).expect("YAML").documents).expect("valid")
}

fn replica(address: &str) -> Endpoint {
    Endpoint { labels: Arc::new([("app".to_owned(), "reviews".to_owned())].into()), ..endpoint(address, "reviews") }
}

fn reviews() -> Service {
    let ports =
        vec![port(80, Protocol::Http), port(81, Protocol::Tcp), port(82, Protocol::Tls), port(83, Protocol::Auto)];
    let mut service = service(HOST, "240.240.0.1", ports);
    service.ports[0].target = Some(8080);
    service.endpoints = vec![replica(OWN), replica("10.0.0.2")];
    service
}

fn translated(intent: &Intent) -> Snapshot {
    translate(&catalog(vec![reviews()]), intent, &node(Interception::Redirect), &identity())
}

/// `port transport [alpn] -> mtls? target` of each chain.
fn told(chain: &FilterChain) -> String {
    let matches = chain.filter_chain_match.clone().unwrap_or_default();
    let port = matches.destination_port.map(|port| format!("{} ", port.value)).unwrap_or_default();
    let alpn = if matches.application_protocols.is_empty() { "" } else { " [...]" };
    let tls = if chain.transport_socket.is_some() { "mtls " } else { "" };
    format!("{port}{}{alpn} -> {tls}{}", matches.transport_protocol, bytes_to(chain).unwrap_or_else(|| "http".into()))
}

fn inbound(text: &str) -> Vec<String> {
    let listener = listener(&translated(&policies(text)), "virtualInbound");
    let rest = listener.default_filter_chain.iter().map(|chain| format!("else{}", told(chain)));
    listener.filter_chains.iter().skip(1).map(told).chain(rest).collect()
}

#[test]
fn strict_takes_the_mesh_s_tls_alone_at_every_port_there_is() {
    assert_eq!(
        inbound("istio-system/mesh {mtls: {mode: STRICT}}"),
        [
            "81 tls -> mtls inbound|81||",
            "82 tls -> mtls inbound|82||",
            "83 tls [...] -> mtls http",
            "83 tls -> mtls inbound|83||",
            "8080 tls -> mtls http",
            "tls -> mtls InboundPassthroughCluster",
        ]
    );
}

#[test]
fn disable_takes_no_tls_of_the_mesh() {
    assert_eq!(
        inbound("shop/all {mtls: {mode: DISABLE}}"),
        [
            "81 tls -> inbound|81||",
            "81 raw_buffer -> inbound|81||",
            "82 tls -> inbound|82||",
            "82 raw_buffer -> inbound|82||",
            "83 tls -> inbound|83||",
            "83 raw_buffer [...] -> http",
            "83 raw_buffer -> inbound|83||",
            "8080 raw_buffer -> http",
            "else -> InboundPassthroughCluster",
        ]
    );
}

#[test]
fn ports_go_before_their_workload_known_or_not() {
    let chains = inbound(
        "istio-system/mesh {mtls: {mode: STRICT}}
         shop/reviews {selector: {matchLabels: {app: reviews}}, portLevelMtls: {'8080': {mode: DISABLE}, '9000': {mode: PERMISSIVE}}}
         shop/others {selector: {matchLabels: {app: other}}, mtls: {mode: DISABLE}}",
    );
    let of = |port: &str| chains.iter().filter(|chain| chain.starts_with(port)).cloned().collect::<Vec<_>>();
    assert_eq!(of("8080 "), ["8080 raw_buffer -> http"]);
    assert_eq!(of("9000 "), ["9000  -> InboundPassthroughCluster"]);
    assert_eq!(of("81 "), ["81 tls -> mtls inbound|81||"]);
    assert_eq!(chains.last().expect("some"), "tls -> mtls InboundPassthroughCluster");
    let strict = inbound("shop/r {selector: {matchLabels: {app: reviews}}, portLevelMtls: {'9000': {mode: STRICT}}}");
    assert!(strict.contains(&"9000 tls -> mtls InboundPassthroughCluster".to_owned()), "{strict:?}");
    assert_eq!(strict.last().expect("some"), "else -> InboundPassthroughCluster");
}

#[test]
fn callers_speak_in_the_clear_where_nothing_else_is_taken() {
    let intent = policies(
        "shop/reviews {selector: {matchLabels: {app: reviews}}, portLevelMtls: {'8080': {mode: DISABLE}, '81': {mode: STRICT}}}",
    );
    let snapshot = translated(&intent);
    let modes = |port: u16| -> Vec<bool> {
        let name = format!("outbound|{port}||{HOST}");
        let all = assignment(&snapshot, &name);
        all.endpoints
            .iter()
            .flat_map(|locality| &locality.lb_endpoints)
            .map(|one| {
                let all = one.metadata.as_ref().expect("metadata");
                all.filter_metadata.contains_key("envoy.transport_socket_match")
            })
            .collect()
    };
    assert_eq!(modes(80), [false, false], "the port is the workload's, not the service's");
    assert_eq!(modes(81), [true, true]);
    assert_eq!(modes(82), [true, true]);
    // Without a policy nothing is said of it.
    assert_eq!(translated(&Intent::default()).get(type_url::ENDPOINT).len(), 4);
}
