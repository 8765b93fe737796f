//! A wrong value for every field of MeshConfig that is read: the error says where in the ConfigMap, which field, and what is
//! accepted.

use isthmus_config::Intent;

/// What stands in the MeshConfig, where it is wrong, and a part of what is said to be accepted.
const WRONG: &[(&str, &str, &str)] = &[
    ("connectTimeout: soon", "connectTimeout", "1ms or more"),
    ("connectTimeout: 0s", "connectTimeout", "1ms or more"),
    ("conectTimeout: 1s", "conectTimeout", "an unknown field"),
    ("defaultConfig: 7", "defaultConfig", "a mapping"),
    ("defaultConfig: {concurrency: -1}", "defaultConfig.concurrency", "a number of threads"),
    ("defaultConfig: {drainDuration: 0s}", "defaultConfig.drainDuration", "1s or more"),
    ("defaultConfig: {gatewayTopology: 1}", "defaultConfig.gatewayTopology", "a mapping"),
    (
        "defaultConfig: {gatewayTopology: {forwardClientCertDetails: ALL}}",
        "defaultConfig.gatewayTopology.forwardClientCertDetails",
        "SANITIZE_SET",
    ),
    (
        "defaultConfig: {gatewayTopology: {numTrustedProxies: -1}}",
        "defaultConfig.gatewayTopology.numTrustedProxies",
        "a number of proxies",
    ),
    ("defaultConfig: {proxyHeaders: 7}", "defaultConfig.proxyHeaders", "a mapping"),
    (
        "defaultConfig: {proxyHeaders: {attemptCount: {disabled: 7}}}",
        "defaultConfig.proxyHeaders.attemptCount.disabled",
        "true or false",
    ),
    (
        "defaultConfig: {proxyHeaders: {envoyDebugHeaders: off}}",
        "defaultConfig.proxyHeaders.envoyDebugHeaders",
        "a mapping",
    ),
    (
        "defaultConfig: {proxyHeaders: {forwardedClientCert: ALL}}",
        "defaultConfig.proxyHeaders.forwardedClientCert",
        "SANITIZE_SET",
    ),
    (
        "defaultConfig: {proxyHeaders: {requestId: {disabled: 7}}}",
        "defaultConfig.proxyHeaders.requestId.disabled",
        "true or false",
    ),
    (
        "defaultConfig: {proxyHeaders: {server: {disabled: 7}}}",
        "defaultConfig.proxyHeaders.server.disabled",
        "true or false",
    ),
    (
        r#"defaultConfig: {proxyHeaders: {server: {value: "a\tb"}}}"#,
        "defaultConfig.proxyHeaders.server.value",
        "visible ASCII",
    ),
    ("defaultConfig: {proxyMetadata: {A: {}}}", "defaultConfig.proxyMetadata[\"A\"]", "a text"),
    ("defaultConfig: {terminationDrainDuration: soon}", "defaultConfig.terminationDrainDuration", "1s or more"),
    ("defaultDestinationRuleExportTo: all", "defaultDestinationRuleExportTo", "a list"),
    ("defaultDestinationRuleExportTo: [A_B]", "defaultDestinationRuleExportTo[0]", "a-z"),
    ("defaultServiceExportTo: all", "defaultServiceExportTo", "a list"),
    ("defaultServiceExportTo: [A_B]", "defaultServiceExportTo[0]", "a-z"),
    ("defaultVirtualServiceExportTo: all", "defaultVirtualServiceExportTo", "a list"),
    ("defaultVirtualServiceExportTo: [A_B]", "defaultVirtualServiceExportTo[0]", "a-z"),
    ("defaultHttpRetryPolicy: 3", "defaultHttpRetryPolicy", "a mapping"),
    ("defaultHttpRetryPolicy: {attempts: -1}", "defaultHttpRetryPolicy.attempts", "0 to 1000"),
    ("defaultHttpRetryPolicy: {attempts: 1, perTryTimeout: 0s}", "defaultHttpRetryPolicy.perTryTimeout", "1ms or more"),
    ("defaultHttpRetryPolicy: {attempts: 1, retryOn: never}", "defaultHttpRetryPolicy.retryOn", ""),
    ("h2UpgradePolicy: MAYBE", "h2UpgradePolicy", "DO_NOT_UPGRADE or UPGRADE"),
    ("inboundTrafficPolicy: LOCALHOST", "inboundTrafficPolicy", "a mapping"),
    ("inboundTrafficPolicy: {mode: REMOTE}", "inboundTrafficPolicy.mode", "PASSTHROUGH or LOCALHOST"),
    ("localityLbSetting: 7", "localityLbSetting", "a mapping"),
    ("localityLbSetting: {enabled: 7}", "localityLbSetting.enabled", "true or false"),
    ("localityLbSetting: {failover: [{from: a, to: a}]}", "localityLbSetting.failover[0].to", "another region"),
    ("localityLbSetting: {failoverPriority: ['']}", "localityLbSetting.failoverPriority[0]", "KEY or KEY=VALUE"),
    ("outboundTrafficPolicy: ALLOW_ANY", "outboundTrafficPolicy", "a mapping"),
    ("outboundTrafficPolicy: {mode: SOMETIMES}", "outboundTrafficPolicy.mode", "REGISTRY_ONLY or ALLOW_ANY"),
    ("pathNormalization: BASE", "pathNormalization", "a mapping"),
    ("pathNormalization: {normalization: ALL}", "pathNormalization.normalization", "MERGE_SLASHES"),
    ("protocolDetectionTimeout: soon", "protocolDetectionTimeout", "a time"),
    ("rootNamespace: A_B", "rootNamespace", "a-z"),
    ("tcpKeepalive: 7", "tcpKeepalive", "a mapping"),
    ("tcpKeepalive: {probes: 200}", "tcpKeepalive.probes", "0 to 127"),
    ("tcpKeepalive: {time: 0s}", "tcpKeepalive.time", "1ms or more"),
    ("tcpKeepalive: {interval: 0s}", "tcpKeepalive.interval", "1ms or more"),
    ("trustDomainAliases: old", "trustDomainAliases", "a list"),
    ("trustDomainAliases: [A B]", "trustDomainAliases[0]", "1 to 255 of a-z"),
];

#[test]
fn a_wrong_value_of_every_field_is_told_by_place_field_and_what_is_accepted() {
    for (mesh, path, expected) in WRONG {
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    {mesh}\n"
        );
        let documents = resource::parse("mesh.yaml", &text).expect("documents").documents;
        let errors = Intent::check(&documents).expect_err(mesh);
        let error = &errors[0];
        assert_eq!(error.path, format!("data.mesh.{path}"), "{mesh}: {error}");
        assert!(error.expected.contains(expected), "{mesh}: {error}");
        assert_eq!((&*error.position.file, error.position.line), ("mesh.yaml", 6), "{mesh}: {error}");
        let place = error.position.column as usize - 1;
        assert!(place >= "    ".len() && place < "    ".len() + mesh.len(), "{mesh}: {error}");
    }
}
