//! Schemas out of CRDs.

use super::expression::{Expression, Language};
use super::structural::{Number, Schema};
use regex::Regex;
use resource::{Field, ResourceError, Value};

/// The schema that `at` holds. Keywords that say nothing about a value (`description`) are passed over.
pub(super) fn schema(at: &Field<'_>, language: &Language) -> Result<Schema, ResourceError> {
    let mut schema = Schema::default();
    for (name, value) in at.members()? {
        match name {
            "type" => schema.kind = Some(value.required_text()?.to_owned()),
            "format" => schema.format = value.required_text()?.into(),
            "properties" => {
                for (name, property) in value.members()? {
                    schema.properties.insert(name.to_owned(), self::schema(&property, language)?);
                }
            }
            "additionalProperties" => match value.node().map(|node| &node.value) {
                Some(Value::Bool(true)) => schema.is_open = true,
                Some(Value::Bool(false)) | None => {}
                Some(_) => schema.additional = Some(Box::new(self::schema(&value, language)?)),
            },
            "items" => schema.items = Some(Box::new(self::schema(&value, language)?)),
            "required" => schema.required = value.text_items()?,
            "enum" => schema.one_of_these = values(&value)?,
            "minimum" => schema.least = Some(number(&value)?),
            "maximum" => schema.greatest = Some(number(&value)?),
            "exclusiveMinimum" => schema.is_above_least = value.boolean()?.unwrap_or_default(),
            "exclusiveMaximum" => schema.is_below_greatest = value.boolean()?.unwrap_or_default(),
            "minLength" | "minItems" | "minProperties" => schema.shortest = count(&value)?,
            "maxLength" | "maxItems" | "maxProperties" => schema.longest = Some(count(&value)?),
            "pattern" => schema.pattern = Some(pattern(&value)?),
            "nullable" => schema.is_nullable = value.boolean()?.unwrap_or_default(),
            "oneOf" => schema.exactly_one = schemas(&value, language)?,
            "anyOf" => schema.any = schemas(&value, language)?,
            "allOf" => schema.all = schemas(&value, language)?,
            "not" => schema.not = Some(Box::new(self::schema(&value, language)?)),
            "x-kubernetes-int-or-string" => schema.is_int_or_string = value.boolean()?.unwrap_or_default(),
            "x-kubernetes-preserve-unknown-fields" => schema.is_open |= value.boolean()?.unwrap_or_default(),
            "x-kubernetes-list-map-keys" => schema.keys = value.text_items()?,
            "x-kubernetes-validations" => {
                for rule in value.items()? {
                    let message = rule.any_field("message").text()?;
                    schema.expressions.push(Expression::new(
                        rule.any_field("rule").required_text()?,
                        message,
                        language,
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(schema)
}

fn schemas(at: &Field<'_>, language: &Language) -> Result<Vec<Schema>, ResourceError> {
    at.items()?.iter().map(|item| schema(item, language)).collect()
}

fn values(at: &Field<'_>) -> Result<Vec<Value>, ResourceError> {
    Ok(at.items()?.iter().filter_map(|item| item.node().map(|node| node.value.clone())).collect())
}

fn number(at: &Field<'_>) -> Result<Number, ResourceError> {
    at.number(f64::MIN..=f64::MAX, "a number")?.ok_or_else(|| at.refuse("a number"))
}

fn count(at: &Field<'_>) -> Result<usize, ResourceError> {
    Ok(at.integer(0..=u32::MAX, "a count")?.unwrap_or_default() as usize)
}

fn pattern(at: &Field<'_>) -> Result<Regex, ResourceError> {
    Regex::new(at.required_text()?).map_err(|_| at.refuse("a regular expression in RE2's syntax"))
}
