//! Policies beside each other: DENY before ALLOW, dry runs beside both.

use crate::{Ask, HTTP, intent, one, policies_of};

/// A14: every combination of up to six policies, each of which a request meets or not.
#[test]
fn sec_a14_every_combination_of_actions_decides_as_it_should() {
    for count in 0..=6_u32 {
        for actions in 0..1_u32 << count {
            let denies = |index: u32| actions >> index & 1 == 1;
            let policies: Vec<(String, String)> = (0..count)
                .map(|index| {
                    let action = if denies(index) { "DENY" } else { "ALLOW" };
                    let when = format!("[{{key: 'request.headers[x-{index}]', values: ['*']}}]");
                    let spec = format!("{{action: {action}, rules: [{{when: {when}}}]}}");
                    (format!("{{name: p{index}, namespace: shop}}"), spec)
                })
                .collect();
            let policies: Vec<(&str, &str)> = policies.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            let compiled = policies_of(&intent(&policies), HTTP);
            for met in 0..1_u32 << count {
                let is_met = |index: u32| met >> index & 1 == 1;
                let names = ["x-0", "x-1", "x-2", "x-3", "x-4", "x-5"];
                let fields: Vec<_> = names
                    .iter()
                    .zip(0..count)
                    .filter(|(_, i)| is_met(*i))
                    .map(|(name, _)| (*name, &b"1"[..]))
                    .collect();
                let denied = (0..count).any(|index| denies(index) && is_met(index));
                let allows = (0..count).any(|index| !denies(index));
                let allowed = !allows || (0..count).any(|index| !denies(index) && is_met(index));
                let passes = Ask::with(&fields).passes(&compiled);
                assert_eq!(passes, !denied && allowed, "{count} policies, denying {actions:b}, met {met:b}");
            }
        }
    }
}

#[test]
fn the_policy_that_decides_is_told() {
    let compiled = policies_of(
        &intent(&[
            ("{name: b, namespace: shop}", "{action: DENY, rules: [{}]}"),
            ("{name: a, namespace: istio-system}", "{action: DENY, rules: [{to: [{operation: {paths: [/a]}}]}, {}]}"),
        ]),
        HTTP,
    );
    let told = Ask::default().verdict(&compiled);
    assert_eq!(told.policy.as_deref(), Some("ns[istio-system]-policy[a]-rule[1]"));
    assert_eq!(told.details(), "rbac_access_denied_matched_policy[ns[istio-system]-policy[a]-rule[1]]");
    let nobody = Ask::default().verdict(&one("{}"));
    assert_eq!((nobody.allowed, nobody.details().as_str()), (false, "rbac_access_denied_matched_policy[none]"));
    let all = Ask::default().verdict(&one("{rules: [{}]}"));
    assert_eq!((all.allowed, all.policy.as_deref()), (true, Some("ns[shop]-policy[p]-rule[0]")));
}

#[test]
fn dry_runs_only_tell() {
    let dry = "{name: dry, namespace: shop, annotations: {istio.io/dry-run: 'true'}}";
    let compiled = policies_of(
        &intent(&[(dry, "{action: DENY, rules: [{}]}"), ("{name: p, namespace: shop}", "{rules: [{}]}")]),
        HTTP,
    );
    let verdict = Ask::default().verdict(&compiled);
    assert_eq!((verdict.allowed, verdict.policy.as_deref()), (true, Some("ns[shop]-policy[p]-rule[0]")));
    let told = verdict.dry_run.expect("a dry run");
    assert_eq!((told.allowed, told.policy.as_deref()), (false, Some("ns[shop]-policy[dry]-rule[0]")));
}

#[test]
fn audits_are_told_and_let_by() {
    let verdict = Ask::default().verdict(&one("{action: AUDIT, rules: [{}]}"));
    assert_eq!((verdict.allowed, verdict.audited.as_deref()), (true, Some("ns[shop]-policy[p]-rule[0]")));
}

#[test]
fn only_the_policies_that_concern_a_workload_hold_there() {
    for (metadata, target, holds) in [
        ("{name: p, namespace: shop}", "", true),
        ("{name: p, namespace: istio-system}", "", true),
        ("{name: p, namespace: other}", "", false),
        ("{name: p, namespace: shop}", "selector: {matchLabels: {app: reviews}}", true),
        ("{name: p, namespace: shop}", "selector: {matchLabels: {app: other}}", false),
        ("{name: p, namespace: istio-system}", "selector: {matchLabels: {app: reviews}}", true),
        ("{name: p, namespace: shop}", "targetRefs: [{kind: Service, name: reviews}]", true),
        ("{name: p, namespace: shop}", "targetRefs: [{kind: Service, name: other}]", false),
        ("{name: p, namespace: istio-system}", "targetRefs: [{kind: Service, name: reviews}]", false),
        ("{name: p, namespace: shop}", "targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: gw}", false),
    ] {
        let compiled = policies_of(&intent(&[(metadata, &format!("{{{target}}}"))]), HTTP);
        assert_eq!(!Ask::default().passes(&compiled), holds, "{metadata} {target}");
    }
}

/// A20: labels choose whom a policy is for, never who asks.
#[test]
fn sec_a20_who_asks_is_told_by_the_certificate_alone() {
    let compiled = one("{rules: [{from: [{source: {namespaces: [shop]}}]}]}");
    assert!(!Ask::with(&[("x-namespace", b"shop")]).passes(&compiled));
    assert!(Ask::from("west.example/ns/shop/sa/a").passes(&compiled));
}
