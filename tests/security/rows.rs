//! Whether README.md is whole and true: every row stands there once, and what it names is to be found.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// How many rows each class, and each port, has.
const CLASSES: [(&str, u32); 22] = [
    ("A", 21),
    ("B", 17),
    ("C", 7),
    ("D", 10),
    ("E", 8),
    ("F", 10),
    ("G", 8),
    ("H", 7),
    ("I", 10),
    ("3.1.", 20),
    ("3.2.", 18),
    ("3.3.", 16),
    ("3.4.", 16),
    ("3.5.", 16),
    ("3.6.", 14),
    ("3.7.", 12),
    ("3.8.", 12),
    ("3.9.", 14),
    ("3.10.", 12),
    ("3.11.", 11),
    ("3.12.", 13),
    ("3.13.", 10),
];

/// A row of the table.
struct Row {
    /// `A1`, `A7-A8` or `3.1.1-18`.
    name: String,
    shown: String,
}

fn rows() -> Vec<Row> {
    let text = read("tests/security/README.md").expect("the table");
    let cells = text.lines().filter(|line| line.starts_with("| ")).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, _, shown] = cells[..] else { panic!("three cells are expected: {line}") };
        Row { name: name.to_owned(), shown: shown.to_owned() }
    });
    cells.filter(|row| row.name != "Row").collect()
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

/// `A1`, or each of `A7-A8` and `3.1.1-18`.
fn each(name: &str) -> Vec<String> {
    let split = |one: &str| {
        let at = one.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
        (one[..at].to_owned(), one[at..].parse::<u32>().unwrap_or_else(|_| panic!("{name}: a number is expected")))
    };
    let (first, last) = name.split_once('-').unwrap_or((name, name));
    let ((class, first), (_, last)) = (split(first), split(last));
    (first..=last).map(|number| format!("{class}{number}")).collect()
}

#[test]
fn every_row_stands_there_once() {
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for name in rows().iter().flat_map(|row| each(&row.name)) {
        *times.entry(name).or_default() += 1;
    }
    let wanted = CLASSES.iter().flat_map(|(class, count)| (1..=*count).map(move |number| format!("{class}{number}")));
    let wanted: BTreeMap<String, u32> = wanted.map(|name| (name, 1)).collect();
    assert_eq!(times, wanted);
}

/// `path`: a part of what stands in it. All else says that, and why, nothing is shown.
#[test]
fn what_a_row_names_is_there() {
    let mut wrong = String::new();
    for Row { name, shown } in rows() {
        let proofs: Vec<(&str, &str)> = shown
            .split("; ")
            .filter_map(|part| part.strip_prefix('`')?.split_once("`: "))
            .filter(|(path, _)| path.contains('/'))
            .collect();
        let says_why = ["not yet: ", "does not apply: "].iter().any(|reason| shown.contains(reason));
        if proofs.is_empty() && !says_why {
            let _ = writeln!(wrong, "{name}: neither a file and what stands in it, nor a reason");
        }
        for (path, part) in proofs {
            match read(path) {
                None => drop(writeln!(wrong, "{name}: there is no {path}")),
                Some(text) if text.contains(part) => {}
                Some(_) => drop(writeln!(wrong, "{name}: {path} has no {part:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
