//! A patch of one thing in a list.

use crate::merge::merge;
use crate::patch::{Operation, Patch};
use prost_reflect::{DynamicMessage, Value};

/// Applies `patch` to the messages of `list`; `fits` tells which its match means, and `names` whether it means particular
/// ones: where it does not, what is inserted goes first or last. What is added goes before the last `tail` things. Whether
/// the list changed.
pub(crate) fn change(
    list: &mut Vec<Value>,
    patch: &Patch,
    names: bool,
    tail: usize,
    fits: impl Fn(&DynamicMessage) -> bool,
) -> bool {
    let is_it = |value: &Value| value.as_message().is_some_and(&fits);
    let new = || Value::Message(patch.value());
    let found = list.iter().position(is_it);
    match (patch.operation, found) {
        (Operation::Add, _) => list.insert(list.len().saturating_sub(tail), new()),
        (Operation::InsertFirst, _) => list.insert(0, new()),
        (Operation::InsertBefore, _) if !names => list.insert(0, new()),
        (Operation::InsertAfter, _) if !names => list.insert(list.len().saturating_sub(tail), new()),
        (Operation::InsertBefore, Some(at)) => list.insert(at, new()),
        (Operation::InsertAfter, Some(at)) => list.insert(at + 1, new()),
        (Operation::Replace, Some(at)) => list[at] = new(),
        (Operation::Remove, Some(_)) => list.retain(|value| !is_it(value)),
        (Operation::Merge | Operation::MergeAndReplaceList, Some(_)) => {
            let replaces = patch.operation == Operation::MergeAndReplaceList;
            let value = patch.value();
            for known in list.iter_mut().filter(|value| is_it(value)).filter_map(Value::as_message_mut) {
                merge(known, &value, replaces);
            }
        }
        _ => return false,
    }
    true
}
