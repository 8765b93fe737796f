//! PeerAuthentications: which of them says how callers of a workload's port come, and what is refused.

use isthmus_config::{Intent, MtlsMode};
use model::Namespace;
use resource::ResourceError;
use std::collections::BTreeMap;

fn intent(text: &str) -> Result<Intent, Vec<ResourceError>> {
    Intent::from_documents(&resource::parse("p.yaml", text).expect(text).documents)
}

fn policy(namespace: &str, name: &str, spec: &str) -> String {
    dated(namespace, name, "", spec)
}

fn dated(namespace: &str, name: &str, created: &str, spec: &str) -> String {
    let created = if created.is_empty() { String::new() } else { format!(", creationTimestamp: '{created}'") };
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{name: {name}, namespace: {namespace}{created}}}\nspec: {spec}\n---\n"
    )
}

fn mode(intent: &Intent, at: &str, app: &str, port: u16) -> MtlsMode {
    let namespace: Namespace = at.parse().expect("a namespace");
    let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
    let mode = intent.peer_policies.mode_at(&namespace, &labels, port);
    assert_eq!(intent.peer_policies.modes_for(&namespace, &labels).at(port), mode);
    assert_eq!(intent.peer_policies.is_clear(&namespace, &labels, port), mode == MtlsMode::Disable);
    mode
}

#[test]
fn without_any_callers_come_as_they_like() {
    assert_eq!(mode(&intent("").expect("valid"), "shop", "web", 80), MtlsMode::Permissive);
    assert_eq!(mode(&Intent::default(), "shop", "web", 80), MtlsMode::Permissive);
}

#[test]
fn the_narrower_goes_before_and_unset_says_nothing() {
    let text = [
        policy("istio-system", "mesh", "{mtls: {mode: STRICT}}"),
        policy("shop", "all", "{mtls: {mode: DISABLE}}"),
        policy(
            "shop",
            "web",
            "{selector: {matchLabels: {app: web}}, mtls: {mode: UNSET},
              portLevelMtls: {'80': {mode: PERMISSIVE}, '81': {mode: UNSET}, '82': {}, '83': {mode: STRICT}}}",
        ),
        policy("quiet", "all", "{}"),
        policy(
            "quiet",
            "web",
            "{selector: {matchLabels: {app: web}}, mtls: {mode: PERMISSIVE}, portLevelMtls: {'81': {}}}",
        ),
    ];
    let intent = intent(&text.concat()).expect("valid");
    assert_eq!(intent.warnings, []);
    for (namespace, app, port, expected) in [
        ("other", "web", 80, MtlsMode::Strict),
        ("istio-system", "web", 80, MtlsMode::Strict),
        ("shop", "api", 80, MtlsMode::Disable),
        ("shop", "web", 80, MtlsMode::Permissive),
        ("shop", "web", 81, MtlsMode::Disable),
        ("shop", "web", 82, MtlsMode::Disable),
        ("shop", "web", 83, MtlsMode::Strict),
        ("shop", "web", 84, MtlsMode::Disable),
        ("quiet", "api", 80, MtlsMode::Strict),
        ("quiet", "web", 81, MtlsMode::Permissive),
    ] {
        assert_eq!(mode(&intent, namespace, app, port), expected, "{namespace} {app} {port}");
    }
}

#[test]
fn the_oldest_of_equals_counts_and_the_others_are_warned_of() {
    let text = [
        policy("shop", "undated", "{mtls: {mode: DISABLE}}"),
        dated("shop", "young", "2026-02-01T00:00:00Z", "{mtls: {mode: PERMISSIVE}}"),
        dated("shop", "old", "2026-01-01T00:00:00Z", "{mtls: {mode: STRICT}}"),
        policy("istio-system", "odd", "{selector: {matchLabels: {app: web}}, mtls: {mode: DISABLE}}"),
    ];
    let intent = intent(&text.concat()).expect("valid");
    assert_eq!(mode(&intent, "shop", "web", 80), MtlsMode::Strict);
    assert_eq!(mode(&intent, "istio-system", "web", 80), MtlsMode::Permissive);
    let warnings: Vec<String> = intent.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings[0].contains("the whole mesh"), "{warnings:?}");
    assert!(warnings[1..].iter().all(|warning| warning.contains("\"old\" is for the whole namespace")), "{warnings:?}");
}

#[test]
fn the_root_namespace_is_that_of_the_mesh_s_configuration() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
        data: {mesh: 'rootNamespace: mesh'}\n---\n"
        .to_owned()
        + &policy("mesh", "a", "{mtls: {mode: STRICT}}")
        + &policy("istio-system", "a", "{mtls: {mode: DISABLE}}");
    let intent = intent(&text).expect("valid");
    assert_eq!(mode(&intent, "shop", "web", 80), MtlsMode::Strict);
    assert_eq!(mode(&intent, "istio-system", "web", 80), MtlsMode::Disable);
}

#[test]
fn ports_need_a_selector_and_are_numbers() {
    for (spec, expected) in [
        ("{portLevelMtls: {'80': {mode: STRICT}}}", "a selector beside it"),
        ("{selector: {matchLabels: {a: b}}, portLevelMtls: {}}", "one port or more"),
        ("{selector: {matchLabels: {a: b}}, portLevelMtls: {http: {}}}", "a port number before it, 1 to 65535"),
        ("{selector: {matchLabels: {a: b}}, portLevelMtls: {'0': {}}}", "a port number before it, 1 to 65535"),
        ("{selector: {matchLabels: {a: b}}, portLevelMtls: {'65536': {}}}", "a port number before it, 1 to 65535"),
        ("{selector: {matchExpressions: []}}", "an unknown field; known here: matchLabels"),
        ("{mtls: {mode: STRICT, more: 1}}", "an unknown field; known here: mode"),
    ] {
        let errors = intent(&policy("shop", "a", spec)).expect_err(spec);
        assert!(errors[0].to_string().contains(expected), "{spec}: {}", errors[0]);
    }
}
