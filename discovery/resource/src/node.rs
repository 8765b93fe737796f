//! YAML as a tree in which every node knows where it stands.
//!
//! serde-saphyr's one door: it decodes each node as a `Spanned` value, applies its budget against bombs (aliases, depth,
//! size), and refuses duplicate keys. What a scalar is stays what YAML says: an unquoted `no` or `1e3` is not a text.

use crate::{Position, ResourceError};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::fmt;
use std::sync::Arc;

/// How much one file may ask of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Limits {
    /// The size of a file, in bytes. 4 MiB.
    pub file_bytes: usize,
    /// How many nodes it may have, with aliases expanded. 1 000 000.
    pub nodes: usize,
    /// How many aliases (`*name`) it may use. 1 000.
    pub aliases: usize,
}

/// How deep values may nest. Reading goes one call deeper with each level, and a thread's stack (2 MiB) must hold it in
/// a build without optimization too; Istio's own CRDs, the deepest documents in sight, reach 28.
const DEPTH: usize = 32;

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The value.
    pub value: Value,
}

/// A YAML value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing, `null` or `~`.
    Null,
    /// `true`, `false`, and YAML 1.1's `yes`, `no`, `on`, `off`.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order of the file: the key's place, the key, the value.
    Map(Vec<(Node, Node)>),
}

/// The documents of `text`, without the empty ones.
pub(crate) fn read(file: &Arc<str>, text: &str, limits: &Limits) -> Result<Vec<Node>, ResourceError> {
    if text.len() > limits.file_bytes {
        return Err(ResourceError {
            position: Position { file: file.clone(), line: 0, column: 0 },
            path: String::new(),
            value: format!("{} bytes", text.len()),
            expected: format!("at most {} bytes", limits.file_bytes),
        });
    }
    let documents: Vec<Node> =
        serde_saphyr::from_multiple_with_options(text, options(limits)).map_err(|error| malformed(file, &error))?;
    Ok(documents.into_iter().filter(|document| document.value != Value::Null).collect())
}

fn options(limits: &Limits) -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: limits.nodes.saturating_mul(2),
            max_nodes: limits.nodes,
            max_depth: DEPTH,
            max_aliases: limits.aliases,
            max_anchors: limits.aliases,
            max_documents: limits.nodes,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: limits.nodes / 10,
            max_replay_stack_depth: 8,
        },
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        with_snippet: false,
    }
}

fn malformed(file: &Arc<str>, error: &serde_saphyr::Error) -> ResourceError {
    let error = error.without_snippet();
    let (line, column) = error.location().map_or((0, 0), |at| (at.line() as u32, at.column() as u32));
    let message = error.to_string();
    let message = message.lines().next().unwrap_or_default();
    ResourceError {
        position: Position { file: file.clone(), line, column },
        path: String::new(),
        value: String::new(),
        expected: format!("not well-formed YAML: {message}"),
    }
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self { file_bytes: 4 << 20, nodes: 1_000_000, aliases: 1_000 }
    }
}

// === impl Node ===

impl Node {
    /// The value under `key`, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(k, _)| k.as_text() == Some(key)).map(|(_, value)| value)
    }

    /// The text, if this is one.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { line: referenced.line() as u32, column: referenced.column() as u32, value })
    }
}

// === impl Value ===

impl fmt::Display for Value {
    /// As it was written, roughly: what an error shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Text(text) => write!(f, "{:?}", text.chars().take(128).collect::<String>()),
            Self::List(_) => f.write_str("a list"),
            Self::Map(_) => f.write_str("a mapping"),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(Spanned { value, referenced, .. }) = map.next_key::<Spanned<String>>()? {
            let (line, column) = (referenced.line() as u32, referenced.column() as u32);
            entries.push((Node { line, column, value: Value::Text(value) }, map.next_value()?));
        }
        Ok(Value::Map(entries))
    }
}
