//! A structural schema, and whether a value fits it.

use super::SchemaError;
use super::expression::{Expression, Verdict};
use regex::Regex;
use resource::{Field, Value};
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// A number, whole or not.
pub(super) type Number = f64;

/// A structural schema.
#[derive(Debug, Default)]
pub(super) struct Schema {
    /// `object`, `array`, `string`, `integer`, `number` or `boolean`; any if absent.
    pub(super) kind: Option<String>,
    pub(super) format: Box<str>,
    pub(super) properties: BTreeMap<String, Schema>,
    pub(super) additional: Option<Box<Schema>>,
    pub(super) items: Option<Box<Schema>>,
    pub(super) required: Vec<String>,
    pub(super) one_of_these: Vec<Value>,
    pub(super) least: Option<Number>,
    pub(super) greatest: Option<Number>,
    pub(super) is_above_least: bool,
    pub(super) is_below_greatest: bool,
    /// Of a text in characters, of a list in items, of a mapping in members.
    pub(super) shortest: usize,
    pub(super) longest: Option<usize>,
    pub(super) pattern: Option<Regex>,
    pub(super) is_nullable: bool,
    /// Whether other members may stand beside the known ones.
    pub(super) is_open: bool,
    pub(super) is_int_or_string: bool,
    /// The members by which a list's items are told apart.
    pub(super) keys: Vec<String>,
    pub(super) exactly_one: Vec<Schema>,
    pub(super) any: Vec<Schema>,
    pub(super) all: Vec<Schema>,
    pub(super) not: Option<Box<Schema>>,
    pub(super) expressions: Vec<Expression>,
}

// === impl Schema ===

impl Schema {
    /// Checks a whole object: the members of `meta` are not this schema's.
    pub(super) fn check_object(&self, at: &Field<'_>, meta: &[&str], errors: &mut Vec<SchemaError>) {
        let members = at.members().unwrap_or_default();
        for (name, _) in &members {
            if !meta.contains(name) && !self.properties.contains_key(*name) {
                errors.push(error(&at.any_field(name), "an unknown field"));
            }
        }
        for (name, property) in self.properties.iter().filter(|(name, _)| !meta.contains(&name.as_str())) {
            property.check(&at.any_field(name), true, errors);
        }
        for name in self.required.iter().filter(|name| !at.any_field(name).is_present()) {
            errors.push(error(&at.any_field(name), "this field is required"));
        }
    }

    /// Checks the value at `at`, if there is one; unknown members are errors if it `is_strict`.
    fn check(&self, at: &Field<'_>, is_strict: bool, errors: &mut Vec<SchemaError>) {
        let Some(node) = at.node() else { return };
        if !self.is_of_kind(&node.value) {
            let wanted = self.kind.as_deref().unwrap_or("integer or string");
            errors.push(error(at, &format!("of type {wanted}")));
            return;
        }
        let before = errors.len();
        self.check_scalar(at, &node.value, errors);
        match &node.value {
            Value::Map(_) => self.check_members(at, is_strict, errors),
            Value::List(_) => self.check_items(at, is_strict, errors),
            _ => {}
        }
        self.check_joints(at, errors);
        // As an API server does: expressions are for values that are well-formed.
        if errors.len() == before {
            self.check_expressions(at, &node.value, errors);
        }
    }

    fn is_of_kind(&self, value: &Value) -> bool {
        if self.is_int_or_string {
            return matches!(value, Value::Integer(_) | Value::Text(_));
        }
        match self.kind.as_deref() {
            Some("object") => matches!(value, Value::Map(_)),
            Some("array") => matches!(value, Value::List(_)),
            Some("string") => matches!(value, Value::Text(_)),
            Some("integer") => matches!(value, Value::Integer(_)),
            Some("number") => matches!(value, Value::Integer(_) | Value::Float(_)),
            Some("boolean") => matches!(value, Value::Bool(_)),
            _ => true,
        }
    }

