//! What is accepted, and what comes of it.

use isthmus_resource::{Resource, ServiceEntry, parse};
use model::{Address, Audience, Location, Protocol, Resolution};

fn service(spec: &str) -> ServiceEntry {
    let text =
        format!("apiVersion: networking.istio.io/v1beta1\nkind: ServiceEntry\nmetadata: {{name: a}}\nspec:\n{spec}");
    match parse("a.yaml", &text).expect(&text).documents.remove(0).resource {
        Resource::ServiceEntry(entry) => entry,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_field_of_a_service_entry_is_read() {
    let entry = service(
        "  hosts: [Reviews.Bookinfo.svc.cluster.local.]
  addresses: [10.1.2.3, 10.2.0.0/16, '2001:db8::1/128']
  ports:
  - {number: 80, name: http, protocol: http2, targetPort: 8080}
  - {number: 9000, name: raw}
  location: MESH_INTERNAL
  resolution: STATIC
  exportTo: [\"*\"]
  subjectAltNames: [spiffe://x/ns/a/sa/b]
  endpoints:
  - {address: 127.0.0.1, ports: {http: 81}, labels: {version: v1, topology.istio.io/network: n1}, locality: r/z, weight: 0}
  - {address: '2001:db8::2', network: n2, weight: 7, serviceAccount: web}
",
    );
    assert_eq!(entry.hosts[0].as_str(), "reviews.bookinfo.svc.cluster.local");
    assert_eq!((entry.addresses.len(), entry.networks.len()), (2, 1));
    assert_eq!((entry.ports[0].protocol, entry.ports[0].target), (Protocol::Http2, Some(8080)));
    assert_eq!(entry.ports[1].protocol, Protocol::Auto);
    assert_eq!((entry.location, entry.resolution), (Location::Internal, Resolution::Static));
    let [first, second] = &entry.endpoints[..] else { panic!("two endpoints") };
    assert_eq!((first.weight, &*first.network.0, first.ports["http"]), (1, "n1", 81));
    assert_eq!((second.weight, &*second.network.0, second.service_account.as_deref()), (7, "n2", Some("web")));
}

#[test]
fn the_export_annotation_names_its_audience() {
    for (annotation, audience) in [
        ("'*'", Audience::All),
        ("west", Audience::Clusters(["west".parse().expect("valid")].into())),
        ("'west, north'", Audience::Clusters(["west", "north"].map(|c| c.parse().expect("valid")).into())),
        ("''", Audience::Nobody),
    ] {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a, annotations: {{isthmus.io/export: {annotation}}}}}\nspec: {{hosts: [a.b], ports: [{{number: 1, name: a}}], location: MESH_INTERNAL, resolution: DNS}}\n"
        );
        let parsed = parse("a.yaml", &text).expect(&text);
        let Resource::ServiceEntry(entry) = &parsed.documents[0].resource else { panic!("{parsed:?}") };
        assert_eq!(entry.audience, audience);
        assert_eq!(parsed.warnings, []);
    }
}

#[test]
fn what_is_not_honoured_is_warned_about() {
    let text = "apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: {name: a, annotations: {isthmus.io/exprot: '*', isthmus.io/export-labels: 'version,app'}}
spec: {hosts: [a.b], ports: [], addresses: [10.0.0.0/8], exportTo: [., other]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: g, namespace: shop}
spec:
  metadata: {labels: {app: web}, annotations: {a: b}}
  template: {serviceAccount: web, network: net, address: 10.0.0.1}
  probe: {periodSeconds: 5}
---
apiVersion: consul.example/v1
kind: ServiceEntry
metadata: {name: c}
spec: {anything: [1, 2]}
";
    let parsed = parse("a.yaml", text).expect("valid");
    assert_eq!(parsed.documents.len(), 3);
    let paths: Vec<&str> = parsed.warnings.iter().map(|warning| warning.path.as_str()).collect();
    for path in [
        "metadata.annotations[\"isthmus.io/exprot\"]",
        "metadata.annotations[\"isthmus.io/export-labels\"]",
        "spec.ports",
        "spec.template.address",
        "spec.probe",
        "apiVersion",
    ] {
        assert!(paths.contains(&path), "{path} is not among {paths:?}");
    }
}

#[test]
fn a_list_is_its_items_and_other_kinds_are_kept() {
    let text = "apiVersion: v1\nkind: List\nmetadata: {resourceVersion: ''}\nitems:\n\
        - {apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: w}, spec: {address: w.example.com}}\n\
        - {apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: s}, spec: {egress: [{hosts: ['./*']}]}}\n\
        ---\n---\n# nothing\n---\napiVersion: v1\nkind: ConfigMap\ndata: {a: b}\n";
    let documents = parse("a.yaml", text).expect("valid").documents;
    assert_eq!(
        documents.iter().map(|d| d.kind.as_str()).collect::<Vec<_>>(),
        ["WorkloadEntry", "Sidecar", "ConfigMap"]
    );
    let Resource::WorkloadEntry(entry) = &documents[0].resource else { panic!("a WorkloadEntry") };
    assert_eq!(entry.address, Some(Address::Name("w.example.com".parse().expect("valid"))));
    let Resource::Other(spec) = &documents[1].resource else { panic!("raw") };
    assert!(spec.get("egress").is_some_and(|egress| (egress.line, egress.column) == (6, 91)), "{spec:?}");
    assert_eq!((documents[0].position.line, documents[2].position.line), (5, 11));
}

#[test]
fn each_port_number_and_name_stands_once() {
    let text = |ports: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a}}\nspec: {{hosts: [a.b], ports: {ports}}}\n"
        )
    };
    assert!(parse("a", &text("[{number: 1, name: a}, {number: 2, name: b}]")).is_ok());
    assert!(parse("a", &text("[{number: 1, name: a}, {number: 1, name: b}]")).is_err());
    assert!(parse("a", &text("[{number: 1, name: a}, {number: 2, name: a}]")).is_err());
    assert!(parse("a", &text("[{number: 1, name: a, targetPort: 2}]")).is_err(), "NONE keeps the port");
}
