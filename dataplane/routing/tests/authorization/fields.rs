//! Every field: who meets it, and who does not.

use crate::{Ask, HTTP, intent, one, policies_of};
use isthmus_routing::Datum;
use std::net::IpAddr;

/// Whether each is let in by a rule, and turned away by the same rule with DENY.
fn check(rule: &str, cases: &[(Ask, bool)]) {
    let allow = one(&format!("{{rules: [{rule}]}}"));
    let deny = one(&format!("{{action: DENY, rules: [{rule}]}}"));
    for (ask, met) in cases {
        assert_eq!(ask.passes(&allow), *met, "ALLOW {rule}: {ask:?}");
        assert_eq!(ask.passes(&deny), !met, "DENY {rule}: {ask:?}");
    }
}

fn source(fields: &str) -> String {
    format!("{{from: [{{source: {{{fields}}}}}]}}")
}

fn operation(fields: &str) -> String {
    format!("{{to: [{{operation: {{{fields}}}}}]}}")
}

fn nobody() -> Ask {
    Ask { principal: None, ..Ask::default() }
}

#[test]
fn principals() {
    let (a, b) = (Ask::from("west.example/ns/web/sa/client"), Ask::from("east.example/ns/shop/sa/reviews"));
    check(&source("principals: [west.example/ns/web/sa/client]"), &[(a.clone(), true), (b.clone(), false)]);
    check(&source("principals: ['west.example/ns/*']"), &[(a.clone(), true), (b.clone(), false)]);
    check(&source("principals: ['*/sa/reviews']"), &[(a.clone(), false), (b.clone(), true)]);
    check(&source("principals: ['*']"), &[(a.clone(), true), (nobody(), false)]);
    check(&source("notPrincipals: ['*']"), &[(a.clone(), false), (nobody(), true)]);
    check(&source("notPrincipals: ['*/sa/client']"), &[(a, false), (b.clone(), true), (nobody(), true)]);
    // The own trust domain by its usual name.
    check(&source("principals: [cluster.local/ns/shop/sa/reviews]"), &[(b, true)]);
}

#[test]
fn aliases_are_the_trust_domain_too() {
    let mut intent = intent(&[(
        "{name: p, namespace: shop}",
        "{rules: [{from: [{source: {principals: [old.example/ns/a/sa/b], notTrustDomains: [x.example]}}]}]}",
    )]);
    let compiled = |intent: &config::Intent| policies_of(intent, HTTP);
    assert!(!Ask::from("east.example/ns/a/sa/b").passes(&compiled(&intent)));
    intent.mesh.trust_domain_aliases = vec!["old.example".parse().expect("a domain")];
    for (domain, passes) in [("east.example", true), ("old.example", true), ("west.example", false)] {
        assert_eq!(Ask::from(&format!("{domain}/ns/a/sa/b")).passes(&compiled(&intent)), passes, "{domain}");
    }
}

/// A10: what is no expression never becomes one.
#[test]
fn sec_a10_dots_and_brackets_in_names_are_themselves() {
    let ask = |account: &str| Ask::from(&format!("west.example/ns/web/sa/{account}"));
    for account in ["serviceAccounts: [web/cert-manager.io]", "principals: ['*/sa/cert-manager.io']"] {
        check(&source(account), &[(ask("cert-manager.io"), true), (ask("cert-managerxio"), false)]);
    }
    let namespace = |name: &str| Ask::from(&format!("west.example/ns/{name}/sa/a"));
    check(
        &source("namespaces: [web]"),
        &[(namespace("web"), true), (namespace("web2"), false), (namespace("aweb"), false)],
    );
    check(&source("principals: ['west[x].example/*']"), &[(Ask::from("westx.example/ns/a/sa/b"), false)]);
    check(&source("trustDomains: ['*.example']"), &[(Ask::from("west-example/ns/a/sa/b"), false)]);
}

