//! One message merged into another, as Istio does it: what is set counts, messages are merged field by field, lists are
//! appended, durations replaced, and messages within an `Any` merged where both are of one type.

use crate::any::{ANY, close, open, type_of};
use prost_reflect::{DynamicMessage, ReflectMessage, Value};

/// Merges `from` into `into`; with `replaces_lists`, lists are replaced and not appended.
pub(crate) fn merge(into: &mut DynamicMessage, from: &DynamicMessage, replaces_lists: bool) {
    for (field, value) in from.fields() {
        match value {
            Value::Message(inner) if into.has_field(&field) => {
                if let Some(known) = into.get_field_mut(&field).as_message_mut() {
                    merge_message(known, inner, replaces_lists);
                }
            }
            Value::List(items) if !replaces_lists => {
                if let Some(known) = into.get_field_mut(&field).as_list_mut() {
                    known.extend(items.iter().cloned());
                }
            }
            Value::Map(entries) => {
                let Some(known) = into.get_field_mut(&field).as_map_mut() else { continue };
                for (key, value) in entries {
                    match (known.get_mut(key).and_then(Value::as_message_mut), value.as_message()) {
                        (Some(known), Some(inner)) => merge_message(known, inner, replaces_lists),
                        _ => drop(known.insert(key.clone(), value.clone())),
                    }
                }
            }
            _ => into.set_field(&field, value.clone()),
        }
    }
}

fn merge_message(into: &mut DynamicMessage, from: &DynamicMessage, replaces_lists: bool) {
    match into.descriptor().full_name() {
        ANY => match (open(into), open(from)) {
            (Some(mut known), Some(new)) if type_of(into) == type_of(from) => {
                merge(&mut known, &new, replaces_lists);
                *into = close(&known);
            }
            _ => *into = from.clone(),
        },
        "google.protobuf.Duration" => *into = from.clone(),
        _ => merge(into, from, replaces_lists),
    }
}
