//! What each rule finds, and where; `rules.yaml` has the cases.

use isthmus_analyze::{Facts, Resources, code};
use resource::{Limits, Node, Value};
use std::collections::BTreeSet;

const CASES: &str = include_str!("rules.yaml");

fn texts<'a>(node: &'a Node, name: &str) -> Vec<&'a str> {
    match node.get(name).map(|node| &node.value) {
        Some(Value::List(items)) => items.iter().map(|item| item.as_text().expect("a text")).collect(),
        _ => Vec::new(),
    }
}

fn text<'a>(node: &'a Node, name: &str) -> &'a str {
    node.get(name).and_then(Node::as_text).unwrap_or_else(|| panic!("line {}: {name}", node.line))
}

/// What is found in the case, a line each: code, place, field and text.
fn found(case: &Node) -> Vec<String> {
    let mut resources = Resources::default();
    resources.add("a.yaml", text(case, "given"), &Limits::default(), None);
    let facts = Facts {
        clusters: texts(case, "clusters").iter().map(|name| name.parse().expect("a cluster")).collect(),
        hosts: texts(case, "hosts").iter().map(|name| name.parse().expect("a host")).collect(),
    };
    let line = |message: &isthmus_analyze::Message| {
        let at = &message.position;
        format!("{} {}:{} {}: {}", message.code.id, at.line, at.column, message.path, message.text)
    };
    // Where others read the kind too, only these codes are asked for.
    let only = case.get("only").and_then(Node::as_text).unwrap_or_default();
    resources.analyze(&facts).iter().map(line).filter(|line| line.starts_with(only)).collect()
}

#[test]
fn every_rule_finds_what_it_is_for_and_nothing_else() {
    let cases = resource::trees("rules.yaml", CASES, &Limits::default()).expect("YAML");
    let mut wrong = Vec::new();
    for case in cases.iter().map(resource::Tree::node) {
        let (name, found, expected) = (text(case, "name"), found(case), texts(case, "found"));
        let fits = |(found, expected): (&String, &&str)| found.starts_with(expected);
        if found.len() != expected.len() || !found.iter().zip(&expected).all(fits) {
            let lines =
                |lines: &[String]| lines.iter().map(|line| format!("  - '{line}'\n")).collect::<Vec<_>>().concat();
            let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
            wrong.push(format!("{name}: found\n{}instead of\n{}", lines(&found), lines(&expected)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

#[test]
fn every_code_has_a_case() {
    let seen: BTreeSet<&str> = code::ALL.iter().map(|(code, _)| code.id).filter(|id| CASES.contains(*id)).collect();
    // What CRDs say is tested where CRDs are.
    let missing = code::ALL.iter().map(|(code, _)| code.id).filter(|id| !seen.contains(id) && *id != "ISTHMUS0006");
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&str>::new());
}
