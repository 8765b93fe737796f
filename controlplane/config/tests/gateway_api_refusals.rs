//! The Gateway API: for each field a value that nobody could honour, where the error points, and what it accepts.

use isthmus_config::Intent;
use resource::ResourceError;

fn refused(kind: &str, spec: &str) -> ResourceError {
    let text = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: a, namespace: shop}}\nspec: {spec}\n"
    );
    let documents = resource::parse("g.yaml", &text).expect("well-formed").documents;
    match Intent::from_documents(&documents) {
        Ok(_) => panic!("accepted: {kind} {spec}"),
        Err(errors) => errors.into_iter().next().expect("an error"),
    }
}

fn check(kind: &str, table: &[(&str, &str, &str)], whole: impl Fn(&str) -> String) {
    for (spec, path, accepted) in table {
        let error = refused(kind, &whole(spec));
        assert_eq!(error.path, *path, "{spec}: {error}");
        assert!(error.expected.contains(accepted), "{spec}: {error}");
        assert_eq!(error.position.line, 4, "{spec}: {error}");
    }
}

#[test]
fn a_gateway_class() {
    let table = [
        ("{}", "spec.controllerName", "required"),
        ("{controllerName: istio}", "spec.controllerName", "DOMAIN/PATH"),
        ("{controllerName: 1}", "spec.controllerName", "a text"),
        ("{controllerName: a.b/c, description: 1}", "spec.description", "a text"),
        ("{controllerName: a.b/c, parametersRef: {kind: A}}", "spec.parametersRef.name", "required"),
        ("{controllerName: a.b/c, parametersRef: {name: a}}", "spec.parametersRef.kind", "a kind"),
        ("{controller: a.b/c}", "spec.controller", "unknown field"),
    ];
    check("GatewayClass", &table, str::to_owned);
}

#[test]
fn a_gateway() {
    let listener = "{name: a, port: 80, protocol: HTTP}";
    let table = [
        ("listeners: []", "spec.gatewayClassName", "required"),
        ("gatewayClassName: A_b", "spec.gatewayClassName", "a-z"),
        ("gatewayClassName: istio", "spec.listeners", "1 to 64"),
        ("gatewayClassName: istio, addresses: 1, listeners: [L]", "spec.addresses", "a list"),
        (
            "gatewayClassName: istio, addresses: [{value: a}], listeners: [L]",
            "spec.addresses[0].value",
            "an IP address",
        ),
        ("gatewayClassName: istio, addresses: [{typ: a}], listeners: [L]", "spec.addresses[0].typ", "type, value"),
        (
            "gatewayClassName: istio, infrastructure: {labels: [a]}, listeners: [L]",
            "spec.infrastructure.labels",
            "a mapping",
        ),
        (
            "gatewayClassName: istio, infrastructure: {parametersRef: {name: a}}, listeners: [L]",
            "spec.infrastructure.parametersRef.kind",
            "a kind",
        ),
        ("gatewayClassName: istio, defaultScope: Some, listeners: [L]", "spec.defaultScope", "All, None"),
        ("gatewayClassName: istio, listeners: [L, L]", "spec.listeners[1]", "once"),
        (
            "gatewayClassName: istio, listeners: [L, {name: b, port: 80, protocol: HTTP}]",
            "spec.listeners[1]",
            "port, protocol and hostname",
        ),
        ("gatewayClassName: istio, tls: {frontend: {}}, listeners: [L]", "spec.tls.frontend.default", "required"),
        (
            "gatewayClassName: istio, tls: {frontend: {default: {validation: {}}}}, listeners: [L]",
            "spec.tls.frontend.default.validation.caCertificateRefs",
            "ConfigMap",
        ),
        (
            "gatewayClassName: istio, tls: {frontend: {default: {validation: {caCertificateRefs: [{kind: ConfigMap, name: a}], mode: Any}}}}, listeners: [L]",
            "spec.tls.frontend.default.validation.mode",
            "AllowValidOnly",
        ),
        (
            "gatewayClassName: istio, tls: {frontend: {default: {}, perPort: [{port: 0, tls: {}}]}}, listeners: [L]",
            "spec.tls.frontend.perPort[0].port",
            "65535",
        ),
        (
            "gatewayClassName: istio, tls: {frontend: {default: {}, perPort: [{port: 1, tls: {}}, {port: 1, tls: {}}]}}, listeners: [L]",
            "spec.tls.frontend.perPort[1].port",
            "once",
        ),
        (
            "gatewayClassName: istio, tls: {backend: {clientCertificateRef: {namespace: a}}}, listeners: [L]",
            "spec.tls.backend.clientCertificateRef.name",
            "required",
        ),
    ];
    check("Gateway", &table, |spec| {
        format!("{{{}}}", spec.replace("[L", &format!("[{listener}")).replace(", L]", &format!(", {listener}]")))
    });
}

