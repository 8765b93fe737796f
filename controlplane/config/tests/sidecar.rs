//! Sidecar resources: what they come to, whose workloads they are for, and what is refused.

use isthmus_config::{CaptureMode, DefaultEndpoint, EgressHost, Intent, OutboundPolicy, Shown};
use model::{Namespace, Protocol, ServiceKey};
use resource::ResourceError;
use std::collections::BTreeMap;

fn intent(text: &str) -> Result<Intent, Vec<ResourceError>> {
    Intent::from_documents(&resource::parse("s.yaml", text).expect(text).documents)
}

fn sidecar(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n---\n"
    )
}

fn namespace(text: &str) -> Namespace {
    text.parse().expect("a namespace")
}

#[test]
fn a_sidecar_without_interception_is_read() {
    let text = "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: reviews, namespace: bookinfo}
spec:
  workloadSelector: {labels: {app: reviews}}
  ingress:
  - port: {number: 9080, name: http, protocol: HTTP}
    bind: 127.0.0.2
    captureMode: NONE
    defaultEndpoint: 127.0.0.1:8080
  - port: {number: 9090, protocol: TCP}
    defaultEndpoint: 0.0.0.0:9091
  - port: {number: 9092}
  - port: {number: 9093}
    defaultEndpoint: unix:///run/app.sock
  egress:
  - port: {number: 3128, name: proxy, protocol: HTTP}
    bind: '::1'
    hosts: ['./*', '*/*.example.com']
  - hosts: [shop/web.shop.svc.cluster.local]
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
";
    let intent = intent(text).expect("valid");
    let sidecar = &intent.sidecars[0];
    assert_eq!(intent.warnings, []);
    let endpoints: Vec<_> = sidecar.ingress.iter().map(|listener| listener.default_endpoint.clone()).collect();
    let socket = DefaultEndpoint::Socket("127.0.0.1:8080".parse().expect("an address"));
    let unix = DefaultEndpoint::Unix("/run/app.sock".into());
    assert_eq!(endpoints, [socket, DefaultEndpoint::Own(9091), DefaultEndpoint::Own(9092), unix]);
    let first = &sidecar.ingress[0];
    assert_eq!((first.port, first.protocol, first.capture), (9080, Protocol::Http, CaptureMode::None));
    assert_eq!(first.bind, Some("127.0.0.2".parse().expect("an address")));
    assert_eq!((sidecar.egress[0].port, sidecar.egress[1].port), (Some(3128), None));
    assert_eq!(sidecar.egress[0].hosts.len(), 2);
    assert_eq!(sidecar.outbound_policy, Some(OutboundPolicy::RegistryOnly));
}

#[test]
fn a_workload_gets_the_sidecar_closest_to_it() {
    let egress = "{egress: [{hosts: ['./*']}]}";
    let text = [
        sidecar("istio-system", "mesh", egress),
        sidecar("shop", "all", egress),
        sidecar("shop", "web", "{workloadSelector: {labels: {app: web, tier: a}}, egress: [{hosts: ['~/*']}]}"),
    ];
    let intent = intent(&text.concat()).expect("valid");
    let chosen = |ns: &str, labels: &[(&str, &str)]| {
        let labels: BTreeMap<String, String> = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        intent.sidecar_for(&namespace(ns), &labels).map(|sidecar| sidecar.name.as_str())
    };
    assert_eq!(chosen("shop", &[("app", "web"), ("tier", "a"), ("x", "y")]), Some("web"));
    assert_eq!(chosen("shop", &[("app", "web")]), Some("all"));
    assert_eq!(chosen("other", &[("app", "web"), ("tier", "a")]), Some("mesh"));
    assert_eq!(Intent::default().sidecar_for(&namespace("shop"), &BTreeMap::new()), None);
}

