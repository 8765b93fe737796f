//! A message within a message.

use api::envoy::google::protobuf::Any;
use prost::{Message, Name};

/// `message` as Envoy's `typed_config`.
pub(crate) fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}
