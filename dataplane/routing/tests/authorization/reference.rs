//! The same decisions by a second, plain way: AuthorizationPolicies as they are written, evaluated one by one.

use crate::{Ask, HTTP, policies_of};
use config::{
    AccessCondition, AccessOperation, AccessRule, AccessSource, AuthorizationPolicy, Intent, Listed, PathPattern,
    PathSegment, PolicyAction, PolicyTarget, TextPattern,
};
use http::{HeaderMap, HeaderValue, Method};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::select;

// === The reference ===

fn is(pattern: &TextPattern, text: &str) -> bool {
    match pattern {
        TextPattern::Any => !text.is_empty(),
        TextPattern::Exact(wanted) => text == wanted,
        TextPattern::Prefix(wanted) => text.starts_with(wanted),
        TextPattern::Suffix(wanted) => text.ends_with(wanted),
    }
}

fn listed<T>(listed: &Listed<T>, is: impl Fn(&T) -> bool) -> bool {
    (listed.wanted.is_empty() || listed.wanted.iter().any(&is)) && !listed.unwanted.iter().any(is)
}

fn on_path(pattern: &PathPattern, path: &str) -> bool {
    let PathPattern::Template(wanted) = pattern else { return matches!(pattern, PathPattern::Text(p) if is(p, path)) };
    let mut segments = path.split('/').skip(1);
    for one in wanted {
        match (one, segments.next()) {
            (PathSegment::Literal(wanted), Some(segment)) if wanted == segment => {}
            (PathSegment::One, Some(segment)) if !segment.is_empty() => {}
            (PathSegment::Rest, Some(_)) => return true,
            _ => return false,
        }
    }
    segments.next().is_none()
}

fn by(source: &AccessSource, principal: &str) -> bool {
    let parts: Vec<&str> = principal.split('/').collect();
    let namespace = parts.get(2).copied().unwrap_or_default();
    listed(&source.principals, |one| is(one, principal)) && listed(&source.namespaces, |one| is(one, namespace))
}

fn to(operation: &AccessOperation, ask: &Ask) -> bool {
    listed(&operation.methods, |one| is(one, ask.method.as_str()))
        && listed(&operation.paths, |one| on_path(one, &ask.target))
        && listed(&operation.ports, |port| *port == ask.port)
}

fn when(condition: &AccessCondition, ask: &Ask, broad: bool) -> bool {
    let AccessCondition::Header(name, values) = condition else { return false };
    let lines: Vec<&str> = ask.headers.get_all(name).iter().map(|line| line.to_str().expect("ASCII")).collect();
    let some =
        |one: &TextPattern| lines.iter().any(|line| line.split(',').any(|part| is(one, part.trim())) || is(one, line));
    let all = |one: &TextPattern| !lines.is_empty() && lines.iter().all(|line| is(one, line));
    let met = |one: &TextPattern, broad: bool| if broad { some(one) } else { all(one) };
    (values.wanted.is_empty() || values.wanted.iter().any(|one| met(one, broad)))
        && !values.unwanted.iter().any(|one| met(one, !broad))
}

fn meets(rule: &AccessRule, ask: &Ask, broad: bool) -> bool {
    let principal = ask.principal.as_deref().unwrap_or_default().trim_start_matches("spiffe://");
    (rule.from.is_empty() || rule.from.iter().any(|source| by(source, principal)))
        && (rule.to.is_empty() || rule.to.iter().any(|operation| to(operation, ask)))
        && rule.when.iter().all(|condition| when(condition, ask, broad))
}

fn passes(policies: &[AuthorizationPolicy], ask: &Ask) -> bool {
    let of = |action: PolicyAction| policies.iter().filter(move |policy| policy.action == action);
    let met = |policy: &AuthorizationPolicy| {
        policy.rules.iter().any(|rule| meets(rule, ask, policy.action != PolicyAction::Allow))
    };
    !of(PolicyAction::Deny).any(met) && (of(PolicyAction::Allow).next().is_none() || of(PolicyAction::Allow).any(met))
}

// === What is tried ===

fn pattern(words: &'static [&'static str]) -> impl Strategy<Value = TextPattern> {
    let word = move || select(words).prop_map(str::to_owned);
    prop_oneof![
        Just(TextPattern::Any),
        word().prop_map(TextPattern::Exact),
        word().prop_map(TextPattern::Prefix),
        word().prop_map(TextPattern::Suffix),
    ]
}

