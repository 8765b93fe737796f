//! Encoding that gives equal messages equal bytes: maps in the order of their keys.

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};
use std::collections::HashMap;

/// `message` on the wire.
pub(crate) fn encode(message: &DynamicMessage) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (field, value) in message.fields() {
        put(&mut bytes, message, &field, value);
    }
    for unknown in message.unknown_fields() {
        unknown.encode(&mut bytes);
    }
    bytes
}

fn put(bytes: &mut Vec<u8>, message: &DynamicMessage, field: &FieldDescriptor, value: &Value) {
    match value {
        Value::Map(entries) => put_map(bytes, field, entries),
        Value::Message(inner) => put_inside(bytes, field.number(), &encode(inner)),
        Value::List(items) if matches!(field.kind(), Kind::Message(_)) => {
            for inner in items.iter().filter_map(Value::as_message) {
                put_inside(bytes, field.number(), &encode(inner));
            }
        }
        _ => {
            // Scalars have one form only: the library's.
            let mut alone = DynamicMessage::new(message.descriptor());
            alone.set_field(field, value.clone());
            bytes.extend(alone.encode_to_vec());
        }
    }
}

fn put_map(bytes: &mut Vec<u8>, field: &FieldDescriptor, entries: &HashMap<MapKey, Value>) {
    let Kind::Message(entry) = field.kind() else { return };
    let mut encoded: Vec<Vec<u8>> = entries
        .iter()
        .map(|(key, value)| {
            let mut one = DynamicMessage::new(entry.clone());
            one.set_field(&entry.map_entry_key_field(), Value::from(key.clone()));
            one.set_field(&entry.map_entry_value_field(), value.clone());
            encode(&one)
        })
        .collect();
    // Entries begin with their keys.
    encoded.sort();
    for entry in encoded {
        put_inside(bytes, field.number(), &entry);
    }
}

fn put_inside(bytes: &mut Vec<u8>, number: u32, inner: &[u8]) {
    encode_key(number, WireType::LengthDelimited, bytes);
    encode_varint(inner.len() as u64, bytes);
    bytes.extend_from_slice(inner);
}
