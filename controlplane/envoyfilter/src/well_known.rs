//! Messages that JSON writes in a way of their own: durations, wrapped scalars, free structures.

use crate::json::{number, whole};
use crate::pool;
use prost_reflect::{DynamicMessage, MapKey, MessageDescriptor, Value};
use resource::Value as Yaml;
use resource::{Field, ResourceError};
use std::collections::HashMap;
use std::time::Duration;

const STRUCT: &str = "google.protobuf.Struct";
const VALUE: &str = "google.protobuf.Value";
const LIST: &str = "google.protobuf.ListValue";

/// Whether JSON writes messages of this type in a way of their own.
pub(crate) fn is(descriptor: &MessageDescriptor) -> bool {
    let name = descriptor.full_name();
    name.starts_with("google.protobuf.") && name != "google.protobuf.Empty"
}

/// The message at `at`, if it is such a one.
pub(crate) fn read(at: &Field<'_>, descriptor: &MessageDescriptor) -> Option<Result<DynamicMessage, ResourceError>> {
    let wrapped = |value: Result<Value, ResourceError>| {
        let mut message = DynamicMessage::new(descriptor.clone());
        message.set_field_by_name("value", value?);
        Ok(message)
    };
    Some(match descriptor.full_name().strip_prefix("google.protobuf.")? {
        "Duration" => duration(at, descriptor),
        "BoolValue" => {
            wrapped(at.boolean().and_then(|value| value.ok_or_else(|| at.refuse("true or false"))).map(Value::Bool))
        }
        "UInt32Value" => wrapped(whole(at).map(Value::U32)),
        "UInt64Value" => wrapped(whole(at).map(Value::U64)),
        "Int32Value" => wrapped(whole(at).map(Value::I32)),
        "Int64Value" => wrapped(whole(at).map(Value::I64)),
        "DoubleValue" => wrapped(number(at).map(Value::F64)),
        "StringValue" => wrapped(at.required_text().map(|text| Value::String(text.to_owned()))),
        "Struct" => structure(at),
        "Value" => free(at),
        "ListValue" => list(at),
        "Empty" => return None,
        _ => Err(at.refuse(format!("nothing: {} is not accepted", descriptor.full_name()))),
    })
}

fn duration(at: &Field<'_>, descriptor: &MessageDescriptor) -> Result<DynamicMessage, ResourceError> {
    let time = at.duration(Duration::ZERO)?.ok_or_else(|| at.refuse("a time, e.g. 0.250s"))?;
    let mut message = DynamicMessage::new(descriptor.clone());
    let seconds = i64::try_from(time.as_secs()).map_err(|_| at.refuse("a time of at most 10,000 years"))?;
    message.set_field_by_name("seconds", Value::I64(seconds));
    message.set_field_by_name("nanos", Value::I32(time.subsec_nanos().cast_signed()));
    Ok(message)
}

fn structure(at: &Field<'_>) -> Result<DynamicMessage, ResourceError> {
    let mut fields = HashMap::new();
    for (name, member) in at.members()? {
        fields.insert(MapKey::String(name.to_owned()), Value::Message(free(&member)?));
    }
    let mut message = DynamicMessage::new(pool::known(STRUCT));
    message.set_field_by_name("fields", Value::Map(fields));
    Ok(message)
}

fn list(at: &Field<'_>) -> Result<DynamicMessage, ResourceError> {
    let values = at.items()?.iter().map(|item| Ok(Value::Message(free(item)?))).collect::<Result<_, _>>()?;
    let mut message = DynamicMessage::new(pool::known(LIST));
    message.set_field_by_name("values", Value::List(values));
    Ok(message)
}

fn free(at: &Field<'_>) -> Result<DynamicMessage, ResourceError> {
    let mut message = DynamicMessage::new(pool::known(VALUE));
    let (name, value) = match at.node().map(|node| &node.value) {
        None | Some(Yaml::Null) => ("null_value", Value::EnumNumber(0)),
        Some(Yaml::Bool(value)) => ("bool_value", Value::Bool(*value)),
        Some(Yaml::Integer(_) | Yaml::Float(_)) => ("number_value", Value::F64(number(at)?)),
        Some(Yaml::Text(text)) => ("string_value", Value::String(text.clone())),
        Some(Yaml::List(_)) => ("list_value", Value::Message(list(at)?)),
        Some(Yaml::Map(_)) => ("struct_value", Value::Message(structure(at)?)),
    };
    message.set_field_by_name(name, value);
    Ok(message)
}
