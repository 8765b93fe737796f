//! Expressions of the Common Expression Language, as CRDs have them in `x-kubernetes-validations`.
//!
//! The `cel` crate knows the language with its macros, the standard functions, times, and the extension of strings;
//! `url` is ours. Kubernetes' other functions (`isURL`, `ip`, `cidr`, `quantity`, …), `oldSelf` and types are not there:
//! an expression that needs them is said not to be evaluated. Source: <https://kubernetes.io/docs/reference/using-api/cel/>.

use super::structural::Schema;
use super::url;
use cel::extensions::strings;
use cel::{Context, Env, ExecutionError, Program};
use resource::{Node, Value};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A rule about a value, `self`.
pub(super) struct Expression {
    pub(super) text: String,
    message: String,
    /// The rule compiled, or why it could not be.
    program: Result<Program, String>,
    language: Language,
}

/// The language, with all that expressions may call. Cheap to clone.
#[derive(Clone)]
pub(super) struct Language(Arc<Env>);

/// What a rule says of a value.
pub(super) enum Verdict {
    /// It holds.
    Holds,
    /// It does not, and what is told then.
    Fails(String),
    /// Nobody knows, because of this.
    NotRun(String),
}

// === impl Expression ===

impl Expression {
    /// The rule `text`; `message` is told when it does not hold.
    pub(super) fn new(text: &str, message: Option<&str>, language: &Language) -> Self {
        let fallback = || format!("a value for which {text} holds");
        let program = if text.contains("oldSelf") {
            Err("it compares with what was there before".to_owned())
        } else {
            language.0.compile(text).map_err(|error| error.to_string())
        };
        let (text, message) = (text.to_owned(), message.map_or_else(fallback, str::to_owned));
        Self { text, message, program, language: language.clone() }
    }

    /// What the rule says of `value`, which is of `schema`.
    pub(super) fn judge(&self, value: &Value, schema: &Schema) -> Verdict {
        let program = match &self.program {
            Ok(program) => program,
            Err(reason) => return Verdict::NotRun(reason.clone()),
        };
        let mut context = Context::with_env(self.language.0.clone());
        context.add_variable_from_value("self", convert(value, Some(schema)));
        match program.execute(&context) {
            Ok(cel::Value::Bool(true)) => Verdict::Holds,
            Ok(cel::Value::Bool(false)) => Verdict::Fails(self.message.clone()),
            Ok(other) => Verdict::NotRun(format!("it comes to {other:?}, not to true or false")),
            // A function of Kubernetes' that is not there is no verdict about the value.
            Err(error @ (ExecutionError::UndeclaredReference(_) | ExecutionError::NoSuchOverload(_))) => {
                Verdict::NotRun(error.to_string())
            }
            Err(error) => Verdict::Fails(format!("{} ({error})", self.message)),
        }
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

// === impl Language ===

impl Language {
    /// The standard, and the extension of strings.
    pub(super) fn new() -> Self {
        let mut env = Env::stdlib();
        strings(&mut env).expect("nothing declared these before");
        url::declare(&mut env);
        Self(Arc::new(env))
    }
}

/// `value` as the language has it: a number is a `double` where the schema says so.
fn convert(value: &Value, schema: Option<&Schema>) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(value) => cel::Value::Bool(*value),
        Value::Integer(value) if schema.and_then(|schema| schema.kind.as_deref()) == Some("number") => {
            cel::Value::Float(*value as f64)
        }
        Value::Integer(value) => cel::Value::Int(i64::try_from(*value).unwrap_or(i64::MAX)),
        Value::Float(value) => cel::Value::Float(*value),
        Value::Text(text) => cel::Value::from(text.as_str()),
        Value::List(items) => {
            let inner = schema.and_then(|schema| schema.items.as_deref());
            cel::Value::from(items.iter().map(|item| convert(&item.value, inner)).collect::<Vec<_>>())
        }
        Value::Map(entries) => {
            let is_there = |(_, value): &&(Node, Node)| value.value != Value::Null;
            let entry = |(key, value): &(Node, Node)| {
                let name = key.as_text().unwrap_or_default();
                let inner = schema.and_then(|schema| schema.properties.get(name).or(schema.additional.as_deref()));
                (name.to_owned(), convert(&value.value, inner))
            };
            cel::Value::from(entries.iter().filter(is_there).map(entry).collect::<HashMap<_, _>>())
        }
    }
}