#[test]
fn a_listener() {
    let table = [
        ("{port: 80, protocol: HTTP}", "name", "required"),
        ("{name: a, protocol: HTTP}", "port", "65535"),
        ("{name: a, port: 80}", "protocol", "required"),
        ("{name: a, port: 0, protocol: HTTP}", "port", "65535"),
        ("{name: a, port: 80, protocol: HTTP, hostname: 10.0.0.1}", "hostname", "no IP address"),
        ("{name: a, port: 80, protocol: HTTP, hostname: 'a b'}", "hostname", "labels"),
        ("{name: a, port: 80, protocol: TCP, hostname: a.b}", "hostname", "TCP"),
        ("{name: a, port: 80, protocol: HTTP, tls: {}}", "tls", "no tls"),
        ("{name: a, port: 80, protocol: HTTPS}", "tls", "HTTPS and TLS need"),
        ("{name: a, port: 80, protocol: HTTPS, tls: {mode: Passthrough}}", "tls.mode", "Terminate"),
        ("{name: a, port: 80, protocol: TLS, tls: {mode: passthrough}}", "tls.mode", "Passthrough"),
        ("{name: a, port: 80, protocol: TLS, tls: {}}", "tls.certificateRefs", "a Secret"),
        ("{name: a, port: 80, protocol: TLS, tls: {certificateRefs: [{kind: Secret}]}}", "tls.certificateRefs[0].name", "required"),
        ("{name: a, port: 80, protocol: TLS, tls: {options: {gateway.istio.io/tls-terminate-mode: ANY}}}", "tls.options[\"gateway.istio.io/tls-terminate-mode\"]", "ISTIO_MUTUAL"),
        ("{name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Some}}}", "allowedRoutes.namespaces.from", "Same, All"),
        ("{name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector}}}", "allowedRoutes.namespaces.selector", "labels"),
        ("{name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchExpressions: [{key: a, operator: Has}]}}}}", "allowedRoutes.namespaces.selector.matchExpressions[0].operator", "DoesNotExist"),
        ("{name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchExpressions: [{key: a, operator: In}]}}}}", "allowedRoutes.namespaces.selector.matchExpressions[0].values", "one value"),
        ("{name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {a: 1}}}}}", "allowedRoutes.namespaces.selector.matchLabels[\"a\"]", "a text"),
        ("{name: a, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{group: a}]}}", "allowedRoutes.kinds[0].kind", "required"),
        ("{name: a, port: 80, protocol: HTTP, tsl: {}}", "tsl", "unknown field"),
    ]
    .map(|(spec, path, accepted)| (spec, format!("spec.listeners[0].{path}"), accepted));
    let table: Vec<(&str, &str, &str)> =
        table.iter().map(|(spec, path, accepted)| (*spec, path.as_str(), *accepted)).collect();
    check("Gateway", &table, |spec| format!("{{gatewayClassName: istio, listeners: [{spec}]}}"));
}

