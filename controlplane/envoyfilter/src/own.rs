//! What our own proxies honour of EnvoyFilters: local rate limits of requests.

use crate::any::{LOCAL_RATE_LIMIT, listed, open, type_of, within};
use crate::patch::{ApplyTo, Operation};
use prost_reflect::{DynamicMessage, Value};

/// The kinds of descriptors that they make.
const ACTIONS: [&str; 7] = [
    "generic_key",
    "request_headers",
    "query_parameters",
    "header_value_match",
    "query_parameter_value_match",
    "remote_address",
    "masked_remote_address",
];
/// What they do not know of a rate limit.
const UNKNOWN: [&str; 2] = ["local_cluster_rate_limit", "local_rate_limit_per_downstream_connection"];

/// Whether they honour a patch of `value`.
pub(crate) fn honours(apply_to: ApplyTo, operation: Operation, value: &DynamicMessage) -> bool {
    let merges = matches!(operation, Operation::Merge | Operation::MergeAndReplaceList);
    let inserts =
        matches!(operation, Operation::Add | Operation::InsertBefore | Operation::InsertAfter | Operation::InsertFirst);
    match apply_to {
        ApplyTo::HttpFilter => inserts && within(value, "typed_config").as_ref().is_some_and(is_limit),
        ApplyTo::VirtualHost | ApplyTo::RouteConfiguration => merges && says_only(value, &["rate_limits", "name"]),
        ApplyTo::HttpRoute => {
            let route = within(value, "route");
            let forwards = route.is_none_or(|route| says_only(&route, &["rate_limits"]));
            merges && forwards && says_only(value, &["route", "name"])
        }
        _ => false,
    }
}

/// Whether `message` has no fields but those of `names` and rate limits for filters.
fn says_only(message: &DynamicMessage, names: &[&str]) -> bool {
    message.fields().all(|(field, value)| match (field.name(), value) {
        ("typed_per_filter_config", Value::Map(configs)) => {
            configs.values().filter_map(Value::as_message).all(is_limit)
        }
        ("rate_limits", _) => names.contains(&"rate_limits") && knows(message),
        (name, _) => names.contains(&name),
    })
}

fn is_limit(any: &DynamicMessage) -> bool {
    let is_known = |limit: DynamicMessage| UNKNOWN.iter().all(|name| !limit.has_field_by_name(name)) && knows(&limit);
    type_of(any).as_deref() == Some(LOCAL_RATE_LIMIT) && open(any).is_some_and(is_known)
}

/// Whether they make all the descriptors in the `rate_limits` of `message`.
fn knows(message: &DynamicMessage) -> bool {
    let unknown = ["limit", "hits_addend", "apply_on_stream_done"];
    listed(message, "rate_limits").iter().all(|limit| {
        let actions = listed(limit, "actions");
        unknown.iter().all(|name| !limit.has_field_by_name(name))
            && actions.iter().all(|action| action.fields().all(|(field, _)| ACTIONS.contains(&field.name())))
    })
}
