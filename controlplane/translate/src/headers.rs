//! Operations on header fields, as Envoy has them.

use api::envoy::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use api::envoy::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use config::{HeaderOperations, Operations};

/// The operations of one message.
#[derive(Default)]
pub(crate) struct Mutation {
    pub(crate) add: Vec<HeaderValueOption>,
    pub(crate) remove: Vec<String>,
}

/// A request's and its response's, and the authority that the request gets instead of its own.
#[derive(Default)]
pub(crate) struct Mutations {
    pub(crate) request: Mutation,
    pub(crate) response: Mutation,
    pub(crate) authority: Option<String>,
}

/// The names under which the authority is set like a field.
const AUTHORITY: [&str; 2] = ["host", ":authority"];

pub(crate) fn mutations(headers: &HeaderOperations) -> Mutations {
    let authority = AUTHORITY.iter().find_map(|name| headers.request.set.get(*name)).cloned();
    Mutations { request: mutation(&headers.request), response: mutation(&headers.response), authority }
}

fn mutation(operations: &Operations) -> Mutation {
    use HeaderAppendAction::{AppendIfExistsOrAdd, OverwriteIfExistsOrAdd};
    let option = |name: &String, value: &String, action: HeaderAppendAction| HeaderValueOption {
        header: Some(HeaderValue { key: name.clone(), value: value.clone(), ..Default::default() }),
        append_action: action.into(),
        ..Default::default()
    };
    let is_field = |name: &&String| !AUTHORITY.contains(&name.as_str());
    let set = operations.set.iter().filter(|(name, _)| is_field(name));
    let add = operations.add.iter().filter(|(name, _)| is_field(name));
    Mutation {
        add: set
            .map(|(name, value)| option(name, value, OverwriteIfExistsOrAdd))
            .chain(add.map(|(name, value)| option(name, value, AppendIfExistsOrAdd)))
            .collect(),
        remove: operations.remove.clone(),
    }
}
