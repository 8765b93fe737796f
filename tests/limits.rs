//! docs/limits.md says what every limit is: all that are settings, with the defaults that they have.

use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The numbers in `value`, by the path of each below `prefix`.
fn numbers(prefix: &str, value: &Value, all: &mut BTreeMap<String, f64>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| numbers(&format!("{prefix}.{name}"), value, all));
        }
        Value::Number(number) => drop(all.insert(prefix.to_owned(), number.as_f64().expect("a number"))),
        _ => {}
    }
}

fn of<T: Serialize + Default>() -> serde_json::Result<Value> {
    serde_json::to_value(T::default())
}

fn defaults() -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    let mut add = |prefix: &str, settings: serde_json::Result<Value>| {
        numbers(prefix, &settings.expect("settings are JSON"), &mut all);
    };
    add("proxy", of::<proxy::Settings>());
    add("eastwest", of::<eastwest::Settings>());
    add("limits", of::<controlplane::Settings>());
    add("server", of::<store::embedded::Settings>());
    add("dns", of::<dns::Settings>());
    all
}

/// The rows that begin with a setting.
fn written() -> BTreeMap<String, f64> {
    let page = include_str!("../docs/limits.md");
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.trim_end_matches('`').to_owned();
        Some((name, cells.next()?.trim().parse().unwrap_or_else(|_| panic!("{line}: a number is expected"))))
    };
    page.lines().filter_map(row).collect()
}

#[test]
fn the_page_has_every_limit_with_its_default() {
    let (written, defaults) = (written(), defaults());
    let wrong = written.iter().filter(|(name, value)| defaults.get(*name) != Some(value));
    assert_eq!(wrong.collect::<Vec<_>>(), Vec::new(), "on the page, and not so");
    let missing = defaults.keys().filter(|name| !written.contains_key(*name));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&String>::new(), "not on the page");
}