#[test]
fn an_egress_host_means_services() {
    let own = namespace("shop");
    let key = |ns: &str, host: &str| ServiceKey { host: host.parse().expect("a host"), namespace: namespace(ns) };
    for (pattern, ns, host, meant) in [
        ("./*", "shop", "a.b", true),
        ("./*", "other", "a.b", false),
        ("*/*", "other", "a.b", true),
        ("~/*", "shop", "a.b", false),
        ("other/*.b", "other", "a.b", true),
        ("other/*.b", "other", "b", false),
        ("*/A.B.", "other", "a.b", true),
        ("*/*.b", "shop", "*.b", true),
    ] {
        let pattern: EgressHost = pattern.parse().expect("a pattern");
        assert_eq!(pattern.matches(&key(ns, host), &own), meant, "{pattern} {ns}/{host}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (spec, path, accepted) in [
        ("{ingress: [{port: {number: 0}}]}", "spec.ingress[0].port.number", "65535"),
        ("{ingress: [{defaultEndpoint: '127.0.0.1:1'}]}", "spec.ingress[0].port", "a number"),
        (
            "{ingress: [{port: {number: 1}, defaultEndpoint: '10.0.0.1:80'}]}",
            "spec.ingress[0].defaultEndpoint",
            "[::1]:PORT",
        ),
        (
            "{ingress: [{port: {number: 1}, defaultEndpoint: '127.0.0.1:0'}]}",
            "spec.ingress[0].defaultEndpoint",
            "1 to 65535",
        ),
        (
            "{ingress: [{port: {number: 1}, defaultEndpoint: 'unix://run'}]}",
            "spec.ingress[0].defaultEndpoint",
            "unix:///PATH",
        ),
        ("{ingress: [{port: {number: 1}}, {port: {number: 1}}]}", "spec.ingress[1].port.number", "once"),
        ("{ingress: [{port: {number: 1, protocol: FTP}}]}", "spec.ingress[0].port.protocol", "GRPC"),
        ("{ingress: [{port: {number: 1}, bind: nowhere}]}", "spec.ingress[0].bind", "IP address"),
        ("{ingress: [{port: {number: 1}, captureMode: TPROXY}]}", "spec.ingress[0].captureMode", "IPTABLES"),
        ("{egress: [{hosts: []}]}", "spec.egress[0].hosts", "one host"),
        ("{egress: [{hosts: [a.b]}]}", "spec.egress[0].hosts[0]", "NAMESPACE/HOST"),
        ("{egress: [{hosts: ['A_b/*']}]}", "spec.egress[0].hosts[0]", "NAMESPACE/HOST"),
        ("{egress: [{hosts: ['./*'], bind: 127.0.0.1}]}", "spec.egress[0].bind", "with a port"),
        ("{egress: [{hosts: ['./*']}, {hosts: ['./*'], port: {number: 1}}]}", "spec.egress[1]", "last"),
        ("{egres: []}", "spec.egres", "unknown field"),
        ("{outboundTrafficPolicy: {mode: ANY}}", "spec.outboundTrafficPolicy.mode", "ALLOW_ANY"),
    ] {
        let errors = intent(&sidecar("shop", "a", spec)).expect_err(spec);
        assert_eq!(errors[0].path, path, "{}", errors[0]);
        assert!(errors[0].expected.contains(accepted), "{}", errors[0]);
        assert_eq!(errors[0].position.line, 4, "{}", errors[0]);
    }
}

#[test]
fn all_errors_are_told_and_what_is_unknown_is_warned_about() {
    let bad = sidecar("shop", "a", "{egres: []}") + &sidecar("shop", "b", "{ingress: 1}");
    assert_eq!(intent(&bad).expect_err("two errors").len(), 2);
    let same = sidecar("shop", "a", "{}").repeat(2);
    let errors = intent(&same).expect_err("twice the same");
    assert!(errors[0].to_string().contains("the other is at s.yaml:1:1"), "{}", errors[0]);
    let text = "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: a}\n---\n\
        apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n"
        .to_owned()
        + &sidecar("shop", "a", "{}");
    let warnings = intent(&text).expect("valid").warnings;
    assert_eq!(warnings.iter().map(|w| w.path.as_str()).collect::<Vec<_>>(), ["kind"]);
}

#[test]
fn limits_tls_and_the_egress_proxy_are_read() {
    let text = sidecar(
        "shop",
        "a",
        "
  inboundConnectionPool: {http: {http2MaxRequests: 7}}
  ingress:
  - port: {number: 8443, protocol: HTTPS}
    tls: {mode: MUTUAL, credentialName: own}
    connectionPool: {tcp: {maxConnections: 3}}
  - port: {number: 8444, protocol: TLS}
    tls: {mode: SIMPLE, serverCertificate: /crt, privateKey: /key}
  outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: out, subset: v1, port: {number: 8080}}}
",
    );
    let intent = intent(&text).expect("valid");
    assert_eq!(intent.warnings, []);
    let sidecar = &intent.sidecars[0];
    assert_eq!(sidecar.inbound_pool.as_ref().expect("a pool").max_requests, Some(7));
    let inside: Vec<_> = sidecar.ingress.iter().map(|listener| listener.protocol).collect();
    assert_eq!(inside, [Protocol::Http, Protocol::Tcp]);
    assert_eq!(sidecar.ingress[0].tls.as_ref().expect("TLS").shown, [Shown::Secret("own".to_owned())]);
    assert_eq!(sidecar.ingress[0].pool.as_ref().expect("a pool").max_connections, Some(3));
    let proxy = sidecar.egress_proxy.as_ref().expect("a proxy");
    assert_eq!(proxy.host.as_str(), "out.shop.svc.cluster.local");
    assert_eq!((proxy.subset.as_deref(), proxy.port), (Some("v1"), Some(8080)));
}

#[test]
fn what_a_sidecar_cannot_have_is_refused() {
    let bad = [
        ("outboundTrafficPolicy: {egressProxy: {host: out}}", "spec.outboundTrafficPolicy.egressProxy"),
        (
            "ingress: [{port: {number: 1, protocol: HTTP}, tls: {mode: SIMPLE, credentialName: a}}]",
            "spec.ingress[0].tls",
        ),
        ("ingress: [{port: {number: 1, protocol: TLS}, tls: {mode: PASSTHROUGH}}]", "spec.ingress[0].tls.mode"),
        (
            "ingress: [{port: {number: 1, protocol: TLS}, tls: {mode: SIMPLE, credentialName: a, httpsRedirect: true}}]",
            "spec.ingress[0].tls.httpsRedirect",
        ),
        ("inboundConnectionPool: {tcp: {maxConnections: -1}}", "spec.inboundConnectionPool.tcp.maxConnections"),
    ];
    for (spec, path) in bad {
        let errors = intent(&sidecar("shop", "a", &format!("{{{spec}}}"))).expect_err(spec);
        assert_eq!(errors[0].path, path, "{}", errors[0]);
    }
}
