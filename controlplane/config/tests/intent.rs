//! When a change of the documents is none of the intent.

use isthmus_config::Intent;
use resource::Document;

const ALL: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews.example.com]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: one, namespace: shop}
spec: {address: 10.0.0.2, labels: {app: reviews}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews.example.com]
  http: [{timeout: 1s, route: [{destination: {host: reviews.example.com}}]}]
";

fn documents(text: &str) -> Vec<Document> {
    resource::parse("all.yaml", text).expect("well-formed").documents
}

/// Whether the intent is known to stay the same when `from` becomes `to`.
fn stays(from: &str, to: &str) -> bool {
    assert!(ALL.contains(from), "{from}");
    let (old, new) = (documents(ALL), documents(&ALL.replace(from, to)));
    let is_same = Intent::is_same_of(&old, &new);
    if is_same {
        assert_eq!(Intent::from_documents(&old), Intent::from_documents(&new));
    }
    is_same
}

#[test]
fn endpoints_and_workloads_are_nothing_to_it() {
    assert!(stays("10.0.0.1", "10.0.0.3"));
    assert!(stays("10.0.0.2", "10.0.0.3"));
    assert!(stays("{app: reviews}", "{app: other}"));
}

#[test]
fn all_else_is() {
    for (from, to) in [
        ("number: 80", "number: 81"),
        ("[reviews.example.com]\n  resolution", "[ratings.example.com]\n  resolution"),
        ("timeout: 1s", "timeout: 2s"),
        ("kind: VirtualService\nmetadata: {name: reviews", "kind: VirtualService\nmetadata: {name: ratings"),
        ("kind: WorkloadEntry", "kind: Sidecar"),
    ] {
        assert!(!stays(from, to), "{from} -> {to}");
    }
}
