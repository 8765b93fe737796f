//! A wrong value for every field of Istio's networking kinds: the error says where, which field, what stood there and what
//! is accepted; and what is wrong in one document changes nothing about the others.
//!
//! `wrong/*.yaml` has the values; with the feature `istio-tests`, Istio's CRDs say whether a field is missing there.

mod wrong;

use isthmus_config::Intent;
use resource::{ResourceError, Tree};
use std::fmt::Write;
use wrong::{Row, Table, tables};

fn read(tree: &Tree) -> Result<(), ResourceError> {
    let (document, _) = tree.read()?;
    Intent::check(&[document]).map_err(|mut errors| errors.swap_remove(0))
}

#[test]
fn a_wrong_value_of_every_field_is_told_by_place_field_value_and_what_is_accepted() {
    let mut wrong = String::new();
    let mut count = 0;
    for Table { kind, whole, rows } in tables() {
        read(&whole).unwrap_or_else(|error| panic!("{kind}: the whole spec: {error}"));
        for Row { path, value, expected } in rows {
            count += 1;
            let Some(tree) = whole.with(&path, value.clone()) else {
                let _ = writeln!(wrong, "{kind} {path}: nothing stands there");
                continue;
            };
            let Err(error) = read(&tree) else {
                let _ = writeln!(wrong, "{kind} {path}: {value} is accepted");
                continue;
            };
            let is_told = error.path == path && error.value == value.to_string() && error.expected.contains(&expected);
            if !is_told || error.position.line == 0 || error.position.column == 0 {
                let _ = writeln!(wrong, "{kind} {path}: {value}: should say {expected:?}: {error}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(count > 500, "{count} wrong values");
}

/// All documents but the wrong one are as they would be without it.
#[test]
fn a_wrong_document_changes_nothing_about_the_others() {
    let good = |name: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec: {{hosts: \
             [{name}.shop], http: [{{directResponse: {{status: 200}}}}]}}\n"
        )
    };
    let bad = good("bad").replace("200", "99");
    let documents = |text: &str| resource::parse("a.yaml", text).expect("well-formed").documents;
    let (with, errors) = Intent::as_written(&documents(&(good("a") + &bad + &good("b"))));
    let (without, none) = Intent::as_written(&documents(&(good("a") + &good("b"))));
    let names = |intent: &Intent| intent.virtual_services.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
    assert_eq!((names(&with), errors.len()), (names(&without), 1));
    assert!(errors[0].to_string().starts_with("a.yaml:10:60: spec.http[0].directResponse.status: 99 is not accepted"));
    assert!(none.is_empty());
}

/// Whether the tables are whole, by Istio's CRDs.
#[cfg(feature = "istio-tests")]
mod guard {
    use super::wrong::{Table, general, tables};
    use resource::{Limits, Node, Value, trees};
    use std::collections::{BTreeMap, BTreeSet};
    use std::fmt::Write;
    use std::path::Path;

    /// The kinds that nobody reads here, which is warned of.
    const UNREAD: [&str; 3] = ["Telemetry", "TrafficExtension", "WasmPlugin"];

    /// Every field that Istio's CRDs name has a wrong value in the tables.
    #[test]
    fn no_field_is_missing() {
        let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for Table { kind, rows, .. } in tables() {
            known.entry(kind).or_default().extend(rows.iter().map(|row| general(&row.path)));
        }
        let crds = std::env::var("ISTIO_DIR").expect("ISTIO_DIR names Istio's data");
        let text = std::fs::read_to_string(Path::new(&crds).join("crds.yaml")).expect("Istio's CRDs");
        let (mut missing, mut count) = (String::new(), 0);
        for tree in trees("crds.yaml", &text, &Limits::default()).expect("YAML") {
            let kind = tree.text("spec.names.kind").expect("a kind").to_owned();
            let Some(known) = known.get(&kind) else {
                assert!(UNREAD.contains(&kind.as_str()), "{kind} has no table");
                continue;
            };
            let schema = "spec.versions[0].schema.openAPIV3Schema.properties.spec";
            let mut paths = Vec::new();
            collect(tree.find(schema).expect("a schema"), "spec", &mut paths);
            for path in paths {
                count += 1;
                if !known.contains(&path) {
                    let _ = writeln!(missing, "{kind} {path}");
                }
            }
        }
        assert!(missing.is_empty(), "{missing}");
        assert!(count > 500, "{count} fields");
    }

    fn collect(schema: &Node, path: &str, paths: &mut Vec<String>) {
        if let Some(Value::Map(properties)) = schema.get("properties").map(|node| &node.value) {
            for (name, property) in properties {
                let path = format!("{path}.{}", name.as_text().expect("a name"));
                paths.push(path.clone());
                collect(property, &path, paths);
            }
        }
        for (name, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
            if let Some(inner) = schema.get(name) {
                let path = format!("{path}{mark}");
                paths.push(path.clone());
                collect(inner, &path, paths);
            }
        }
    }
}
