//! Gateways and their secrets: what they come to, and what is warned of. What is refused stands in the table of traffic
//! cases.

use isthmus_config::{Gateway, Intent, ServerProtocol, ServerTlsMode, Shown, TlsVersion};
use resource::ResourceError;
use std::collections::BTreeMap;

fn intent(text: &str) -> Result<Intent, Vec<ResourceError>> {
    Intent::from_documents(&resource::parse("g.yaml", text).expect(text).documents)
}

fn gateway(name: &str, selector: &str, servers: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: edge}}\n\
         spec: {{selector: {selector}, servers: [{servers}]}}\n---\n"
    )
}

fn warnings(text: &str) -> Vec<String> {
    intent(text).expect("valid").warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_gateway_is_read() {
    let text = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    name: shop
    bind: '::1'
    hosts: [shop.example, ./cart.example, 'shop/*.shop.example', '*/*']
    tls:
      mode: MUTUAL
      credentialNames: [a, b]
      caCertCredentialName: roots
      subjectAltNames: [alice.example]
      minProtocolVersion: TLSV1_3
      cipherSuites: [ECDHE-RSA-AES256-GCM-SHA384]
      ecdhCurves: [X25519, P-256]
  - {port: {number: 80, name: grpc, protocol: grpc-web}, hosts: ['*'], tls: {httpsRedirect: true}}
";
    let intent = intent(text).expect("valid");
    assert_eq!(intent.warnings, []);
    let [https, http] = &intent.gateways[0].servers[..] else { panic!("two servers") };
    let hosts: Vec<String> = https.hosts.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["*/shop.example", "./cart.example", "shop/*.shop.example", "*/*"]);
    assert_eq!((https.port, https.protocol, https.is_http()), (443, ServerProtocol::Https, true));
    assert_eq!(https.bind, Some("::1".parse().expect("an address")));
    let tls = https.tls.as_ref().expect("TLS");
    assert_eq!((tls.mode, tls.least, tls.greatest), (ServerTlsMode::Mutual, Some(TlsVersion::V13), None));
    assert_eq!(tls.shown, [Shown::Secret("a".to_owned()), Shown::Secret("b".to_owned())]);
    assert_eq!((tls.roots_secret.as_deref(), tls.curves.len()), (Some("roots"), 2));
    assert!(http.is_clear_http() && http.tls.as_ref().expect("a redirection").redirects);
}

#[test]
fn gateways_are_served_by_whom_they_select() {
    let server = "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}";
    let all = [("one", "{a: b}"), ("two", "{a: b, c: d}"), ("three", "{c: e}"), ("four", "{}")];
    let text: String = all.iter().map(|(name, selector)| gateway(name, selector, server)).collect();
    let intent = intent(&text).expect("valid");
    let served = |labels: &[(&str, &str)]| {
        let labels: BTreeMap<String, String> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        intent
            .gateways_for(&"edge".parse().expect("valid"), &labels)
            .map(|gateway: &Gateway| gateway.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(served(&[("a", "b"), ("x", "y")]), ["one", "four"]);
    assert_eq!(served(&[("a", "b"), ("c", "d")]), ["one", "two", "four"]);
    assert_eq!(served(&[]), ["four"]);
}

#[test]
fn servers_that_stand_in_each_others_way_are_warned_of() {
    let http = "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}";
    let tcp = "{port: {number: 80, name: tcp, protocol: TCP}, hosts: ['*']}";
    let https = |host: &str, bind: &str| {
        format!(
            "{{port: {{number: 443, name: https, protocol: HTTPS}}, {bind} hosts: [{host}], \
             tls: {{mode: SIMPLE, credentialName: c}}}}"
        )
    };
    let two = |one: &str, other: &str| gateway("one", "{a: b}", one) + &gateway("two", "{a: b}", other);
    let said = warnings(&two(http, tcp));
    assert!(said[0].contains("not served: port 80 speaks HTTP in the clear by Gateway one"), "{said:?}");
    let said = warnings(&two(&https("a.example", ""), &https("a.example", "")));
    assert!(said[0].contains("a.example is not served: Gateway one (g.yaml"), "{said:?}");
    assert_eq!(warnings(&two(http, http)), [""; 0], "HTTP in the clear is joined");
    assert_eq!(warnings(&two(&https("a.example", ""), &https("b.example", ""))), [""; 0]);
    assert_eq!(warnings(&two(&https("a.example", ""), &https("a.example", "bind: 10.0.0.1,"))), [""; 0]);
    let apart = gateway("one", "{a: b}", http) + &gateway("two", "{a: c}", tcp);
    assert_eq!(warnings(&apart), [""; 0], "other proxies");
}

#[test]
fn what_has_no_effect_is_warned_of() {
    for (tls, field) in [
        ("{mode: SIMPLE, credentialName: c, verifyCertificateHash: ['00']}", "verifyCertificateHash"),
        ("{mode: SIMPLE, credentialName: c, subjectAltNames: [a]}", "subjectAltNames"),
        ("{mode: PASSTHROUGH, credentialName: c}", "credentialName"),
        ("{mode: PASSTHROUGH, minProtocolVersion: TLSV1_3}", "minProtocolVersion"),
        ("{mode: ISTIO_MUTUAL, cipherSuites: [ECDHE-RSA-AES256-GCM-SHA384]}", "cipherSuites"),
        ("{mode: ISTIO_MUTUAL, caCertificates: /ca}", "caCertificates"),
        ("{mode: SIMPLE, credentialName: c, ecdhCurves: [P-521]}", "ecdhCurves[0]"),
        ("{mode: SIMPLE, credentialName: c, ecdhCurves: [secp256k1]}", "ecdhCurves[0]"),
        ("{mode: SIMPLE, credentialName: c, insecureSkipVerify: true}", "insecureSkipVerify"),
        ("{mode: SIMPLE, credentialName: c, minProtocolVersion: TLSV1_1}", "minProtocolVersion"),
    ] {
        let server =
            format!("{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: ['*.example'], tls: {tls}}}");
        let said = warnings(&gateway("gw", "{}", &server));
        assert!(said.len() == 1 && said[0].contains(&format!("spec.servers[0].tls.{field}")), "{tls}: {said:?}");
    }
}

#[test]
fn a_secret_is_a_credential_if_it_holds_one() {
    let secret = |name: &str, entries: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: edge}}\nstringData: {entries}\n---\n"
        )
    };
    let text = secret("pair", "{tls.crt: C, tls.key: K, ca.crt: R}")
        + &secret("old", "{cert: C, key: K, cacert: R, crl: X}")
        + &secret("roots", "{ca.crt: R}")
        + &secret("key", "{key: K}")
        + &secret("other", "{password: P}");
    let intent = intent(&text).expect("valid");
    let names: Vec<&str> = intent.credentials.keys().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["old", "pair", "roots"]);
    let shown = format!("{:?} {:?}", intent, resource::parse("s.yaml", &text).expect("documents"));
    for held in ["[67]", "[75]", "[80]"] {
        assert!(!shown.contains(held), "what a secret holds is not printed");
    }
    assert_eq!(intent.credentials[&("edge".parse().expect("valid"), "old".to_owned())].revoked, Some(b"X".to_vec()));
}
