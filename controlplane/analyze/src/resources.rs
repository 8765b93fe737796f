//! A set of resources from files.

use crate::index::World;
use crate::{Facts, Message, Schemas, Severity, Subject, code, mistake, rule};
use resource::{Document, Limits, Position, ResourceError, Tree, trees};
use std::collections::BTreeMap;

/// A set of resources from files, and what is wrong with each of them for itself.
#[derive(Debug, Default)]
pub struct Resources {
    /// All documents, the bad ones too.
    pub(crate) trees: Vec<Tree>,
    /// The good ones, each with the number of its tree.
    pub(crate) documents: Vec<(usize, Document)>,
    problems: Vec<Message>,
    /// What stands elsewhere already.
    doubles: Vec<Message>,
    first: BTreeMap<(String, Subject), Position>,
}

// === impl Resources ===

impl Resources {
    /// Takes in `text`, the content of `file`; what is wrong with it is found in [`Resources::problems`]. Where there
    /// are `schemas`, the kinds that they are for must fit them too.
    pub fn add(&mut self, file: &str, text: &str, limits: &Limits, schemas: Option<&Schemas>) {
        match trees(file, text, limits) {
            Ok(trees) => trees.into_iter().for_each(|tree| self.add_tree(tree, schemas)),
            Err(error) => self.refuse_file(error),
        }
    }

    /// Says that `file` cannot be read, and why.
    pub fn add_unreadable(&mut self, file: &str, reason: &str) {
        let position = Position { file: file.into(), line: 0, column: 0 };
        let (path, value) = (String::new(), String::new());
        self.refuse_file(ResourceError { position, path, value, expected: format!("cannot be read: {reason}") });
    }

    /// How many documents there are.
    pub fn count(&self) -> usize {
        self.trees.len()
    }

    /// What is wrong with each resource for itself, and what is written, but not honoured.
    pub fn problems(&self) -> &[Message] {
        &self.problems
    }

    /// Whether a resource is refused.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|message| message.severity == Severity::Error)
    }

    /// [`Resources::problems`], and what is wrong between the resources, in the order of files and lines. What a
    /// resource itself suppresses (annotation `galley.istio.io/analyze-suppress`) is left out.
    pub fn analyze(&self, facts: &Facts) -> Vec<Message> {
        let world = World::new(self, facts);
        let mut messages = [&self.problems[..], &self.doubles].concat();
        for (_, rule) in rule::RULES {
            rule(&world, &mut messages);
        }
        messages.retain(|message| !world.is_suppressed(message));
        messages.sort_by(|a, b| (&a.position, a.code.id, &a.text).cmp(&(&b.position, b.code.id, &b.text)));
        messages.dedup();
        messages
    }

    fn add_tree(&mut self, tree: Tree, schemas: Option<&Schemas>) {
        let faults = schemas.map(|schemas| schemas.check(&tree)).unwrap_or_default();
        match mistake::read(&tree) {
            Ok((document, warnings)) => {
                for warning in warnings {
                    let is_annotation = warning.path.starts_with("metadata.");
                    let code = if is_annotation { code::UNKNOWN_ANNOTATION } else { code::SCHEMA_WARNING };
                    let text = format!("{}: {}", warning.path, warning.message);
                    let position = warning.position.clone();
                    self.problems.push(Message { position, ..Message::new(code, &tree, warning.path, text) });
                }
                if self.is_first(&tree, &document) {
                    self.documents.push((self.trees.len(), document));
                }
            }
            Err(errors) => {
                for error in errors {
                    let text = text_of(&error);
                    let position = error.position.clone();
                    self.problems.push(Message { position, ..Message::new(code::SCHEMA, &tree, error.path, text) });
                }
            }
        }
        for fault in faults {
            let code = if fault.is_run { code::SCHEMA } else { code::NOT_RUN };
            let is_known = |known: &Message| known.position == fault.position && known.path == fault.path;
            if !self.problems.iter().any(is_known) {
                let text = format!("{}: {}", fault.path, fault.message);
                self.problems.push(Message::new(code, &tree, fault.path, text));
            }
        }
        self.trees.push(tree);
    }

    /// Whether nothing of the same kind, namespace and name came before; it is told if something did.
    fn is_first(&mut self, tree: &Tree, document: &Document) -> bool {
        let group = document.api_version.split_once('/').map_or("", |(group, _)| group).to_owned();
        let subject = Subject::of(tree);
        // Others' kinds may well stand several times, for several environments.
        let is_ours = group.ends_with(".istio.io") || group == "gateway.networking.k8s.io";
        if subject.name.is_empty() || !(is_ours || matches!(subject.kind.as_str(), "Service" | "Secret")) {
            return true;
        }
        let place = tree.position("");
        if let Some(other) = self.first.get(&(group.clone(), subject.clone())) {
            let text = format!("each {} once in a namespace; the other is at {other}", subject.kind);
            self.doubles.push(Message::new(code::TWICE, tree, "metadata.name", text));
            return false;
        }
        self.first.insert((group, subject), place);
        true
    }

    fn refuse_file(&mut self, error: ResourceError) {
        let subject = Subject { kind: String::new(), namespace: String::new(), name: String::new() };
        let text = text_of(&error);
        let (code, position, path) = (code::SCHEMA, error.position, error.path);
        self.problems.push(Message { code, severity: code.severity, subject, position, path, text });
    }
}

/// The error without its place, which a message has beside it.
fn text_of(error: &ResourceError) -> String {
    let whole = error.to_string();
    let place = format!("{}: ", error.position);
    whole.strip_prefix(&place).map_or(whole.clone(), str::to_owned)
}