#[test]
fn parents_and_host_names() {
    let table = [
        ("parentRefs: a", "spec.parentRefs", "a list"),
        ("parentRefs: [{kind: Gateway}]", "spec.parentRefs[0].name", "required"),
        ("parentRefs: [{name: A}]", "spec.parentRefs[0].name", "a-z"),
        ("parentRefs: [{name: a, namespace: B_c}]", "spec.parentRefs[0].namespace", "a-z"),
        ("parentRefs: [{name: a, port: 70000}]", "spec.parentRefs[0].port", "65535"),
        ("parentRefs: [{name: a, sectionName: 1}]", "spec.parentRefs[0].sectionName", "a text"),
        ("parentRefs: [{name: a}, {name: a}]", "spec.parentRefs[1]", "once"),
        ("parentRefs: [{name: a, section: b}]", "spec.parentRefs[0].section", "sectionName"),
        ("hostnames: [10.0.0.1]", "spec.hostnames[0]", "no IP address"),
        ("hostnames: ['a..b']", "spec.hostnames[0]", "labels"),
        ("hostnames: [a.b, A.b]", "spec.hostnames[1]", "once"),
        ("host: a", "spec.host", "unknown field"),
    ];
    let rules = "rules: [{backendRefs: [{name: a, port: 1}]}]";
    for kind in ["HTTPRoute", "GRPCRoute", "TLSRoute"] {
        check(kind, &table, |spec| format!("{{{spec}, {rules}}}"));
    }
    check("TCPRoute", &table[..8], |spec| format!("{{{spec}, {rules}}}"));
    check("TCPRoute", &[("hostnames: [a.b]", "spec.hostnames", "unknown field")], |spec| {
        format!("{{{spec}, {rules}}}")
    });
    for kind in ["HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute"] {
        check(kind, &[("{}", "spec.rules", "1 to 16")], str::to_owned);
    }
}

#[test]
fn the_rules_of_an_http_route() {
    let table = [
        ("{name: 'a b'}", "name", "a-z"),
        ("{match: []}", "match", "matches, filters"),
        ("{matches: [{path: {value: a}}]}", "matches[0].path.value", "begins with '/'"),
        ("{matches: [{path: {type: Exact, value: /a//b}}]}", "matches[0].path.value", "'//'"),
        ("{matches: [{path: {type: Prefix, value: /a}}]}", "matches[0].path.type", "PathPrefix"),
        ("{matches: [{path: {type: RegularExpression, value: '('}}]}", "matches[0].path.value", "RE2"),
        ("{matches: [{method: FETCH}]}", "matches[0].method", "PATCH"),
        ("{matches: [{headers: [{value: a}]}]}", "matches[0].headers[0].name", "required"),
        ("{matches: [{headers: [{name: 'a b', value: a}]}]}", "matches[0].headers[0].name", "header field"),
        ("{matches: [{headers: [{name: a}]}]}", "matches[0].headers[0].value", "required"),
        ("{matches: [{headers: [{name: a, value: ''}]}]}", "matches[0].headers[0].value", "1 to 4096"),
        (
            "{matches: [{headers: [{name: a, value: a, type: Prefix}]}]}",
            "matches[0].headers[0].type",
            "RegularExpression",
        ),
        ("{matches: [{queryParams: [{name: '', value: a}]}]}", "matches[0].queryParams[0].name", "not empty"),
        (
            "{matches: [{queryParams: [{name: a, value: '(', type: RegularExpression}]}]}",
            "matches[0].queryParams[0].value",
            "RE2",
        ),
        ("{backendRefs: [{name: a}]}", "backendRefs[0].port", "a service needs"),
        ("{backendRefs: [{port: 1}]}", "backendRefs[0].name", "required"),
        ("{backendRefs: [{name: a, port: 0}]}", "backendRefs[0].port", "65535"),
        ("{backendRefs: [{name: a, port: 1, weight: -1}]}", "backendRefs[0].weight", "1000000"),
        ("{backendRefs: [{name: a, port: 1, namespace: A}]}", "backendRefs[0].namespace", "a-z"),
        ("{backendRefs: [{name: a, port: 1, filters: [{}]}]}", "backendRefs[0].filters[0].type", "RequestMirror"),
        ("{timeouts: {request: tomorrow}}", "timeouts.request", "a time"),
        ("{timeouts: {request: 1.5s}}", "timeouts.request", "1h30m"),
        ("{timeouts: {request: 1s, backendRequest: 2s}}", "timeouts.backendRequest", "not longer"),
        ("{retry: {codes: [200]}}", "retry.codes[0]", "400 to 599"),
        ("{retry: {attempts: -1}}", "retry.attempts", "1000"),
        ("{retry: {backoff: 0s}}", "retry.backoff", "1ms"),
        ("{sessionPersistence: {type: Address}}", "sessionPersistence.type", "Cookie, Header"),
        (
            "{sessionPersistence: {type: Header, cookieConfig: {}}}",
            "sessionPersistence.cookieConfig",
            "no cookieConfig",
        ),
        (
            "{sessionPersistence: {cookieConfig: {lifetimeType: Permanent}}}",
            "sessionPersistence.absoluteTimeout",
            "Permanent",
        ),
        ("{sessionPersistence: {idleTimeout: tomorrow}}", "sessionPersistence.idleTimeout", "a time"),
        ("{sessionPersistence: {sessionName: ''}}", "sessionPersistence.sessionName", "128"),
    ];
    rules("HTTPRoute", &table);
}

