//! What translate makes of resources, to be read: `NAME.in.yaml` are the resources, `NAME.out.yaml` is the xDS of one
//! proxy, in the fields and the words of Envoy's documentation.
//!
//! `UPDATE_GOLDEN=1 cargo test -p isthmus-translate --test golden` writes all answers anew; the difference is for review.

mod input;
mod print;

use input::Input;
use isthmus_translate::translate;
use print::Printer;
use std::fs;
use std::path::{Path, PathBuf};

const IN: &str = ".in.yaml";
const OUT: &str = ".out.yaml";

#[test]
fn as_written_down() {
    let printer = Printer::new();
    let rewrites = std::env::var_os("UPDATE_GOLDEN").is_some();
    let inputs = inputs();
    assert!(inputs.len() >= 7, "every kind of resource has its own: {inputs:?}");
    let mut wrong = Vec::new();
    for path in inputs {
        let text = fs::read_to_string(&path).expect("readable");
        let input = Input::parse(&text);
        let snapshot = translate(&input.catalog, &input.intent, &input.node, &input.identity);
        let came = printer.print(&snapshot, &input.types);
        let out = PathBuf::from(path.to_str().expect("a plain name").replace(IN, OUT));
        if rewrites {
            fs::write(&out, &came).expect("writable");
        }
        wrong.extend(difference(&out, &fs::read_to_string(&out).unwrap_or_default(), &came));
    }
    assert!(wrong.is_empty(), "{}\nUPDATE_GOLDEN=1 writes what came", wrong.join("\n"));
}

fn inputs() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("readable").path());
    let mut inputs: Vec<PathBuf> = files.filter(|path| path.to_string_lossy().ends_with(IN)).collect();
    inputs.sort();
    inputs
}

/// The first line that is not as written, with its place.
fn difference(path: &Path, written: &str, came: &str) -> Option<String> {
    if written == came {
        return None;
    }
    let (mut old, mut new) = (written.lines(), came.lines());
    let mut line = 1;
    loop {
        match (old.next(), new.next()) {
            (Some(a), Some(b)) if a == b => line += 1,
            (a, b) => {
                let (a, b) = (a.unwrap_or("(the end)"), b.unwrap_or("(the end)"));
                return Some(format!("{}:{line}:\n  - {a}\n  + {b}", path.display()));
            }
        }
    }
}
