//! From a tree of YAML to a message of Envoy's, by protobuf's JSON mapping, with an error that names the place of what does
//! not fit.

use crate::any::{ANY, close};
use crate::{pool, well_known};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use resource::Value as Yaml;
use resource::{Field, ResourceError};
use std::collections::HashMap;

const TYPE: &str = "@type";
/// Types that stand for another: a struct that is to be read as the message it names.
const TYPED_STRUCTS: [&str; 2] = ["udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"];

/// The message of type `descriptor` at `at`.
///
/// # Errors
/// If a field is not known, or its value does not fit.
pub(crate) fn message(at: &Field<'_>, descriptor: &MessageDescriptor) -> Result<DynamicMessage, ResourceError> {
    if descriptor.full_name() == ANY {
        return any(at);
    }
    if let Some(message) = well_known::read(at, descriptor) {
        return message;
    }
    filled(descriptor, at.members()?)
}

fn filled(descriptor: &MessageDescriptor, members: Vec<(&str, Field<'_>)>) -> Result<DynamicMessage, ResourceError> {
    let mut message = DynamicMessage::new(descriptor.clone());
    for (name, member) in members {
        let found = descriptor.get_field_by_name(name).or_else(|| descriptor.get_field_by_json_name(name));
        let field = found
            .ok_or_else(|| member.refuse(format!("a field of {}: it has none of this name", descriptor.full_name())))?;
        if !member.is_present() {
            continue;
        }
        if let Some(oneof) = field.containing_oneof().filter(|oneof| oneof.fields().len() > 1)
            && let Some(other) = oneof.fields().find(|other| message.has_field(other))
        {
            return Err(member.refuse(format!("nothing beside {}: they exclude each other", other.name())));
        }
        message.set_field(&field, value(&member, &field)?);
    }
    Ok(message)
}

fn value(at: &Field<'_>, field: &FieldDescriptor) -> Result<Value, ResourceError> {
    let kind = field.kind();
    if field.is_map() {
        return map(at, &kind);
    }
    if field.is_list() {
        return Ok(Value::List(at.items()?.iter().map(|item| one(item, &kind)).collect::<Result<_, _>>()?));
    }
    one(at, &kind)
}

fn map(at: &Field<'_>, kind: &Kind) -> Result<Value, ResourceError> {
    let Kind::Message(entry) = kind else { return Err(at.refuse("a mapping")) };
    let mut entries = HashMap::new();
    for (key, member) in at.members()? {
        let key = match entry.map_entry_key_field().kind() {
            Kind::String => Some(MapKey::String(key.to_owned())),
            Kind::Uint32 => key.parse().ok().map(MapKey::U32),
            Kind::Int32 => key.parse().ok().map(MapKey::I32),
            Kind::Uint64 => key.parse().ok().map(MapKey::U64),
            Kind::Int64 => key.parse().ok().map(MapKey::I64),
            Kind::Bool => key.parse().ok().map(MapKey::Bool),
            _ => None,
        };
        let key = key.ok_or_else(|| member.refuse("a mapping whose keys are of the field's type"))?;
        entries.insert(key, one(&member, &entry.map_entry_value_field().kind())?);
    }
    Ok(Value::Map(entries))
}

/// One value of `kind`.
fn one(at: &Field<'_>, kind: &Kind) -> Result<Value, ResourceError> {
    Ok(match kind {
        Kind::Bool => Value::Bool(at.boolean()?.ok_or_else(|| at.refuse("true or false"))?),
        Kind::String => Value::String(at.required_text()?.to_owned()),
        Kind::Bytes => {
            let bytes = STANDARD.decode(at.required_text()?).map_err(|_| at.refuse("bytes in base64"))?;
            Value::Bytes(bytes.into())
        }
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(whole(at)?),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(whole(at)?),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(whole(at)?),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(whole(at)?),
        Kind::Double => Value::F64(number(at)?),
        #[expect(clippy::cast_possible_truncation, reason = "that is what a float is")]
        Kind::Float => Value::F32(number(at)? as f32),
        Kind::Enum(of) => Value::EnumNumber(enumerated(at, of)?),
        Kind::Message(of) => Value::Message(message(at, of)?),
    })
}

/// A whole number, in digits or in quotes.
pub(crate) fn whole<T: TryFrom<i128>>(at: &Field<'_>) -> Result<T, ResourceError> {
    let number = match at.node().map(|node| &node.value) {
        Some(Yaml::Integer(number)) => Some(*number),
        Some(Yaml::Text(text)) => text.parse().ok(),
        _ => None,
    };
    let fitting = number.and_then(|number| T::try_from(number).ok());
    fitting.ok_or_else(|| at.refuse(format!("a whole number within the range of {}", std::any::type_name::<T>())))
}

pub(crate) fn number(at: &Field<'_>) -> Result<f64, ResourceError> {
    at.number(f64::MIN..=f64::MAX, "any")?.ok_or_else(|| at.refuse("a number"))
}

fn enumerated(at: &Field<'_>, of: &EnumDescriptor) -> Result<i32, ResourceError> {
    let found = match at.node().map(|node| &node.value) {
        Some(Yaml::Text(name)) => of.get_value_by_name(name),
        Some(Yaml::Integer(number)) => i32::try_from(*number).ok().and_then(|number| of.get_value(number)),
        _ => None,
    };
    let names = || of.values().map(|value| value.name().to_owned()).collect::<Vec<_>>().join(", ");
    found.map(|value| value.number()).ok_or_else(|| at.refuse(format!("one of {}", names())))
}

/// A message that names its own type. One within a `TypedStruct` becomes the message that the struct stands for.
fn any(at: &Field<'_>) -> Result<DynamicMessage, ResourceError> {
    let members = at.members()?;
    let find = |wanted: &str| members.iter().find(|(name, _)| *name == wanted).map(|(_, member)| member);
    let url = find(TYPE).ok_or_else(|| at.refuse("a message with \"@type\""))?;
    let name = full_name(url)?;
    if TYPED_STRUCTS.contains(&name) {
        let url = find("type_url").ok_or_else(|| at.refuse("a TypedStruct with type_url"))?;
        let descriptor = described(url)?;
        let value = find("value").map_or_else(|| Ok(Vec::new()), Field::members)?;
        return Ok(close(&filled(&descriptor, value)?));
    }
    let descriptor = described(url)?;
    if let Some(value) = find("value").filter(|_| well_known::is(&descriptor)) {
        return Ok(close(&message(value, &descriptor)?));
    }
    let members = members.into_iter().filter(|(name, _)| *name != TYPE).collect();
    Ok(close(&filled(&descriptor, members)?))
}

fn full_name<'a>(url: &Field<'a>) -> Result<&'a str, ResourceError> {
    let text = url.required_text()?;
    Ok(text.rsplit('/').next().unwrap_or(text))
}

fn described(url: &Field<'_>) -> Result<MessageDescriptor, ResourceError> {
    let name = full_name(url)?;
    pool::message(name).ok_or_else(|| url.refuse("the type of a message that Envoy's API has"))
}