#[test]
fn the_filters_of_an_http_route() {
    let table = [
        ("{type: Rewrite}", "type", "URLRewrite"),
        ("{type: CORS}", "cors", "required"),
        ("{type: CORS, cors: {}, urlRewrite: {}}", "urlRewrite", "nothing beside cors"),
        ("{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: ':path', value: a}]}}", "requestHeaderModifier.set[0].name", "header field"),
        ("{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: a}, {name: A, value: b}]}}", "requestHeaderModifier.set[1].name", "once"),
        ("{type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: a, value: '%'}]}}", "responseHeaderModifier.add[0].value", "'%'"),
        ("{type: ResponseHeaderModifier, responseHeaderModifier: {remove: ['a b']}}", "responseHeaderModifier.remove[0]", "header field"),
        ("{type: RequestMirror, requestMirror: {}}", "requestMirror.backendRef", "name and port"),
        ("{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, percent: 101}}", "requestMirror.percent", "0 to 100"),
        ("{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, fraction: {numerator: 3, denominator: 2}}}", "requestMirror.fraction.numerator", "to the denominator"),
        ("{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, fraction: {denominator: 0}}}", "requestMirror.fraction.denominator", "1 or more"),
        ("{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, percent: 1, fraction: {numerator: 1}}}", "requestMirror.fraction", "nothing beside percent"),
        ("{type: RequestRedirect, requestRedirect: {scheme: ftp}}", "requestRedirect.scheme", "https"),
        ("{type: RequestRedirect, requestRedirect: {hostname: '*.a'}}", "requestRedirect.hostname", "without '*'"),
        ("{type: RequestRedirect, requestRedirect: {port: 0}}", "requestRedirect.port", "65535"),
        ("{type: RequestRedirect, requestRedirect: {statusCode: 300}}", "requestRedirect.statusCode", "308"),
        ("{type: RequestRedirect, requestRedirect: {path: {}}}", "requestRedirect.path.type", "ReplaceFullPath"),
        ("{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath}}}", "requestRedirect.path.replaceFullPath", "required"),
        ("{type: URLRewrite, urlRewrite: {hostname: 'a b'}}", "urlRewrite.hostname", "labels"),
        ("{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: a}}}", "urlRewrite.path.replacePrefixMatch", "'/'"),
        ("{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replacePrefixMatch: /a}}}", "urlRewrite.path.replacePrefixMatch", "another"),
        ("{type: CORS, cors: {allowOrigins: [one]}}", "cors.allowOrigins[0]", "https://"),
        ("{type: CORS, cors: {allowOrigins: ['*', 'https://a']}}", "cors.allowOrigins", "alone"),
        ("{type: CORS, cors: {allowMethods: [FETCH]}}", "cors.allowMethods[0]", "PATCH"),
        ("{type: CORS, cors: {allowMethods: ['*', GET]}}", "cors.allowMethods", "alone"),
        ("{type: CORS, cors: {allowHeaders: ['a b']}}", "cors.allowHeaders[0]", "header field"),
        ("{type: CORS, cors: {exposeHeaders: [1]}}", "cors.exposeHeaders[0]", "a text"),
        ("{type: CORS, cors: {allowCredentials: yes please}}", "cors.allowCredentials", "true or false"),
        ("{type: CORS, cors: {maxAge: 0}}", "cors.maxAge", "1 or more"),
        ("{type: ExtensionRef}", "extensionRef", "required"),
        ("{type: ExternalAuth}", "externalAuth", "required"),
    ]
    .map(|(filter, path, accepted)| (format!("{{filters: [{filter}]}}"), format!("filters[0].{path}"), accepted));
    let table: Vec<(&str, &str, &str)> = table.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), *c)).collect();
    rules("HTTPRoute", &table);
    let redirect = "{type: RequestRedirect, requestRedirect: {port: 1}}";
    let prefix = "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /a}}}";
    let together = [
        (format!("{{filters: [{redirect}, {redirect}]}}"), "filters[1].type", "once"),
        (format!("{{filters: [{redirect}, {prefix}]}}"), "filters", "not both"),
        (format!("{{filters: [{redirect}], backendRefs: [{{name: a, port: 1}}]}}"), "backendRefs", "no backends"),
        (format!("{{filters: [{prefix}], matches: [{{path: {{type: Exact, value: /a}}}}]}}"), "matches", "PathPrefix"),
    ];
    let table: Vec<(&str, &str, &str)> = together.iter().map(|(a, b, c)| (a.as_str(), *b, *c)).collect();
    rules("HTTPRoute", &table);
}

