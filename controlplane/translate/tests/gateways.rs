//! Listeners, routes and secrets of routers. What they do is shown by the table of traffic cases.

mod fixture;

use api::envoy::envoy::config::route::v3::virtual_host::TlsRequirementType;
use api::envoy::envoy::extensions::transport_sockets::tls::v3::{
    DownstreamTlsContext, Secret, common_tls_context::ValidationContextType, secret::Type,
};
use config::Intent;
use fixture::*;
use isthmus_translate::translate;
use model::{Protocol, Service};
use prost::Message;
use xds::{Interception, Node, NodeKind, Snapshot, type_url};

const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: shop}
spec:
  selector: {app: reviews}
  servers:
";
const ROUTED: &str = "
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: ['*.example']
  gateways: [gw]
  http: [{route: [{destination: {host: reviews}}]}]
";

fn router() -> Node {
    let id = format!("router~{OWN}~gw.shop~shop.svc.cluster.local");
    Node { id, kind: NodeKind::Router, own_ports: vec![15443], ..node(Interception::None) }
}

fn intent(servers: &str, more: &str) -> Intent {
    let text = format!("{GATEWAY}{servers}{ROUTED}{more}");
    let documents = resource::parse("g.yaml", &text).expect("documents").documents;
    Intent::from_documents(&documents).expect("an intent")
}

fn told(servers: &str, more: &str) -> Snapshot {
    let own = service(HOST, "240.240.0.1", vec![port(9080, Protocol::Http)]);
    translate(&catalog(vec![own]), &intent(servers, more), &router(), &identity())
}

fn secret(namespace: &str, name: &str, entries: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\nstringData: {entries}\n"
    )
}

fn secrets(snapshot: &Snapshot) -> Vec<String> {
    let shown = names(snapshot, type_url::SECRET).into_iter();
    shown.filter(|name| name != "ROOTCA").collect()
}

const HTTPS: &str = "  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example], \
                     tls: {mode: MUTUAL, credentialName: own}}\n";

#[test]
fn a_router_listens_for_its_gateways_and_for_nothing_else() {
    let servers =
        "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.example'], tls: {httpsRedirect: true}}
  - {port: {number: 8080, name: more, protocol: HTTP}, bind: 10.0.0.1, hosts: ['shop/a.example']}
  - {port: {number: 15443, name: mine, protocol: HTTP}, hosts: ['*']}
";
    let snapshot = told(servers, "");
    assert_eq!(names(&snapshot, type_url::LISTENER), ["0.0.0.0_80", "10.0.0.1_8080"], "a port of the process is left");
    assert_eq!(names(&snapshot, type_url::ROUTE), ["http.80", "http.8080.10.0.0.1"]);
    let manager = http(&listener(&snapshot, "0.0.0.0_80").filter_chains[0]);
    assert!(manager.use_remote_address.expect("set").value, "who asks is outside");
    let routes = routes(&snapshot, "http.80");
    assert_eq!(routes.virtual_hosts[0].domains, ["*.example"]);
    assert_eq!(routes.virtual_hosts[0].require_tls(), TlsRequirementType::All);
    assert!(routes.ignore_port_in_host_matching);
}

#[test]
fn a_service_of_the_routers_says_where_its_port_is() {
    let mut own = service("edge.example", "240.240.0.2", vec![port(80, Protocol::Http)]);
    let mut endpoint = endpoint(OWN, "reviews");
    endpoint.ports = [("p80".to_owned(), 8080)].into();
    own.endpoints.push(endpoint);
    let servers = "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}\n";
    let snapshot = translate(&catalog(vec![own]), &intent(servers, ""), &router(), &identity());
    assert_eq!(names(&snapshot, type_url::LISTENER), ["0.0.0.0_8080"]);
    assert_eq!(names(&snapshot, type_url::ROUTE), ["http.80"]);
}

#[test]
fn keys_go_to_routers_of_their_own_namespace_that_show_them() {
    let held = "{tls.crt: CRT, tls.key: KEY, ca.crt: ROOTS}";
    let more = secret("shop", "own", held) + &secret("shop", "unnamed", held) + &secret("bank", "foreign", held);
    assert_eq!(secrets(&told(HTTPS, &more)), ["kubernetes://own", "kubernetes://own-cacert"]);
    let foreign = HTTPS.replace("own", "foreign");
    assert_eq!(secrets(&told(&foreign, &more)), [""; 0], "another namespace's");
    let sidecar = translate(&catalog(vec![]), &intent(HTTPS, &more), &node(Interception::None), &identity());
    assert_eq!(secrets(&sidecar), [""; 0], "sidecars serve no Gateways");
    let mut other = router();
    other.labels.clear();
    assert_eq!(secrets(&translate(&catalog(vec![]), &intent(HTTPS, &more), &other, &identity())), [""; 0]);
    // The node may say what it likes: the certificate counts.
    let elsewhere = text("spiffe://east.example/ns/bank/sa/reviews");
    assert_eq!(secrets(&translate(&catalog(vec![]), &intent(HTTPS, &more), &router(), &elsewhere)), [""; 0]);
}

