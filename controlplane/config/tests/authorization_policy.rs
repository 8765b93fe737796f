//! What AuthorizationPolicies say, as they are read.

use isthmus_config::{
    AccessCondition, AuthorizationPolicy, Intent, Listed, PathPattern, PathSegment, PolicyAction, PolicyTarget,
    TargetRef, TextPattern,
};

fn document(spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: \
         {spec}\n"
    )
}

fn intent(text: &str) -> Result<Intent, String> {
    let documents = resource::parse("a.yaml", text).expect("well-formed").documents;
    Intent::from_documents(&documents).map_err(|errors| errors[0].to_string())
}

fn policy(spec: &str) -> Result<AuthorizationPolicy, String> {
    Ok(intent(&document(spec))?.authorization_policies.remove(0))
}

#[test]
fn no_rules_let_in_nobody_and_an_empty_rule_everybody() {
    for spec in ["{}", "{action: ALLOW}", "{rules: []}", "null"] {
        let nobody = policy(spec).expect("valid");
        assert_eq!((nobody.action, nobody.rules.len(), nobody.target), (PolicyAction::Allow, 0, PolicyTarget::All));
    }
    assert_eq!(policy("{rules: [{}]}").expect("valid").rules, [isthmus_config::AccessRule::default()]);
    for action in ["DENY", "AUDIT"] {
        let error = policy(&format!("{{action: {action}}}")).expect_err("it does nothing");
        assert!(error.contains("spec.rules: nothing is not accepted: one or more rules"), "{error}");
    }
}

#[test]
fn stars_stand_at_one_end() {
    let read = |text: &str| {
        let spec = format!("{{rules: [{{from: [{{source: {{principals: ['{text}']}}}}]}}]}}");
        policy(&spec).map(|policy| policy.rules[0].from[0].principals.wanted[0].clone())
    };
    for (text, expected) in [
        ("*", TextPattern::Any),
        ("a.b/*", TextPattern::Prefix("a.b/".into())),
        ("*-suffix", TextPattern::Suffix("-suffix".into())),
        ("a.[b]", TextPattern::Exact("a.[b]".into())),
    ] {
        assert_eq!(read(text), Ok(expected));
    }
    for wrong in ["", "**", "*a*", "a*b"] {
        assert!(read(wrong).expect_err("refused").contains("principals[0]"), "{wrong}");
    }
}

#[test]
fn templates_leave_segments_open() {
    let read = policy("{rules: [{to: [{operation: {paths: ['/a/{*}/b/{**}']}}]}]}").expect("valid");
    let literal = |text: &str| PathSegment::Literal(text.into());
    let expected = vec![literal("a"), PathSegment::One, literal("b"), PathSegment::Rest];
    assert_eq!(read.rules[0].to[0].paths.wanted, [PathPattern::Template(expected)]);
}

#[test]
fn addresses_are_ipv4_in_whatever_clothes() {
    let read =
        policy("{rules: [{from: [{source: {ipBlocks: ['::ffff:10.1.2.3', '::ffff:10.0.0.0/104', 10.1.2.3/8]}}]}]}");
    let blocks: Vec<String> =
        read.expect("valid").rules[0].from[0].ip_blocks.wanted.iter().map(ToString::to_string).collect();
    assert_eq!(blocks, ["10.1.2.3/32", "10.0.0.0/8", "10.0.0.0/8"]);
}

#[test]
fn names_of_fields_are_lower_case() {
    let read = policy("{rules: [{when: [{key: 'request.headers[X-Role]', values: [a]}]}]}").expect("valid");
    let wanted = Listed { wanted: vec![TextPattern::Exact("a".into())], unwanted: vec![] };
    assert_eq!(read.rules[0].when, [AccessCondition::Header("x-role".into(), wanted)]);
}

#[test]
fn what_excludes_each_other_is_refused() {
    for (spec, part) in [
        ("{selector: {matchLabels: {a: b}}, targetRef: {kind: Service, name: a}}", "nothing beside selector"),
        ("{provider: {name: a}}", "nothing beside another action than CUSTOM"),
        ("{action: CUSTOM, rules: [{}]}", "spec.provider.name"),
        (
            "{action: CUSTOM, provider: {name: a}, rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}",
            "no condition on tokens",
        ),
        ("{rules: [{from: [{source: {serviceAccounts: [a], namespaces: [b]}}]}]}", "nothing beside serviceAccounts"),
        ("{rules: [{from: [{source: {princpals: [a]}}]}]}", "princpals"),
    ] {
        let error = policy(spec).expect_err("refused");
        assert!(error.contains(part), "{spec}: {error}");
    }
}

#[test]
fn a_dry_run_says_true_or_false() {
    let with = |value: &str| {
        let text = document("{}").replace("shop}", &format!("shop, annotations: {{istio.io/dry-run: '{value}'}}}}"));
        intent(&text).map(|mut intent| intent.authorization_policies.remove(0).dry_run)
    };
    assert_eq!((with("true"), with("false")), (Ok(true), Ok(false)));
    assert!(with("yes").expect_err("refused").contains("istio.io/dry-run"));
}

#[test]
fn named_service_entries_are_found_by_name_and_missing_ones_told() {
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: se, namespace: shop}\nspec: {hosts: \
                 [a.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}\n";
    let spec = "{targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: se}, {kind: Service, name: web}]}";
    let found = intent(&(document(spec) + entry)).expect("valid");
    let hosts = ["a.example", "web.shop.svc.cluster.local"].map(|host| host.parse().expect("a host"));
    let [entry_host, service] = hosts;
    let named = vec![TargetRef::ServiceEntry("se".into(), vec![entry_host]), TargetRef::Service(service)];
    assert_eq!(found.authorization_policies[0].target, PolicyTarget::Named(named));
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    let missing = intent(&document(spec)).expect("valid");
    assert!(missing.warnings[0].message.contains("there is no ServiceEntry se in shop"), "{:?}", missing.warnings);
}