    fn check_scalar(&self, at: &Field<'_>, value: &Value, errors: &mut Vec<SchemaError>) {
        if !self.one_of_these.is_empty() && !self.one_of_these.contains(value) {
            let these: Vec<String> = self.one_of_these.iter().map(ToString::to_string).collect();
            errors.push(error(at, &format!("one of {}", these.join(", "))));
        }
        let number = match value {
            Value::Integer(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => None,
        };
        if let Some(number) = number {
            self.check_number(at, number, errors);
        }
        let Value::Text(text) = value else { return };
        let length = text.chars().count();
        if length < self.shortest || self.longest.is_some_and(|longest| length > longest) {
            errors.push(error(at, &format!("{} characters", self.extent())));
        }
        if let Some(pattern) = self.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            errors.push(error(at, &format!("a text that matches {}", pattern.as_str())));
        }
    }

    fn check_number(&self, at: &Field<'_>, number: Number, errors: &mut Vec<SchemaError>) {
        let (least, greatest) = match &*self.format {
            "int32" => (Some(f64::from(i32::MIN)), Some(f64::from(i32::MAX))),
            "uint32" => (Some(0.0), Some(f64::from(u32::MAX))),
            _ => (None, None),
        };
        let is_low = |bound: Number| if self.is_above_least { number <= bound } else { number < bound };
        let is_high = |bound: Number| if self.is_below_greatest { number >= bound } else { number > bound };
        for bound in [self.least, least].into_iter().flatten().filter(|bound| is_low(*bound)) {
            errors.push(error(at, &format!("at least {bound}")));
        }
        for bound in [self.greatest, greatest].into_iter().flatten().filter(|bound| is_high(*bound)) {
            errors.push(error(at, &format!("at most {bound}")));
        }
    }

    fn extent(&self) -> String {
        match self.longest {
            Some(longest) => format!("{} to {longest}", self.shortest),
            None => format!("{} or more", self.shortest),
        }
    }

    fn check_members(&self, at: &Field<'_>, is_strict: bool, errors: &mut Vec<SchemaError>) {
        let members = at.members().unwrap_or_default();
        if members.len() < self.shortest || self.longest.is_some_and(|longest| members.len() > longest) {
            errors.push(error(at, &format!("{} members", self.extent())));
        }
        for (name, free) in members {
            match (self.properties.get(name), &self.additional) {
                (Some(property), _) => property.check(&at.any_field(name), is_strict, errors),
                (None, Some(schema)) => schema.check(&free, is_strict, errors),
                (None, None) if is_strict && !self.is_open => {
                    let known: Vec<&str> = self.properties.keys().map(String::as_str).collect();
                    errors.push(error(
                        &at.any_field(name),
                        &format!("an unknown field; known here: {}", known.join(", ")),
                    ));
                }
                (None, None) => {}
            }
        }
        for name in self.required.iter().filter(|name| !at.any_field(name).is_present()) {
            errors.push(error(&at.any_field(name), "this field is required"));
        }
    }

    fn check_items(&self, at: &Field<'_>, is_strict: bool, errors: &mut Vec<SchemaError>) {
        let items = match at.items() {
            Ok(items) => items,
            // An item without a value.
            Err(wrong) => {
                let message = format!("{} is not accepted: {}", wrong.value, wrong.expected);
                let (position, path) = (wrong.position, wrong.path);
                errors.push(SchemaError { position, path, message, is_run: true });
                return;
            }
        };
        if items.len() < self.shortest || self.longest.is_some_and(|longest| items.len() > longest) {
            errors.push(error(at, &format!("{} items", self.extent())));
        }
        let mut seen = BTreeSet::new();
        for item in items {
            if let Some(schema) = &self.items {
                schema.check(&item, is_strict, errors);
            }
            let text = |name: &String| item.any_field(name).node().map(|node| node.value.to_string());
            let key: Vec<_> = self.keys.iter().map(text).collect();
            if !key.is_empty() && !seen.insert(key) {
                errors.push(error(&item, &format!("each combination of {} once", self.keys.join(", "))));
            }
        }
    }