#[test]
fn a_secret_that_is_named_for_its_roots_keeps_its_key() {
    let tls = "credentialName: own, caCertCredentialName: roots";
    let servers = HTTPS.replace("credentialName: own", tls);
    let more = secret("shop", "own", "{tls.crt: CRT, tls.key: KEY}")
        + &secret("shop", "roots", "{tls.crt: CRT, tls.key: HIDDEN, ca.crt: ROOTS, ca.crl: CRL}");
    let snapshot = told(&servers, &more);
    assert_eq!(secrets(&snapshot), ["kubernetes://own", "kubernetes://roots-cacert"]);
    for resource in snapshot.get(type_url::SECRET).values() {
        assert!(!resource.body.windows(6).any(|bytes| bytes == b"HIDDEN"));
    }
    let roots =
        Secret::decode(&snapshot.get(type_url::SECRET)["kubernetes://roots-cacert"].body[..]).expect("a secret");
    let Some(Type::ValidationContext(context)) = roots.r#type else { panic!("{roots:?}") };
    assert!(context.trusted_ca.is_some() && context.crl.is_some());
}

#[test]
fn tls_is_what_the_server_says() {
    let servers = "  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [a.example]
    tls: {mode: OPTIONAL_MUTUAL, credentialName: own, subjectAltNames: [alice], minProtocolVersion: TLSV1_3, \
          cipherSuites: [ECDHE-RSA-AES256-GCM-SHA384], ecdhCurves: [X25519], verifyCertificateSpki: [cGlu]}
  - port: {number: 443, name: mesh, protocol: HTTPS}
    hosts: [b.example]
    tls: {mode: ISTIO_MUTUAL, subjectAltNames: ['spiffe://east.example/ns/shop/sa/a']}
  - {port: {number: 443, name: lost, protocol: HTTPS}, hosts: [a.example], tls: {mode: SIMPLE, credentialName: own}}
";
    let listener = listener(&told(servers, ""), "0.0.0.0_443");
    let [outside, mesh] = &listener.filter_chains[..] else { panic!("{:?}", listener.filter_chains) };
    assert_eq!(listener.listener_filters[0].name, "envoy.filters.listener.tls_inspector");
    assert_eq!(outside.filter_chain_match.as_ref().expect("set").server_names, ["a.example"]);
    let context: DownstreamTlsContext = tls(outside.transport_socket.as_ref());
    assert!(!context.require_client_certificate.expect("set").value);
    let common = context.common_tls_context.expect("set");
    let params = common.tls_params.expect("set");
    assert_eq!(
        (params.cipher_suites, params.ecdh_curves),
        (vec!["ECDHE-RSA-AES256-GCM-SHA384".to_owned()], vec!["X25519".to_owned()])
    );
    let secret = &common.tls_certificate_sds_secret_configs[0];
    let wait = secret.sds_config.as_ref().and_then(|source| source.initial_fetch_timeout.as_ref()).expect("set");
    assert!(wait.seconds > 0, "one secret that is missing must not keep the others");
    let Some(ValidationContextType::CombinedValidationContext(combined)) = common.validation_context_type else {
        panic!("roots of a secret, and names")
    };
    let own = combined.default_validation_context.expect("set");
    assert_eq!((own.match_typed_subject_alt_names.len(), own.verify_certificate_spki.len()), (1, 1));
    let context: DownstreamTlsContext = tls(mesh.transport_socket.as_ref());
    assert!(context.require_client_certificate.expect("set").value);
    let Some(ValidationContextType::CombinedValidationContext(combined)) =
        context.common_tls_context.expect("set").validation_context_type
    else {
        panic!("the mesh's roots, and names")
    };
    assert_eq!(combined.validation_context_sds_secret_config.expect("set").name, "ROOTCA");
    assert_eq!(combined.default_validation_context.expect("set").match_typed_subject_alt_names.len(), 1);
}

/// Hash maps must not show: equal inputs have equal bytes, or everything would be sent again and again.
#[test]
fn equal_inputs_have_equal_bytes() {
    let more = secret("shop", "own", "{tls.crt: CRT, tls.key: KEY, ca.crt: ROOTS}");
    let services: Vec<Service> =
        ["a.example", "b.example"].map(|host| service(host, "240.240.0.3", vec![port(9080, Protocol::Http)])).into();
    let once = || translate(&catalog(services.clone()), &intent(HTTPS, &more), &router(), &identity());
    assert_eq!(once(), once());
}
