//! Tables of wrong values: `*.yaml` has a spec in which fields stand, and values that are wrong at places of it.

#![allow(unreachable_pub, dead_code, reason = "shared by tests of two crates, each of which uses a part")]

use resource::{Limits, Node, Tree, Value, trees};
use std::path::Path;

/// A spec, and values that are wrong at places of it.
pub struct Table {
    /// The kind.
    pub kind: String,
    /// A document of it that is right.
    pub whole: Tree,
    /// What is wrong where.
    pub rows: Vec<Row>,
}

/// A wrong value.
pub struct Row {
    /// The place.
    pub path: String,
    /// What is wrong there.
    pub value: Value,
    /// A part of what is said to be accepted.
    pub expected: String,
}

/// All tables.
pub fn tables() -> Vec<Table> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/tests/wrong");
    let mut tables = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("a folder of tables") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a table");
        let all =
            trees(&path.display().to_string(), &text, &Limits::default()).unwrap_or_else(|error| panic!("{error}"));
        tables.extend(all.iter().map(table));
    }
    tables
}

/// The table in a document.
fn table(tree: &Tree) -> Table {
    let kind = tree.text("kind").expect("a kind").to_owned();
    let group = tree.text("group").unwrap_or("networking.istio.io");
    let version = tree.text("version").unwrap_or("v1");
    let head =
        format!("apiVersion: {group}/{version}\nkind: {kind}\nmetadata: {{name: a, namespace: shop}}\nspec: {{}}\n");
    let [bare] = &trees("a.yaml", &head, &Limits::default()).expect("YAML")[..] else { panic!("one document") };
    let whole = bare.with("spec", tree.find("spec").expect("a spec").value.clone()).expect("it has a spec");
    let rows = items(tree.find("wrong")).iter().flat_map(|row| expand(row, tree.find("places"))).collect();
    Table { kind, whole, rows }
}

/// The row for each of the places that the first part of its path stands for.
fn expand(row: &Node, places: Option<&Node>) -> Vec<Row> {
    let [path, value, expected] = items(Some(row)) else { panic!("line {}: [place, value, expected]", row.line) };
    let (path, expected) = (path.as_text().expect("a path"), expected.as_text().expect("a text"));
    let row = |path: String| Row { path, value: value.value.clone(), expected: expected.to_owned() };
    let (first, rest) = path.split_once('.').expect("a path below spec");
    match places.and_then(|places| places.get(first)) {
        Some(mounts) => items(Some(mounts))
            .iter()
            .map(|mount| row(format!("{}.{rest}", mount.as_text().expect("a path"))))
            .collect(),
        None => vec![row(path.to_owned())],
    }
}

/// The items of a list; none if it is none.
pub fn items(node: Option<&Node>) -> &[Node] {
    match node.map(|node| &node.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

/// `path` without indices and keys: `spec.ports[].number`.
pub fn general(path: &str) -> String {
    let mut general = String::new();
    for part in path.split_inclusive(']') {
        match part.split_once('[') {
            Some((before, inside)) if inside.starts_with('"') => general.extend([before, "{}"]),
            Some((before, _)) => general.extend([before, "[]"]),
            None => general += part,
        }
    }
    general
}