    fn check_joints(&self, at: &Field<'_>, errors: &mut Vec<SchemaError>) {
        let fits = |schema: &&Schema| {
            let mut inner = Vec::new();
            schema.check(at, false, &mut inner);
            inner.is_empty()
        };
        if !self.exactly_one.is_empty() && self.exactly_one.iter().filter(fits).count() != 1 {
            let names: Vec<&str> =
                self.exactly_one.iter().flat_map(|schema| &schema.required).map(String::as_str).collect();
            errors.push(error(at, &format!("at most one of {}", names.join(", "))));
        }
        if !self.any.is_empty() && !self.any.iter().any(|schema| fits(&schema)) {
            errors.push(error(at, "a value of another form"));
        }
        for schema in &self.all {
            schema.check(at, false, errors);
        }
        if self.not.as_deref().is_some_and(|schema| fits(&schema)) {
            errors.push(error(at, "a value of another form"));
        }
    }

    fn check_expressions(&self, at: &Field<'_>, value: &Value, errors: &mut Vec<SchemaError>) {
        for expression in &self.expressions {
            match expression.judge(value, self) {
                Verdict::Holds => {}
                Verdict::Fails(message) => errors.push(error(at, &message)),
                Verdict::NotRun(reason) => errors.push(SchemaError {
                    message: format!("the rule {:?} was not evaluated: {reason}", expression.text),
                    is_run: false,
                    ..error(at, "")
                }),
            }
        }
    }

    /// All places below `path`.
    pub(super) fn collect_paths(&self, path: &str, paths: &mut Vec<String>) {
        for (name, property) in &self.properties {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            paths.push(path.clone());
            property.collect_paths(&path, paths);
        }
        for (inner, mark) in [(&self.items, "[]"), (&self.additional, "{}")] {
            if let Some(inner) = inner {
                let path = format!("{path}{mark}");
                paths.push(path.clone());
                inner.collect_paths(&path, paths);
            }
        }
    }

    /// The schema at `path`, of the form that [`Schema::collect_paths`] has.
    pub(super) fn at(&self, path: &str) -> Option<&Self> {
        if path.is_empty() {
            return Some(self);
        }
        if let Some(rest) = path.strip_prefix("[]") {
            return self.items.as_ref()?.at(rest);
        }
        if let Some(rest) = path.strip_prefix("{}") {
            return self.additional.as_ref()?.at(rest);
        }
        let path = path.strip_prefix('.').unwrap_or(path);
        let end = path.find(['.', '[', '{']).unwrap_or(path.len());
        self.properties.get(&path[..end])?.at(&path[end..])
    }

    /// Values on both sides of what this separates, and of other types.
    pub(super) fn edges(&self) -> Vec<Value> {
        let mut edges = vec![Value::Bool(true), Value::Integer(7), Value::Text("a.b".into()), Value::List(Vec::new())];
        edges.extend(self.one_of_these.iter().cloned());
        for bound in [self.least, self.greatest].into_iter().flatten() {
            edges.extend([-1, 0, 1].map(|step| Value::Integer(bound as i128 + step)));
        }
        if self.kind.as_deref() == Some("string") {
            let lengths = [Some(self.shortest), self.longest].into_iter().flatten();
            let texts = lengths.flat_map(|length| [length.saturating_sub(1), length, length + 1]);
            edges.extend(texts.filter(|length| *length <= 4096).map(|length| Value::Text("a".repeat(length))));
        }
        if !self.expressions.is_empty() {
            let texts =
                ["", "0s", "1ns", "999us", "1ms", "1s", "1h", "-1s", "1", "one", "*", "a*", "*.b", "10.0.0.0/8"];
            edges.extend(texts.map(|text| Value::Text(text.into())));
            edges.extend([-1, 0, 1, 65_535, 65_536].map(Value::Integer));
        }
        edges
    }
}

fn error(at: &Field<'_>, expected: &str) -> SchemaError {
    let value = at.node().map_or_else(|| "nothing".to_owned(), |node| node.value.to_string());
    let message = format!("{value} is not accepted: {expected}");
    SchemaError { position: at.position(), path: at.path().to_owned(), message, is_run: true }
}