#[test]
fn namespaces_accounts_and_trust_domains() {
    let (a, b) = (Ask::from("west.example/ns/prod-1/sa/client"), Ask::from("east.example/ns/shop/sa/reviews"));
    check(&source("namespaces: [shop]"), &[(a.clone(), false), (b.clone(), true), (nobody(), false)]);
    check(&source("namespaces: ['prod-*']"), &[(a.clone(), true), (b.clone(), false)]);
    check(&source("namespaces: ['*op']"), &[(a.clone(), false), (b.clone(), true)]);
    check(&source("notNamespaces: [shop]"), &[(a.clone(), true), (b.clone(), false), (nobody(), true)]);
    check(&source("serviceAccounts: [reviews]"), &[(a.clone(), false), (b.clone(), true)]);
    check(&source("serviceAccounts: [prod-1/client]"), &[(a.clone(), true), (b.clone(), false)]);
    check(&source("notServiceAccounts: [prod-1/client]"), &[(a.clone(), false), (b.clone(), true)]);
    check(&source("trustDomains: [west.example]"), &[(a.clone(), true), (b.clone(), false), (nobody(), false)]);
    check(&source("trustDomains: [cluster.local]"), &[(a.clone(), false), (b.clone(), true)]);
    check(&source("trustDomains: ['we*', '*t']"), &[(a.clone(), true), (b.clone(), false)]);
    check(&source("notTrustDomains: ['*.example']"), &[(a, false), (b, false), (nobody(), true)]);
}

#[test]
fn addresses() {
    let at = |direct: &str, remote: &str| {
        let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
        Ask { direct: ip(direct), remote: ip(remote), ..Ask::default() }
    };
    let (near, far) = (at("10.1.2.3", "192.0.2.1"), at("10.2.2.3", "198.51.100.1"));
    check(&source("ipBlocks: [10.1.0.0/16]"), &[(near.clone(), true), (far.clone(), false)]);
    check(&source("notIpBlocks: [10.1.2.3]"), &[(near.clone(), false), (far.clone(), true)]);
    check(&source("remoteIpBlocks: [192.0.2.0/24]"), &[(near.clone(), true), (far.clone(), false)]);
    check(&source("notRemoteIpBlocks: [192.0.2.1]"), &[(near.clone(), false), (far.clone(), true)]);
    check(&source("ipBlocks: ['::ffff:10.1.2.3']"), &[(near.clone(), true), (at("::ffff:10.1.2.3", "::1"), true)]);
    check("{when: [{key: source.ip, values: [10.1.0.0/16]}]}", &[(near.clone(), true), (far.clone(), false)]);
    check("{when: [{key: remote.ip, notValues: [192.0.2.1]}]}", &[(near.clone(), false), (far, true)]);
    check("{when: [{key: destination.ip, values: [10.0.0.1]}]}", &[(near.clone(), true)]);
    check("{when: [{key: destination.ip, values: [10.0.0.2]}]}", &[(near, false)]);
}

#[test]
fn methods_ports_and_names() {
    let post = Ask { method: http::Method::POST, ..Ask::default() };
    check(&operation("methods: [GET]"), &[(Ask::default(), true), (post.clone(), false)]);
    check(&operation("methods: ['P*']"), &[(Ask::default(), false), (post.clone(), true)]);
    check(&operation("notMethods: [GET, HEAD]"), &[(Ask::default(), false), (post, true)]);
    // A9: methods are compared byte by byte.
    let lower = Ask { method: "get".parse().expect("a method"), ..Ask::default() };
    check(&operation("methods: [GET]"), &[(lower, false)]);
    check(&operation("ports: ['9080']"), &[(Ask::default(), true), (Ask { port: 1, ..Ask::default() }, false)]);
    check(&operation("notPorts: ['9080']"), &[(Ask::default(), false)]);
    check("{when: [{key: destination.port, values: ['9080']}]}", &[(Ask::default(), true)]);
    let named = Ask { server_name: "a.example".to_owned(), ..Ask::default() };
    for (key, met) in [("'*'", true), ("a.example", true), ("'*.example'", true), ("'a.*'", true), ("b.example", false)]
    {
        check(
            &format!("{{when: [{{key: connection.sni, values: [{key}]}}]}}"),
            &[(named.clone(), met), (Ask::default(), false)],
        );
    }
}

