//! One document of a file before anything is made of it: for whoever asks for all that is wrong, not only the first.

use crate::{Document, Field, Limits, Node, Position, ResourceError, Source, Value, Warning, document, node};
use std::sync::Arc;

/// A document as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    file: Arc<str>,
    /// Where it stands in a `List`, e.g. `items[0]`; empty otherwise.
    path: String,
    node: Node,
}

/// The documents of `text`, the content of `file`, with those of a `List` one by one.
///
/// # Errors
/// If the text is no YAML, or goes beyond the limits.
pub fn trees(file: &str, text: &str, limits: &Limits) -> Result<Vec<Tree>, ResourceError> {
    let file: Arc<str> = file.into();
    let mut trees = Vec::new();
    for node in node::read(&file, text, limits)? {
        if node.get("kind").and_then(Node::as_text) == Some("List") && node.get("items").is_some() {
            let list = Field::new(&file, "", &node).fields(&["apiVersion", "kind", "metadata", "items"])?;
            for item in list.get("items").items()? {
                let path = item.path().to_owned();
                let at = item.position();
                let nothing = Node { line: at.line, column: at.column, value: Value::Null };
                trees.push(Tree { file: file.clone(), path, node: item.node().cloned().unwrap_or(nothing) });
            }
        } else {
            trees.push(Tree { file: file.clone(), path: String::new(), node });
        }
    }
    Ok(trees)
}

// === impl Tree ===

impl Tree {
    /// The document that this is, and what there is to warn about in it.
    ///
    /// # Errors
    /// The first mistake in it.
    pub fn read(&self) -> Result<(Document, Vec<Warning>), ResourceError> {
        let mut source = Source::new(&self.file);
        let document = document::read(&self.object(), &mut source)?;
        Ok((document, source.warnings))
    }

    /// The whole document.
    pub fn object(&self) -> Field<'_> {
        Field::new(&self.file, self.path.clone(), &self.node)
    }

    /// The whole document, without its place.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The text at `path`, such as `metadata.name`, if there is one.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.find(path)?.as_text()
    }

    /// What stands at `path`, such as `spec.http[0].route`, if anything does.
    pub fn find(&self, path: &str) -> Option<&Node> {
        let (steps, whole) = steps(&self.node, path);
        whole.then(|| steps.iter().fold(&self.node, |node, step| child(node, *step)))
    }

    /// Where `path` stands, or the nearest thing around it that is there.
    pub fn position(&self, path: &str) -> Position {
        let (steps, _) = steps(&self.node, path);
        let (mut node, mut at) = (&self.node, &self.node);
        for step in steps {
            let inner = child(node, step);
            // A list or a mapping is said to stand where its key does.
            at = match (&node.value, &inner.value) {
                (Value::Map(entries), Value::List(_) | Value::Map(_)) => &entries[step].0,
                _ => inner,
            };
            node = inner;
        }
        Position { file: self.file.clone(), line: at.line, column: at.column }
    }

    /// This without what stands at `path`; none if nothing does.
    #[must_use]
    pub fn without(&self, path: &str) -> Option<Self> {
        self.find(path)?;
        self.with(path, Value::Null)
    }

    /// This with `value` at `path`, where something may stand or not; none if nothing stands around it.
    #[must_use]
    pub fn with(&self, path: &str, value: Value) -> Option<Self> {
        let around =
            || path.rsplit_once('.').filter(|(around, _)| self.find(path).is_none() && self.find(around).is_some());
        let mut changed = self.clone();
        if let Some((around, name)) = around() {
            let at = changed.find(around)?.clone();
            let Value::Map(mut entries) = at.value else { return None };
            let node = |value| Node { line: at.line, column: at.column, value };
            entries.push((node(Value::Text(name.to_owned())), node(value)));
            return changed.with(around, Value::Map(entries));
        }
        let (steps, whole) = steps(&self.node, path);
        let mut node = &mut changed.node;
        for step in steps {
            node = match &mut node.value {
                Value::Map(entries) => &mut entries[step].1,
                Value::List(items) => &mut items[step],
                _ => return None,
            };
        }
        node.value = value;
        (whole && !path.is_empty()).then_some(changed)
    }
}

/// The way to `path` from `node`, member by member, and whether it leads all the way.
fn steps(node: &Node, path: &str) -> (Vec<usize>, bool) {
    let (mut steps, mut node, mut rest) = (Vec::new(), node, path);
    while !rest.is_empty() {
        let next = match &node.value {
            Value::Map(entries) => entries.iter().enumerate().find_map(|(i, (key, _))| {
                let name = key.as_text()?;
                let inner = rest.strip_prefix('.').unwrap_or(rest).strip_prefix(name);
                let quoted = || rest.strip_prefix(&format!("[{name:?}]"));
                let left = inner.filter(|left| left.is_empty() || left.starts_with(['.', '['])).or_else(quoted)?;
                Some((i, left))
            }),
            Value::List(items) => rest.strip_prefix('[').and_then(|left| {
                let (index, left) = left.split_once(']')?;
                Some((index.parse().ok().filter(|i| *i < items.len())?, left))
            }),
            _ => None,
        };
        let Some((step, left)) = next else { return (steps, false) };
        steps.push(step);
        (node, rest) = (child(node, step), left);
    }
    (steps, true)
}

/// The member of this number.
fn child(node: &Node, step: usize) -> &Node {
    match &node.value {
        Value::Map(entries) => &entries[step].1,
        Value::List(items) => &items[step],
        _ => node,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "apiVersion: v1
kind: List
items:
- apiVersion: networking.istio.io/v1
  kind: VirtualService
  metadata: {name: a, annotations: {isthmus.io/export: west}}
  spec:
    http:
    - route:
      - {destination: {host: a}}
      headers: {request: {set: {x.y: '1'}}}
";

    #[test]
    fn places_are_found_by_their_paths() {
        let trees = trees("f.yaml", TEXT, &Limits::default()).expect("YAML");
        let tree = &trees[0];
        assert_eq!(tree.object().path(), "items[0]");
        for (path, line, column) in [
            ("", 4, 3),
            ("spec.http[0].route[0].destination.host", 10, 30),
            ("spec.http[0].headers.request.set[\"x.y\"]", 11, 38),
            ("metadata.annotations.isthmus.io/export", 6, 56),
            ("spec.http", 8, 5),
            ("spec.http[3].route", 8, 5),
        ] {
            let at = tree.position(path);
            assert_eq!((at.line, at.column), (line, column), "{path}");
        }
        assert_eq!(tree.text("spec.http[0].route[0].destination.host"), Some("a"));
        assert_eq!(tree.text("spec.http[0].rout"), None);
    }

    #[test]
    fn what_stands_somewhere_is_taken_out() {
        let trees = trees("f.yaml", TEXT, &Limits::default()).expect("YAML");
        let without = trees[0].without("spec.http[0].route[0].destination").expect("it is there");
        assert_eq!(without.text("spec.http[0].route[0].destination.host"), None);
        assert_eq!(trees[0].without("spec.http[1]"), None);
        let with = trees[0].with("spec.http[0].timeout", Value::Text("1s".to_owned())).expect("a route is there");
        assert_eq!(with.text("spec.http[0].timeout"), Some("1s"));
        assert_eq!(trees[0].with("spec.tcp[0].match", Value::Null), None);
    }
}
