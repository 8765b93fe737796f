//! Our readers against Istio's CRDs: for each place in the tables of wrong values, what an enumeration, a bound, a length,
//! an expression or a requirement of the CRD separates is tried, and what the CRD refuses we refuse. What we
//! refuse alone is argued in exceptions.rs.

#[path = "../../../config/tests/wrong/mod.rs"]
mod wrong;

use super::exceptions::{UNWORKABLE, WEBHOOK};
use super::schemas;
use config::Intent;
use isthmus_analyze::Schemas;
use resource::{Node, ResourceError, Tree, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use wrong::{Table, general, tables};

const GROUP: &str = "networking.istio.io";

/// A document, and what was done to the place of it that is named.
struct Trial {
    kind: String,
    place: String,
    what: String,
    tree: Tree,
}

#[test]
fn our_readers_and_the_crds_come_to_the_same_verdict() {
    let schemas = schemas();
    let mut differences = String::new();
    let mut used = BTreeSet::new();
    let (mut count, mut refused) = (0, 0);
    for trial in trials(&schemas) {
        count += 1;
        let (ours, crd) = (ours(&trial.tree), crd(&schemas, &trial.tree));
        refused += usize::from(crd.is_err());
        let told = match (ours, crd) {
            (Err(error), Ok(())) => match exceptions().find(|text| error.expected.starts_with(*text)) {
                Some(text) => {
                    used.insert(text);
                    continue;
                }
                None => format!("we refuse alone: {error}"),
            },
            (Ok(()), Err(error)) => format!("the CRD refuses alone: {error}"),
            _ => continue,
        };
        let _ = writeln!(differences, "{} {} {}: {told}", trial.kind, trial.place, trial.what);
    }
    assert!(differences.is_empty(), "{differences}");
    let idle: Vec<_> = exceptions().filter(|text| !used.contains(text)).collect();
    assert!(idle.is_empty(), "exceptions that nothing needs: {idle:#?}");
    assert!(count > 5_000 && refused > 1_000, "{count} documents, {refused} refused");
}

fn exceptions() -> impl Iterator<Item = &'static str> {
    WEBHOOK.iter().chain(UNWORKABLE).copied()
}

fn ours(tree: &Tree) -> Result<(), ResourceError> {
    let (document, _) = tree.read()?;
    Intent::check(&[document]).map_err(|mut errors| errors.swap_remove(0))
}

fn crd(schemas: &Schemas, tree: &Tree) -> Result<(), String> {
    let errors = schemas.check(tree);
    assert!(errors.iter().all(|error| error.is_run), "{errors:?}");
    errors.first().map_or(Ok(()), |error| Err(format!("{}: {}", error.path, error.message)))
}

fn trials(schemas: &Schemas) -> Vec<Trial> {
    let mut tables = tables();
    // Our own kinds are in none of Istio's CRDs.
    tables.retain(|table| table.whole.text("apiVersion").is_some_and(|version| version.contains(".istio.io/")));
    let mut samples: BTreeMap<(String, String), Value> = BTreeMap::new();
    for Table { kind, whole, .. } in &tables {
        for (_, general, value) in places(whole) {
            samples.entry((kind.clone(), general)).or_insert(value);
        }
    }
    let mut trials = Vec::new();
    for Table { kind, whole, rows } in &tables {
        let mut add = |place: &str, what: String, tree: Option<Tree>| {
            let tree = tree.unwrap_or_else(|| panic!("{kind} {place}: nothing stands there"));
            trials.push(Trial { kind: kind.clone(), place: general(place), what, tree });
        };
        add("spec", "the whole".to_owned(), Some(whole.clone()));
        for row in rows {
            add(&row.path, row.value.to_string(), whole.with(&row.path, row.value.clone()));
        }
        for (path, general, value) in places(whole) {
            for edge in schemas.edges(GROUP, kind, &general) {
                add(&path, edge.to_string(), whole.with(&path, edge));
            }
            add(&path, "taken out".to_owned(), whole.without(&path));
            let Value::Map(_) = value else { continue };
            for name in schemas.members(GROUP, kind, &general) {
                let (inner, sample) =
                    (format!("{path}.{name}"), samples.get(&(kind.clone(), format!("{general}.{name}"))));
                if let (None, Some(sample)) = (whole.find(&inner), sample) {
                    add(&inner, format!("{sample} beside the others"), whole.with(&inner, sample.clone()));
                }
            }
        }
    }
    trials
}

/// All places below `spec`: path, general path and value.
fn places(tree: &Tree) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    collect(tree.find("spec").expect("a spec"), "spec", &mut all);
    all
}

fn collect(node: &Node, path: &str, all: &mut Vec<(String, String, Value)>) {
    let free = is_free(path);
    match &node.value {
        Value::Map(entries) => {
            for (key, value) in entries {
                let name = key.as_text().expect("a name");
                let inner = if free { format!("{path}[{name:?}]") } else { format!("{path}.{name}") };
                all.push((inner.clone(), general(&inner), value.value.clone()));
                collect(value, &inner, all);
            }
        }
        Value::List(items) => {
            for (i, item) in items.iter().enumerate() {
                let inner = format!("{path}[{i}]");
                all.push((inner.clone(), general(&inner), item.value.clone()));
                collect(item, &inner, all);
            }
        }
        _ => {}
    }
}

/// Whether the members of the mapping at `path` have free names.
fn is_free(path: &str) -> bool {
    const FREE: [&str; 12] = [
        ".labels",
        "Labels",
        ".set",
        ".add",
        "].headers",
        ".queryParams",
        ".withoutHeaders",
        ".to",
        ".ports",
        ".annotations",
        ".matchLabels",
        "spec.selector",
    ];
    let is_route = path.ends_with("].headers") && !path.contains(".match[");
    FREE.iter().any(|end| path.ends_with(end)) && !is_route && !path.ends_with("failover[0].to")
}
