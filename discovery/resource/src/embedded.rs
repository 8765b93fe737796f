//! YAML within a text of a document, as ConfigMaps have it.

use crate::{Limits, Node, Position, ResourceError, Value, node};

/// The one document in `text`, which begins at `begin` under `path`; none if there is nothing in it. Its lines and columns
/// are counted from there: exact for a literal block (`|`), whose lines begin at one column.
///
/// # Errors
/// If it is not well formed, or there is more than one document.
pub fn embedded(text: &str, begin: &Position, path: &str) -> Result<Option<Node>, ResourceError> {
    let told =
        |error: ResourceError| ResourceError { position: moved(error.position, begin), path: path.to_owned(), ..error };
    let mut documents = node::read(&begin.file, text, &Limits::default()).map_err(told)?;
    if documents.len() > 1 {
        return Err(ResourceError {
            position: begin.clone(),
            path: path.to_owned(),
            value: format!("{} documents", documents.len()),
            expected: "one YAML document".to_owned(),
        });
    }
    let mut document = documents.pop();
    if let Some(node) = &mut document {
        shift(node, begin);
    }
    Ok(document)
}

fn moved(position: Position, begin: &Position) -> Position {
    let Position { line, column, .. } = position;
    if line == 0 {
        return begin.clone();
    }
    let before = |at: u32| at.saturating_sub(1);
    Position { line: line + before(begin.line), column: column + before(begin.column), ..position }
}

fn shift(node: &mut Node, begin: &Position) {
    let position = moved(Position { file: begin.file.clone(), line: node.line, column: node.column }, begin);
    (node.line, node.column) = (position.line, position.column);
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| shift(item, begin)),
        Value::Map(entries) => {
            for (key, value) in entries {
                shift(key, begin);
                shift(value, begin);
            }
        }
        _ => {}
    }
}