#[test]
fn the_rules_of_other_routes() {
    let grpc = [
        ("{name: 'a b'}", "name", "a-z"),
        ("{timeouts: {}}", "timeouts", "unknown field"),
        ("{matches: [{method: {}}]}", "matches[0].method", "service, method or both"),
        ("{matches: [{method: {service: a/b}}]}", "matches[0].method.service", "letters"),
        ("{matches: [{method: {method: 'a b'}}]}", "matches[0].method.method", "letters"),
        ("{matches: [{method: {type: Regex, method: a}}]}", "matches[0].method.type", "RegularExpression"),
        ("{matches: [{method: {type: RegularExpression, method: '('}}]}", "matches[0].method.method", "RE2"),
        ("{matches: [{headers: [{name: a, value: 1}]}]}", "matches[0].headers[0].value", "a text"),
        ("{filters: [{type: URLRewrite, urlRewrite: {}}]}", "filters[0].urlRewrite", "unknown field"),
        ("{filters: [{type: URLRewrite}]}", "filters[0].type", "RequestMirror"),
        ("{backendRefs: [{name: a}]}", "backendRefs[0].port", "65535"),
        ("{sessionPersistence: {type: a}}", "sessionPersistence.type", "Cookie"),
    ];
    rules("GRPCRoute", &grpc);
    let stream = [
        ("{}", "backendRefs", "one backend"),
        ("{name: A, backendRefs: [{name: a, port: 1}]}", "name", "a-z"),
        ("{backendRefs: [{name: a}]}", "backendRefs[0].port", "65535"),
        ("{backendRefs: [{name: a, port: 1, weight: 1000001}]}", "backendRefs[0].weight", "1000000"),
        ("{backendRefs: [{name: a, port: 1, filters: []}]}", "backendRefs[0].filters", "unknown field"),
        ("{matches: []}", "matches", "name, backendRefs"),
    ];
    rules("TLSRoute", &stream);
    rules("TCPRoute", &stream);
}

#[test]
fn a_reference_grant() {
    let table = [
        ("{to: [{group: '', kind: Secret}]}", "spec.from", "1 to 16"),
        ("{from: [{group: a, kind: A, namespace: b}]}", "spec.to", "1 to 16"),
        ("{from: [{kind: A, namespace: b}], to: []}", "spec.from[0].group", "a group"),
        ("{from: [{group: a, namespace: b}], to: []}", "spec.from[0].kind", "required"),
        ("{from: [{group: a, kind: A}], to: []}", "spec.from[0].namespace", "required"),
        ("{from: [{group: a, kind: A, namespace: B}], to: []}", "spec.from[0].namespace", "a-z"),
        ("{from: [{group: a, kind: A, namespace: b}], to: [{kind: Secret}]}", "spec.to[0].group", "a group"),
        ("{from: [{group: a, kind: A, namespace: b}], to: [{group: '', kind: ''}]}", "spec.to[0].kind", "Secret"),
        (
            "{from: [{group: a, kind: A, namespace: b}], to: [{group: '', kind: Secret, name: A}]}",
            "spec.to[0].name",
            "a-z",
        ),
    ];
    check("ReferenceGrant", &table, str::to_owned);
}