/// A4: one host, however it is written.
#[test]
fn sec_a4_hosts_are_the_same_in_any_case_with_a_port_and_with_a_last_dot() {
    let at = |authority: &str| Ask { authority: authority.to_owned(), ..Ask::default() };
    let alike = ["httpbin.foo", "HttpBin.FOO", "httpbin.foo.", "httpbin.foo:80", "HTTPBIN.foo.:8080"];
    for pattern in ["httpbin.foo", "HTTPBIN.FOO", "'*.foo'", "'httpbin*'", "'*'"] {
        check(&operation(&format!("hosts: [{pattern}]")), &alike.map(|host| (at(host), true)));
        check(&operation(&format!("notHosts: [{pattern}]")), &alike.map(|host| (at(host), false)));
    }
    check(
        &operation("hosts: [httpbin.foo]"),
        &["httpbinxfoo", "httpbin.foo.bar", "a.httpbin.foo"].map(|h| (at(h), false)),
    );
    check(&operation("hosts: ['httpbin.foo:80']"), &[(at("httpbin.foo:80"), true), (at("httpbin.foo:81"), false)]);
}

/// A6, A13: templates, and paths without what comes after them.
#[test]
fn sec_a6_a13_paths() {
    let cases =
        |all: &[(&str, bool)]| -> Vec<(Ask, bool)> { all.iter().map(|(path, met)| (Ask::path(path), *met)).collect() };
    check(
        &operation("paths: [/a]"),
        &cases(&[("/a", true), ("/a?x=/b", true), ("/a#x", true), ("/ab", false), ("/A", false)]),
    );
    check(&operation("paths: ['/a*']"), &cases(&[("/a", true), ("/ab/c", true), ("/b", false)]));
    check(&operation("paths: ['*.txt']"), &cases(&[("/a.txt?x", true), ("/a?x.txt", false), ("/atxt", false)]));
    check(&operation("notPaths: [/a, '/b*']"), &cases(&[("/a", false), ("/b/c", false), ("/c", true)]));
    let template = cases(&[
        ("/v1/a/x", true),
        ("/v1/a*b/x", true),
        ("/v1/a\"b/x", true),
        ("/v1/%C3%A9/x", true),
        ("/v1//x", false),
        ("/v1/a/b/x", false),
        ("/v1/a/y", false),
        ("/v1/a/x/", false),
    ]);
    check(&operation("paths: ['/v1/{*}/x']"), &template);
    let rest = cases(&[("/v1/", true), ("/v1/a/b", true), ("/v1", false), ("/v2/a", false)]);
    check(&operation("paths: ['/v1/{**}']"), &rest);
    check(&operation("paths: ['/v.1/{*}']"), &cases(&[("/v.1/a", true), ("/vx1/a", false)]));
    check(&operation("paths: ['/{**}/end']"), &cases(&[("/a/b/end", true), ("/a/b/endx", false)]));
}

