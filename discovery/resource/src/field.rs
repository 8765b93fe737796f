//! Reading fields out of a tree: each knows its path and place, so that every error can name them.

use crate::{Node, Position, ResourceError, Value, Warning, duration};
use model::{Invalid, Namespace, Visibility};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// The file that is being read, and what there is to warn about in it.
#[derive(Debug)]
pub struct Source {
    /// Its name.
    pub file: Arc<str>,
    /// The warnings so far.
    pub warnings: Vec<Warning>,
}

/// A place for a value: its path, its position, and the value if there is one (`null` counts as none).
#[derive(Debug, Clone)]
pub struct Field<'a> {
    file: &'a Arc<str>,
    node: Option<&'a Node>,
    path: String,
    line: u32,
    column: u32,
}

/// A mapping's fields. Names that were not announced are refused when it is opened.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    at: Field<'a>,
    entries: &'a [(Node, Node)],
}

// === impl Source ===

impl Source {
    /// Nothing to warn about yet.
    pub fn new(file: &Arc<str>) -> Self {
        Self { file: file.clone(), warnings: Vec::new() }
    }

    /// Warns about `field`.
    pub fn warn(&mut self, field: &Field<'_>, message: impl Into<String>) {
        self.warnings.push(Warning { position: field.position(), path: field.path.clone(), message: message.into() });
    }
}

// === impl Field ===

impl<'a> Field<'a> {
    /// `node` as the value at `path` of `file`.
    pub fn new(file: &'a Arc<str>, path: impl Into<String>, node: &'a Node) -> Self {
        let value = Some(node).filter(|node| node.value != Value::Null);
        Self { file, node: value, path: path.into(), line: node.line, column: node.column }
    }

    /// As [`Field::new`], under `key`: a list or a mapping is said to stand where its key does.
    fn under(file: &'a Arc<str>, path: String, key: &Node, node: &'a Node) -> Self {
        let field = Self::new(file, path, node);
        match node.value {
            Value::List(_) | Value::Map(_) => Self { line: key.line, column: key.column, ..field },
            _ => field,
        }
    }

    /// Whether there is a value.
    pub fn is_present(&self) -> bool {
        self.node.is_some()
    }

    /// Where it stands, or where the mapping begins that lacks it.
    pub fn position(&self) -> Position {
        Position { file: self.file.clone(), line: self.line, column: self.column }
    }