#[test]
fn a_backend_tls_policy() {
    let service = "targetRefs: [{group: '', kind: Service, name: a}]";
    let table = [
        ("validation: {hostname: a.b, wellKnownCACertificates: System}", "spec.targetRefs", "1 to 16"),
        ("targetRefs: [{kind: Service}]", "spec.validation", "required"),
        ("T, validation: {}", "spec.validation.hostname", "required"),
        (
            "T, validation: {hostname: '*.a', wellKnownCACertificates: System}",
            "spec.validation.hostname",
            "without '*'",
        ),
        ("T, validation: {hostname: 10.0.0.1, wellKnownCACertificates: System}", "spec.validation.hostname", "no IP"),
        ("T, validation: {hostname: a.b}", "spec.validation", "wellKnownCACertificates: System"),
        (
            "T, validation: {hostname: a.b, wellKnownCACertificates: Web}",
            "spec.validation.wellKnownCACertificates",
            "System",
        ),
        (
            "T, validation: {hostname: a.b, wellKnownCACertificates: System, caCertificateRefs: [{kind: ConfigMap, name: a}]}",
            "spec.validation.wellKnownCACertificates",
            "nothing beside",
        ),
        (
            "T, validation: {hostname: a.b, caCertificateRefs: [{name: a}]}",
            "spec.validation.caCertificateRefs[0].kind",
            "a kind",
        ),
        (
            "T, validation: {hostname: a.b, caCertificateRefs: [{kind: ConfigMap, name: a, namespace: b}]}",
            "spec.validation.caCertificateRefs[0].namespace",
            "unknown field",
        ),
        (
            "T, validation: {hostname: a.b, wellKnownCACertificates: System, subjectAltNames: [{hostname: a.b}]}",
            "spec.validation.subjectAltNames[0].type",
            "Hostname, URI",
        ),
        (
            "T, validation: {hostname: a.b, wellKnownCACertificates: System, subjectAltNames: [{type: URI, uri: a}]}",
            "spec.validation.subjectAltNames[0].uri",
            "spiffe://",
        ),
        (
            "T, validation: {hostname: a.b, wellKnownCACertificates: System, subjectAltNames: [{type: Hostname, uri: 'a://b'}]}",
            "spec.validation.subjectAltNames[0].uri",
            "another",
        ),
        ("T, options: {a: 1}, validation: {hostname: a.b}", "spec.options[\"a\"]", "a text"),
        (
            "targetRefs: [{group: '', name: a}], validation: {hostname: a.b, wellKnownCACertificates: System}",
            "spec.targetRefs[0].kind",
            "required",
        ),
        (
            "targetRefs: [{group: '', kind: Service, name: A}], validation: {hostname: a.b, wellKnownCACertificates: System}",
            "spec.targetRefs[0].name",
            "a-z",
        ),
        (
            "targetRefs: [{group: '', kind: Service, name: a}, {group: '', kind: Service, name: a}], validation: {hostname: a.b, wellKnownCACertificates: System}",
            "spec.targetRefs[1]",
            "once",
        ),
    ];
    check("BackendTLSPolicy", &table, |spec| format!("{{{}}}", spec.replace("T,", &format!("{service},"))));
}

fn rules(kind: &str, table: &[(&str, &str, &str)]) {
    let table: Vec<(&str, String, &str)> =
        table.iter().map(|(spec, path, accepted)| (*spec, format!("spec.rules[0].{path}"), *accepted)).collect();
    let table: Vec<(&str, &str, &str)> =
        table.iter().map(|(spec, path, accepted)| (*spec, path.as_str(), *accepted)).collect();
    check(kind, &table, |rule| format!("{{rules: [{rule}]}}"));
}
