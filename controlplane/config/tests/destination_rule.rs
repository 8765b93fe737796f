//! DestinationRule resources: what they come to, and what is refused.

use isthmus_config::{Intent, PortPolicy, ProxyProtocol, TlsMode, Tunnel};
use resource::ResourceError;
use std::time::Duration;

fn intent(spec: &str) -> Result<Intent, Vec<ResourceError>> {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a, namespace: shop}}\n\
         spec: {{host: db, {spec}}}\n"
    );
    Intent::from_documents(&resource::parse("d.yaml", &text).expect("YAML").documents)
}

/// What holds for port 80 under `policy`.
fn policy(policy: &str) -> PortPolicy {
    let intent = intent(&format!("trafficPolicy: {{{policy}}}")).expect(policy);
    intent.destination_rules[0].policy.of_port(80, None)
}

#[test]
fn a_credential_stands_for_the_files() {
    let tls = policy("tls: {mode: MUTUAL, credentialName: own, sni: db.example}").tls.expect("TLS");
    assert_eq!((&tls.mode, tls.credential.as_deref()), (&TlsMode::Mutual(None), Some("own")));
    let files = policy("tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /r, caCrl: /l}");
    let files = files.tls.expect("TLS");
    assert_eq!(files.mode, TlsMode::Mutual(Some(("/c".into(), "/k".into()))));
    assert_eq!((files.ca_certificates.as_deref(), files.revoked.as_deref()), (Some("/r"), Some("/l")));
    assert_eq!(tls.clone().for_sidecars(true).credential.as_deref(), Some("own"));
    assert_eq!(tls.for_sidecars(false).credential, None);
}

#[test]
fn a_credential_without_chosen_workloads_is_warned_of() {
    let tls = "trafficPolicy: {tls: {mode: SIMPLE, credentialName: own}}";
    let warnings = intent(tls).expect("valid").warnings;
    assert!(warnings[0].message.contains("workloadSelector"), "{}", warnings[0]);
    let chosen = intent(&format!("workloadSelector: {{matchLabels: {{app: a}}}}, {tls}")).expect("valid");
    assert_eq!(chosen.warnings, []);
    assert_eq!(chosen.destination_rules[0].credentials().collect::<Vec<_>>(), ["own"]);
}

#[test]
fn a_tunnel_and_the_proxy_protocol_hold_for_all_ports() {
    let spec = "trafficPolicy: {proxyProtocol: {version: V2}, tunnel: {protocol: POST, targetHost: db.example, \
                targetPort: 5432}, portLevelSettings: [{port: {number: 80}}]}, \
                subsets: [{name: s, trafficPolicy: {tunnel: {targetHost: 10.0.0.1, targetPort: 1}}}]";
    let intent = intent(spec).expect("valid");
    assert_eq!(intent.warnings, []);
    let rule = &intent.destination_rules[0];
    let port = rule.policy.of_port(80, None);
    assert_eq!(port.proxy_protocol, Some(ProxyProtocol::V2));
    assert_eq!(port.tunnel, Some(Tunnel { by_post: true, host: "db.example".into(), port: 5432 }));
    let subset = rule.policy.of_port(80, rule.subset("s").map(|subset| &subset.policy));
    assert_eq!(subset.tunnel, Some(Tunnel { by_post: false, host: "10.0.0.1".into(), port: 1 }));
    assert_eq!(subset.proxy_protocol, Some(ProxyProtocol::V2));
}

#[test]
fn failures_of_outliers_may_be_listed() {
    let listed = policy("outlierDetection: {outlierDetectionHttpErrorCodes: [429, 404]}").outliers.expect("outliers");
    assert_eq!(listed.statuses.into_iter().collect::<Vec<_>>(), [404, 429]);
    let older = policy("outlierDetection: {consecutiveErrors: 3}").outliers.expect("outliers");
    assert_eq!((older.consecutive_gateway, older.consecutive_5xx), (3, 0));
    let both = policy("outlierDetection: {consecutiveErrors: 3, consecutive5xxErrors: 7}").outliers.expect("outliers");
    assert_eq!((both.consecutive_gateway, both.consecutive_5xx), (3, 7));
}

#[test]
fn a_retry_budget_has_an_interval() {
    let budget = policy("retryBudget: {percent: 12.5, minRetryConcurrency: 4, budgetInterval: 2s}").retry_budget;
    let budget = budget.expect("a budget");
    assert_eq!((budget.share, budget.least, budget.interval), (12_500, 4, Some(Duration::from_secs(2))));
}

#[test]
fn what_cannot_be_is_refused() {
    let bad = [
        ("tls: {mode: MUTUAL}", "tls.mode"),
        ("tls: {mode: SIMPLE, credentialName: a, caCertificates: /r}", "tls.caCertificates"),
        ("tls: {mode: MUTUAL, credentialName: a, caCrl: /l}", "tls.caCrl"),
        ("tunnel: {targetHost: a}", "tunnel.targetPort"),
        ("tunnel: {targetHost: '*.a', targetPort: 1}", "tunnel.targetHost"),
        ("tunnel: {protocol: HBONE, targetHost: a, targetPort: 1}", "tunnel.protocol"),
        ("proxyProtocol: {version: V3}", "proxyProtocol.version"),
        (
            "outlierDetection: {outlierDetectionHttpErrorCodes: [99]}",
            "outlierDetection.outlierDetectionHttpErrorCodes[0]",
        ),
    ];
    for (policy, path) in bad {
        let errors = intent(&format!("trafficPolicy: {{{policy}}}")).expect_err(policy);
        assert_eq!(errors[0].path, format!("spec.trafficPolicy.{path}"), "{}", errors[0]);
    }
}