    /// Its path, e.g. `spec.ports[0].number`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The node, if there is a value.
    pub fn node(&self) -> Option<&'a Node> {
        self.node
    }

    /// An error about this field; `expected` says what would be accepted.
    pub fn refuse(&self, expected: impl Into<String>) -> ResourceError {
        ResourceError {
            position: self.position(),
            path: self.path.clone(),
            value: self.node.map_or_else(|| "nothing".to_owned(), |node| node.value.to_string()),
            expected: expected.into(),
        }
    }

    /// The error if there is no value.
    pub fn require(self, expected: &str) -> Result<Self, ResourceError> {
        match self.node {
            Some(_) => Ok(self),
            None => Err(self.refuse(expected)),
        }
    }

    /// The text, if there is a value.
    pub fn text(&self) -> Result<Option<&'a str>, ResourceError> {
        match self.node.map(|node| &node.value) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Bool(_) | Value::Integer(_) | Value::Float(_)) => {
                Err(self.refuse("a text; write it in quotes"))
            }
            Some(_) => Err(self.refuse("a text")),
        }
    }

    /// The text, which must be there.
    pub fn required_text(&self) -> Result<&'a str, ResourceError> {
        self.text()?.ok_or_else(|| self.refuse("a text; this field is required"))
    }

    /// The text read as a `T`, if there is a value.
    pub fn parse<T: FromStr<Err = Invalid>>(&self) -> Result<Option<T>, ResourceError> {
        self.text()?.map(|text| text.parse().map_err(|invalid: Invalid| self.refuse(invalid.expected))).transpose()
    }

    /// The text read as a `T`; it must be there.
    pub fn required<T: FromStr<Err = Invalid>>(&self) -> Result<T, ResourceError> {
        self.required_text()?.parse().map_err(|invalid: Invalid| self.refuse(invalid.expected))
    }

    /// The whole number in `range`, if there is a value; `what` says what is accepted.
    pub fn integer(&self, range: RangeInclusive<u32>, what: &str) -> Result<Option<u32>, ResourceError> {
        match self.node.map(|node| &node.value) {
            None => Ok(None),
            Some(Value::Integer(value)) => match u32::try_from(*value).ok().filter(|value| range.contains(value)) {
                Some(value) => Ok(Some(value)),
                None => Err(self.refuse(what)),
            },
            Some(_) => Err(self.refuse(format!("a whole number: {what}"))),
        }
    }

    /// The number in `range`, whole or not, if there is a value; `what` says what is accepted.
    pub fn number(&self, range: RangeInclusive<f64>, what: &str) -> Result<Option<f64>, ResourceError> {
        let number = match self.node.map(|node| &node.value) {
            None => return Ok(None),
            Some(Value::Integer(value)) => *value as f64,
            Some(Value::Float(value)) => *value,
            Some(_) => return Err(self.refuse(format!("a number: {what}"))),
        };
        if range.contains(&number) { Ok(Some(number)) } else { Err(self.refuse(what)) }
    }

    /// Yes or no, if there is a value.
    pub fn boolean(&self) -> Result<Option<bool>, ResourceError> {
        match self.node.map(|node| &node.value) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(self.refuse("true or false")),
        }
    }

    /// The time of at least `least`, if there is a value; written as Go writes durations: `1h30m`, `2.5s`, `250ms`.
    pub fn duration(&self, least: Duration) -> Result<Option<Duration>, ResourceError> {
        let Some(text) = self.text()? else { return Ok(None) };
        match duration::parse(text).filter(|time| *time >= least) {
            Some(time) => Ok(Some(time)),
            None => Err(self.refuse(format!("a time of {least:?} or more, e.g. 250ms, 2.5s or 1h30m"))),
        }
    }

    /// The list of texts; empty if there is no value.
    pub fn text_items(&self) -> Result<Vec<String>, ResourceError> {
        self.items()?.iter().map(|item| item.required_text().map(str::to_owned)).collect()
    }

    /// `exportTo` of a resource in `own`, if it has any: `*`, `.`, `~` or names.
    pub fn visibility(&self, own: &Namespace) -> Result<Option<Visibility>, ResourceError> {
        let items = self.items()?;
        if items.is_empty() {
            return Ok(None);
        }
        let (mut all, mut namespaces) = (false, BTreeSet::new());
        for item in &items {
            match item.required_text()? {
                "*" => all = true,
                "." => {
                    namespaces.insert(own.clone());
                }
                "~" if items.len() == 1 => {}
                "~" => return Err(item.refuse("'~' alone: it means that nobody sees the resource")),
                _ => {
                    namespaces.insert(item.required()?);
                }
            }
        }
        Ok(Some(if all { Visibility::All } else { Visibility::Namespaces(namespaces) }))
    }

    /// The port number, if there is a value.
    pub fn port(&self) -> Result<Option<u16>, ResourceError> {
        Ok(self.integer(1..=65_535, "a port number, 1 to 65535")?.map(|port| port as u16))
    }

    /// The items of the list, each with a value; none if there is no list.
    pub fn items(&self) -> Result<Vec<Field<'a>>, ResourceError> {
        match self.node.map(|node| &node.value) {
            None => Ok(Vec::new()),
            Some(Value::List(items)) => items
                .iter()
                .enumerate()
                .map(|(i, item)| Self::new(self.file, format!("{}[{i}]", self.path), item))
                .map(|item| item.require("a value; an empty item means nothing"))
                .collect(),
            Some(_) => Err(self.refuse("a list")),
        }
    }

    /// The fields of the mapping, whose names must be among `names`; none if there is no value.
    pub fn fields(&self, names: &[&str]) -> Result<Fields<'a>, ResourceError> {
        let fields = Fields { at: self.clone(), entries: self.entries()? };
        for (key, _) in fields.entries {
            let name = key.as_text().unwrap_or_default();
            if !names.contains(&name) {
                let mut unknown = Self::new(self.file, join(&self.path, name), key);
                unknown.node = Some(key);
                return Err(unknown.refuse(format!("an unknown field; known here: {}", names.join(", "))));
            }
        }
        Ok(fields)
    }

    /// The member `name`, whatever else stands beside it; without a value if this is no mapping.
    #[must_use]
    pub fn any_field(&self, name: &str) -> Field<'a> {
        Fields { at: self.clone(), entries: self.entries().unwrap_or_default() }.get(name)
    }

    /// The mapping from text to text; empty if there is no value.
    pub fn texts(&self) -> Result<BTreeMap<String, String>, ResourceError> {
        self.members()?
            .into_iter()
            .map(|(key, value)| Ok((key.to_owned(), value.required_text()?.to_owned())))
            .collect()
    }

    /// The members of a mapping with free keys; none if there is no value.
    pub fn members(&self) -> Result<Vec<(&'a str, Field<'a>)>, ResourceError> {
        let member = |(key, value): &'a (Node, Node)| {
            let name = key.as_text().unwrap_or_default();
            (name, Self::under(self.file, format!("{}[{name:?}]", self.path), key, value))
        };
        Ok(self.entries()?.iter().map(member).collect())
    }

    fn entries(&self) -> Result<&'a [(Node, Node)], ResourceError> {
        match self.node.map(|node| &node.value) {
            None => Ok(&[]),
            Some(Value::Map(entries)) => Ok(entries),
            Some(_) => Err(self.refuse("a mapping")),
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

// === impl Fields ===

impl<'a> Fields<'a> {
    /// The field `name`, whether it has a value or not.
    pub fn get(&self, name: &str) -> Field<'a> {
        let path = join(&self.at.path, name);
        let found = self.entries.iter().find(|(key, _)| key.as_text() == Some(name));
        match found {
            Some((key, value)) => Field::under(self.at.file, path, key, value),
            None => Field { node: None, path, ..self.at.clone() },
        }
    }
}