/// A7: who sends a field twice gets by nothing.
#[test]
fn sec_a7_every_value_of_a_field_counts() {
    let rule = "{when: [{key: 'request.headers[x-role]', values: [admin]}]}";
    let (allow, deny) = (one(&format!("{{rules: [{rule}]}}")), one(&format!("{{action: DENY, rules: [{rule}]}}")));
    let but = "{when: [{key: 'request.headers[x-role]', notValues: [admin]}]}";
    let (allow_but, deny_but) =
        (one(&format!("{{rules: [{but}]}}")), one(&format!("{{action: DENY, rules: [{but}]}}")));
    for (values, all, some) in [
        (&["admin"][..], true, true),
        (&["user"], false, false),
        (&["user", "admin"], false, true),
        (&["admin", "user"], false, true),
        (&["admin", "admin"], true, true),
        (&["user,admin"], false, true),
        (&["user, admin ,x"], false, true),
        (&["a", "b,admin", "c"], false, true),
        (&["administrator", "xadmin"], false, false),
        (&[], false, false),
    ] {
        let fields: Vec<(&'static str, &[u8])> = values.iter().map(|value| ("x-role", value.as_bytes())).collect();
        let ask = Ask::with(&fields);
        assert_eq!(ask.passes(&allow), all, "ALLOW admin: {values:?}");
        assert_eq!(ask.passes(&deny), !some, "DENY admin: {values:?}");
        assert_eq!(ask.passes(&allow_but), !some, "ALLOW all but admin: {values:?}");
        assert_eq!(ask.passes(&deny_but), all, "DENY all but admin: {values:?}");
    }
}

/// A8: what is no text is turned away where it cannot be judged.
#[test]
fn sec_a8_bytes_that_are_no_text_get_by_nothing() {
    let ask = Ask::with(&[("x-role", b"\xff")]);
    let with = |action: &str, condition: &str| {
        let rules = format!("[{{when: [{{key: 'request.headers[x-role]', {condition}}}]}}]");
        one(&format!("{{action: {action}, rules: {rules}}}"))
    };
    for (action, condition) in [
        ("ALLOW", "notValues: ['bad*']"),
        ("ALLOW", "values: [good]"),
        ("DENY", "values: [admin]"),
        ("DENY", "notValues: [good]"),
    ] {
        assert!(!ask.passes(&with(action, condition)), "{action} {condition}");
    }
    assert!(ask.passes(&with("ALLOW", "values: ['*']")), "it is there");
}

/// A16: names of fields are the same in any case.
#[test]
fn sec_a16_names_of_fields_in_any_case() {
    let rule = "{when: [{key: 'request.headers[X-Role]', values: ['ad*', '*in']}]}";
    check(rule, &[(Ask::with(&[("x-role", b"admin")]), true), (Ask::with(&[("x-role", b"user")]), false)]);
}

#[test]
fn tokens_and_metadata() {
    let text = |value: &str| Datum::Text(value.into());
    let fields =
        |all: Vec<(&str, Datum)>| Datum::Fields(all.into_iter().map(|(key, value)| (key.into(), value)).collect());
    let payload = fields(vec![
        ("iss", text("https://issuer.example/a")),
        ("sub", text("me")),
        ("aud", Datum::List(vec![text("one"), text("two")])),
        ("azp", text("app")),
        ("nested", fields(vec![("role", text("admin"))])),
    ]);
    let mut ask = Ask::default();
    ask.metadata.insert("envoy.filters.http.jwt_authn".into(), fields(vec![("payload", payload)]));
    ask.metadata.insert(
        "envoy.filters.network.mysql_proxy".into(),
        fields(vec![("db.table", Datum::List(vec![text("select"), text("update")])), ("user", text("root"))]),
    );
    let without = Ask::default();
    for (rule, met) in [
        (source("requestPrincipals: ['*']"), true),
        (source("requestPrincipals: ['https://issuer.example/a/me']"), true),
        (source("requestPrincipals: ['https://issuer.example/a/*']"), true),
        (source("requestPrincipals: ['https://issuer.example/*']"), true),
        (source("requestPrincipals: ['*/me']"), true),
        (source("requestPrincipals: ['https://issuer.example/a/you', me]"), false),
        ("{when: [{key: request.auth.principal, values: ['https://issuer.example/a/me']}]}".to_owned(), true),
        ("{when: [{key: request.auth.audiences, values: [two]}]}".to_owned(), true),
        ("{when: [{key: request.auth.audiences, values: [three]}]}".to_owned(), false),
        ("{when: [{key: request.auth.presenter, values: ['a*']}]}".to_owned(), true),
        ("{when: [{key: 'request.auth.claims[nested][role]', values: [admin]}]}".to_owned(), true),
        ("{when: [{key: 'request.auth.claims[nested][other]', values: ['*']}]}".to_owned(), false),
        (
            "{when: [{key: 'experimental.envoy.filters.network.mysql_proxy[db.table]', values: ['[update]']}]}".into(),
            true,
        ),
        (
            "{when: [{key: 'experimental.envoy.filters.network.mysql_proxy[db.table]', values: ['[drop]']}]}".into(),
            false,
        ),
        ("{when: [{key: 'experimental.envoy.filters.network.mysql_proxy[user]', values: [root]}]}".into(), true),
    ] {
        check(&rule, &[(ask.clone(), met), (without.clone(), false)]);
    }
    check(&source("notRequestPrincipals: ['*']"), &[(ask, false), (without, true)]);
}
