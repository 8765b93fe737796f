//! Messages within messages.

use crate::encode::encode;
use crate::pool;
use prost_reflect::{DynamicMessage, ReflectMessage, Value};

pub(crate) const ANY: &str = "google.protobuf.Any";
pub(crate) const HTTP_MANAGER: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
pub(crate) const LOCAL_RATE_LIMIT: &str = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";

/// The full name of the message in `any`.
pub(crate) fn type_of(any: &DynamicMessage) -> Option<String> {
    let url = any.get_field_by_name("type_url")?;
    Some(url.as_str()?.rsplit('/').next()?.to_owned())
}

/// The message in `any`; none if nobody knows its type, or it is not well formed.
pub(crate) fn open(any: &DynamicMessage) -> Option<DynamicMessage> {
    let descriptor = pool::message(&type_of(any)?)?;
    let value = any.get_field_by_name("value")?;
    DynamicMessage::decode(descriptor, value.as_bytes()?.clone()).ok()
}

/// `message` as an `Any`.
pub(crate) fn close(message: &DynamicMessage) -> DynamicMessage {
    let mut any = DynamicMessage::new(pool::known(ANY));
    let url = format!("type.googleapis.com/{}", message.descriptor().full_name());
    any.set_field_by_name("type_url", Value::String(url));
    any.set_field_by_name("value", Value::Bytes(encode(message).into()));
    any
}

/// The text in the field `name`; empty if there is none.
pub(crate) fn text(message: &DynamicMessage, name: &str) -> String {
    let value = message.get_field_by_name(name);
    value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The message in the field `name`, if there is one.
pub(crate) fn within(message: &DynamicMessage, name: &str) -> Option<DynamicMessage> {
    if !message.has_field_by_name(name) {
        return None;
    }
    message.get_field_by_name(name)?.as_message().cloned()
}

/// The messages in the list `name`.
pub(crate) fn listed(message: &DynamicMessage, name: &str) -> Vec<DynamicMessage> {
    let value = message.get_field_by_name(name);
    let items = value.as_ref().and_then(|value| value.as_list()).unwrap_or_default();
    items.iter().filter_map(|item| item.as_message().cloned()).collect()
}

/// Calls `change` on the list `name`, if it is there or `change` is to begin one; whether it changed.
pub(crate) fn change_list(
    message: &mut DynamicMessage,
    name: &str,
    change: impl FnOnce(&mut Vec<Value>) -> bool,
) -> bool {
    message.get_field_by_name_mut(name).and_then(Value::as_list_mut).is_some_and(change)
}

/// Calls `change` on the message in the `Any` that the field `typed_config` holds, if it is a `wanted`; whether it
/// changed.
pub(crate) fn change_config(
    holder: &mut DynamicMessage,
    wanted: &str,
    change: impl FnOnce(&mut DynamicMessage) -> bool,
) -> bool {
    let config = within(holder, "typed_config").filter(|any| type_of(any).as_deref() == Some(wanted));
    let Some(mut inner) = config.as_ref().and_then(open) else { return false };
    let changed = change(&mut inner);
    if changed {
        holder.set_field_by_name("typed_config", Value::Message(close(&inner)));
    }
    changed
}
