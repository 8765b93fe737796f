//! The descriptors of Envoy's messages.

use prost_reflect::{DescriptorPool, MessageDescriptor};
use std::sync::LazyLock;

/// A constant, decoded when it is first needed: most control planes never need it.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(api::DESCRIPTORS).expect("the descriptors were made of files that compile")
});

/// The message of this full name, if it is one of Envoy's.
pub(crate) fn message(name: &str) -> Option<MessageDescriptor> {
    POOL.get_message_by_name(name)
}

/// As [`message`], for a name that is in the code.
pub(crate) fn known(name: &str) -> MessageDescriptor {
    message(name).expect("Envoy has this message")
}