fn lists<T: std::fmt::Debug>(one: impl Strategy<Value = T> + Clone) -> impl Strategy<Value = Listed<T>> {
    (vec(one.clone(), 0..3), vec(one, 0..2)).prop_map(|(wanted, unwanted)| Listed { wanted, unwanted })
}

const PRINCIPALS: &[&str] =
    &["west.example/ns/web/sa/client", "west.example/ns/w.b/sa/a", "sa/client", "west.example/"];
const SEGMENTS: &[&str] = &["a", "b", "a.b", "axb"];
const VALUES: &[&str] = &["admin", "user", "ad", "min"];

fn path() -> impl Strategy<Value = PathPattern> {
    let segment =
        prop_oneof![select(SEGMENTS).prop_map(|text| PathSegment::Literal(text.to_owned())), Just(PathSegment::One),];
    let template = (vec(segment, 1..3), any::<bool>()).prop_map(|(mut segments, rest)| {
        segments.extend(rest.then_some(PathSegment::Rest));
        PathPattern::Template(segments)
    });
    prop_oneof![pattern(&["/a", "/a/b", "/", "b"]).prop_map(PathPattern::Text), template]
}

fn rule() -> impl Strategy<Value = AccessRule> {
    let shared = |one: fn() -> proptest::strategy::BoxedStrategy<TextPattern>| lists(one());
    let source = (shared(|| pattern(PRINCIPALS).boxed()), shared(|| pattern(&["web", "w", "b"]).boxed()))
        .prop_map(|(principals, namespaces)| AccessSource { principals, namespaces, ..AccessSource::default() });
    let operation =
        (shared(|| pattern(&["GET", "POST", "P"]).boxed()), lists(path().boxed()), lists(select(vec![HTTP, 1_u16])))
            .prop_map(|(methods, paths, ports)| AccessOperation {
                methods,
                paths,
                ports,
                ..AccessOperation::default()
            });
    let condition =
        lists(pattern(VALUES).boxed()).prop_map(|values| AccessCondition::Header("x-role".to_owned(), values));
    (vec(source, 0..2), vec(operation, 0..2), vec(condition, 0..2)).prop_map(|(from, to, when)| AccessRule {
        from,
        to,
        when,
    })
}

fn policy() -> impl Strategy<Value = AuthorizationPolicy> {
    (any::<bool>(), vec(rule(), 0..3)).prop_map(|(denies, rules)| AuthorizationPolicy {
        namespace: "shop".parse().expect("a namespace"),
        name: String::new(),
        position: resource::Position { file: "a.yaml".into(), line: 1, column: 1 },
        target: PolicyTarget::All,
        action: if denies { PolicyAction::Deny } else { PolicyAction::Allow },
        dry_run: false,
        rules,
    })
}

fn ask() -> impl Strategy<Value = Ask> {
    let principal = proptest::option::of(select(&["west.example/ns/web/sa/client", "west.example/ns/wxb/sa/a"][..]));
    let line = vec(select(VALUES), 1..3).prop_map(|parts| parts.join(","));
    let target =
        vec(select(&["a", "b", "a.b", "axb", "a*", ""][..]), 1..4).prop_map(|parts| format!("/{}", parts.join("/")));
    (principal, select(vec![Method::GET, Method::POST]), target, vec(line, 0..3), select(vec![HTTP, 2_u16])).prop_map(
        |(principal, method, target, lines, port)| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-role", HeaderValue::from_str(&line).expect("a value"));
            }
            let principal = principal.map(|principal| format!("spiffe://{principal}"));
            Ask { method, target, headers, principal, port, ..Ask::default() }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn compiled_policies_decide_as_written_ones(policies in vec(policy(), 0..4), asks in vec(ask(), 20)) {
        let mut policies = policies;
        for (index, policy) in policies.iter_mut().enumerate() {
            policy.name = format!("p{index}");
        }
        let intent = Intent { authorization_policies: policies.clone(), ..Intent::default() };
        let compiled = policies_of(&intent, HTTP);
        for ask in asks {
            prop_assert_eq!(ask.passes(&compiled), passes(&policies, &ask), "{:?}", ask);
        }
    }
}
