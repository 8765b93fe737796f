//! YAML within a text of a document, as ConfigMaps have it.

use crate::{Limits, Node, Position, ResourceError, Value, node};

/// The one document in `text`, which stands at `above` under `path`; none if there is nothing in it. Its lines are counted
/// from there: exact for a literal block (`|`), whose first line follows the key's.
///
/// # Errors
/// If it is not well formed, or there is more than one document.
pub fn embedded(text: &str, above: &Position, path: &str) -> Result<Option<Node>, ResourceError> {
    let moved = |error: ResourceError| ResourceError {
        position: Position { line: error.position.line + above.line, ..error.position },
        path: path.to_owned(),
        ..error
    };
    let mut documents = node::read(&above.file, text, &Limits::default()).map_err(moved)?;
    if documents.len() > 1 {
        return Err(ResourceError {
            position: above.clone(),
            path: path.to_owned(),
            value: format!("{} documents", documents.len()),
            expected: "one YAML document".to_owned(),
        });
    }
    let mut document = documents.pop();
    if let Some(node) = &mut document {
        shift(node, above.line);
    }
    Ok(document)
}

fn shift(node: &mut Node, lines: u32) {
    node.line += lines;
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| shift(item, lines)),
        Value::Map(entries) => {
            for (key, value) in entries {
                shift(key, lines);
                shift(value, lines);
            }
        }
        _ => {}
    }
}
