//! What is refused, where the error points, and what it says.

use isthmus_resource::{Limits, ResourceError, parse, parse_with};

const SERVICE: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: reviews
  namespace: bookinfo
  annotations: {isthmus.io/export: \"*\"}
spec:
  hosts: [reviews.bookinfo.svc.cluster.local]
  ports:
  - {number: 9080, name: http, protocol: HTTP}
  location: MESH_INTERNAL
  resolution: STATIC
  endpoints:
  - {address: 10.0.0.1, ports: {http: 9080}, serviceAccount: reviews}
";

fn refused(text: &str) -> ResourceError {
    match parse("east.yaml", text) {
        Ok(parsed) => panic!("accepted: {parsed:?}\n{text}"),
        Err(error) => error,
    }
}

#[test]
fn a_value_is_refused_by_its_name_and_place() {
    // (what is replaced, by what, line, column, path, a part of what is accepted)
    let table = [
        ("9080, name", "0, name", 10, 14, "spec.ports[0].number", "1 to 65535"),
        ("9080, name", "65536, name", 10, 14, "spec.ports[0].number", "1 to 65535"),
        ("9080, name", "-1, name", 10, 14, "spec.ports[0].number", "1 to 65535"),
        ("9080, name", "'80', name", 10, 14, "spec.ports[0].number", "a whole number"),
        ("9080, name", "1e3, name", 10, 14, "spec.ports[0].number", "a whole number"),
        ("name: http,", "name: no,", 10, 26, "spec.ports[0].name", "in quotes"),
        ("name: http,", "name: 0777,", 10, 26, "spec.ports[0].name", "in quotes"),
        ("name: http,", "name: 'a b',", 10, 26, "spec.ports[0].name", "letters"),
        ("protocol: HTTP", "protocol: HTPT", 10, 42, "spec.ports[0].protocol", "GRPC"),
        ("protocol: HTTP", "protocl: HTTP", 10, 32, "spec.ports[0].protocl", "unknown field"),
        ("protocol: HTTP", "targetPort: 70000", 10, 44, "spec.ports[0].targetPort", "65535"),
        ("[reviews.bookinfo.svc.cluster.local]", "['a b']", 8, 11, "spec.hosts[0]", "labels"),
        ("[reviews.bookinfo.svc.cluster.local]", "[a..b]", 8, 11, "spec.hosts[0]", "labels"),
        ("[reviews.bookinfo.svc.cluster.local]", "[10.0.0.1]", 8, 11, "spec.hosts[0]", "DNS name"),
        ("[reviews.bookinfo.svc.cluster.local]", "[a.b, A.B.]", 8, 16, "spec.hosts[1]", "once"),
        ("[reviews.bookinfo.svc.cluster.local]", "[]", 8, 3, "spec.hosts", "1 to 256"),
        ("[reviews.bookinfo.svc.cluster.local]", "web", 8, 10, "spec.hosts", "a list"),
        ("MESH_INTERNAL", "INTERNAL", 11, 13, "spec.location", "MESH_EXTERNAL"),
        ("STATIC", "DYNAMIC", 12, 15, "spec.resolution", "DYNAMIC_DNS"),
        ("STATIC", "NONE", 13, 3, "spec.endpoints", "no endpoints"),
        ("10.0.0.1,", "10.0.0.1.5,", 14, 15, "spec.endpoints[0].address", "IP address"),
        ("10.0.0.1,", "0.0.0.0,", 14, 15, "spec.endpoints[0].address", "one host"),
        ("10.0.0.1,", "'::ffff:1.2.3.4',", 14, 15, "spec.endpoints[0].address", "IPv4-mapped"),
        ("10.0.0.1,", "a.example.com,", 14, 15, "spec.endpoints[0].address", "STATIC"),
        ("{http: 9080}", "{htpt: 9080}", 14, 39, "spec.endpoints[0].ports[\"htpt\"]", "http"),
        ("{http: 9080}", "{http: 0}", 14, 39, "spec.endpoints[0].ports[\"http\"]", "65535"),
        ("serviceAccount: reviews", "serviceAccount: A/b", 14, 62, "spec.endpoints[0].serviceAccount", "a-z"),
        ("serviceAccount: reviews", "weight: 1000001", 14, 54, "spec.endpoints[0].weight", "1000000"),
        ("serviceAccount: reviews", "locality: a/b/c/d", 14, 56, "spec.endpoints[0].locality", "region"),
        ("\"*\"", "east;west", 6, 36, "metadata.annotations[\"isthmus.io/export\"]", "clusters"),
        ("namespace: bookinfo", "namespace: Book_Info", 5, 14, "metadata.namespace", "a-z"),
        ("annotations:", "anotations:", 6, 3, "metadata.anotations", "unknown field"),
        ("istio.io/v1\n", "istio.io/v2\n", 1, 13, "apiVersion", "v1beta1"),
    ];
    for (old, new, line, column, path, accepted) in table {
        assert!(SERVICE.contains(old), "{old}");
        let error = refused(&SERVICE.replacen(old, new, 1));
        let text = error.to_string();
        assert_eq!((error.path.as_str(), error.position.line), (path, line), "{new}: {text}");
        assert_eq!(error.position.column, column, "{new}: {text}");
        assert!(text.starts_with(&format!("east.yaml:{line}:")), "{text}");
        assert!(error.expected.contains(accepted), "{new}: {text}");
    }
}

#[test]
fn an_error_reads_well() {
    let error = refused(&SERVICE.replace("number: 9080", "number: 70000"));
    let expected = "east.yaml:10:14: spec.ports[0].number: 70000 is not accepted: a port number, 1 to 65535";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn one_bad_document_refuses_the_file() {
    let text = format!("{SERVICE}---\n{}", SERVICE.replace("9080, name", "0, name"));
    let error = refused(&text);
    assert_eq!((error.position.line, error.path.as_str()), (25, "spec.ports[0].number"));
}

#[test]
fn malformed_yaml_is_refused_with_its_place() {
    for (text, line) in [
        ("kind: [a", 1),
        ("a: 1\nb:\t- x\n\t- y\n", 3),
        ("apiVersion: v1\nkind: A\nkind: B\n", 3),
        ("a: b: c\n", 1),
        ("key: 'open\n", 1),
        ("- 1\n", 1),
        ("text\n", 1),
        ("a: *nobody\n", 1),
    ] {
        let error = refused(text);
        assert!(error.position.line >= 1 && error.position.line <= line + 1, "{text:?}: {error}");
        assert!(error.to_string().starts_with("east.yaml:"), "{error}");
    }
}

#[test]
fn bombs_are_refused_quickly() {
    let mut aliases = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..12 {
        let before = i - 1;
        aliases.push_str(
            &["a", &i.to_string(), ": &a", &i.to_string(), " [", &vec![format!("*a{before}"); 10].join(","), "]\n"]
                .concat(),
        );
    }
    refused(&aliases);
    refused(&format!("a: {}{}", "[".repeat(10_000), "]".repeat(10_000)));
    let mut deep = String::new();
    for depth in 0..10_000 {
        deep.push_str(&" ".repeat(depth.min(400)));
        deep.push_str("a:\n");
    }
    assert!(parse("deep.yaml", &deep).is_err());
}

#[test]
fn a_large_file_is_refused_by_its_limit() {
    let limits = Limits { file_bytes: 100, ..Limits::default() };
    let error = parse_with("large.yaml", SERVICE, &limits).expect_err("too large");
    assert!(error.to_string().contains("at most 100 bytes"), "{error}");
    assert!(parse("large.yaml", &"#".repeat((4 << 20) + 1)).is_err());
}

#[test]
fn a_thousand_services_are_read() {
    let text = (0..1_000).map(|i| SERVICE.replace("reviews", &format!("r{i}"))).collect::<Vec<_>>().join("---\n");
    assert_eq!(parse("many.yaml", &text).expect("valid").documents.len(), 1_000);
}

#[test]
fn no_text_panics() {
    let bytes: Vec<char> = SERVICE.chars().collect();
    for cut in 0..bytes.len() {
        let _ = parse("cut.yaml", &bytes[..cut].iter().collect::<String>());
    }
    for at in (0..SERVICE.len()).step_by(3) {
        for with in ["\t", ":", "- ", "{", "\"", "*", "&", "\u{0}", "\u{fffd}"] {
            let mut text = SERVICE.to_owned();
            text.insert_str(at, with);
            let _ = parse("odd.yaml", &text);
        }
    }
}
