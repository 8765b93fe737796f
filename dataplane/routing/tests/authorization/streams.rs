//! Connections whose requests are not known.

use crate::{Ask, TCP, intent, policies_of};

fn passes(spec: &str, principal: &str) -> bool {
    let compiled = policies_of(&intent(&[("{name: p, namespace: shop}", spec)]), TCP);
    Ask { is_bytes: true, port: TCP, ..Ask::from(principal) }.passes(&compiled)
}

/// A11: also where a name's end is meant.
#[test]
fn sec_a11_connections_are_turned_away_by_who_asks() {
    let spec = "{action: DENY, rules: [{from: [{source: {principals: ['*-some-suffix']}}]}]}";
    assert!(!passes(spec, "west.example/ns/a/sa/my-some-suffix"));
    assert!(passes(spec, "west.example/ns/a/sa/my-some-suffix2"));
    let ports = "{action: DENY, rules: [{to: [{operation: {ports: ['9100']}}]}]}";
    assert!(!passes(ports, "west.example/ns/a/sa/b"));
}

/// ALLOW is not met by what asks for a request; DENY does without it (Istio's rules).
#[test]
fn what_only_requests_have_is_never_there() {
    let other = "west.example/ns/other/sa/b";
    for condition in [
        "to: [{operation: {methods: [GET]}}]",
        "to: [{operation: {hosts: [a]}}]",
        "to: [{operation: {notPaths: [/a]}}]",
        "to: [{operation: {ports: ['9100']}}, {operation: {methods: [GET]}}]",
        "when: [{key: 'request.headers[a]', values: [b]}]",
        "when: [{key: request.auth.principal, notValues: [b]}]",
    ] {
        assert!(!passes(&format!("{{rules: [{{{condition}}}]}}"), other), "{condition}");
        let deny = format!("{{action: DENY, rules: [{{from: [{{source: {{namespaces: [other]}}}}], {condition}}}]}}");
        assert!(!passes(&deny, other), "{condition}");
        assert!(passes(&deny, "west.example/ns/web/sa/b"), "{condition}");
    }
    assert!(!passes("{rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}", other));
}
