//! Patches of the filters that requests pass.

use crate::any::{change_list, text};
use crate::list;
use crate::patch::Patch;
use prost_reflect::{DynamicMessage, Value};

/// The filter that must stay last.
const ROUTER: &str = "envoy.filters.http.router";

/// Applies `patch` to the filters of `manager`; whether they changed.
pub(crate) fn change(patch: &Patch, manager: &mut DynamicMessage) -> bool {
    let wanted = &patch.matches.listener.chain.http_filter;
    let fits = |filter: &DynamicMessage| wanted.as_ref().is_none_or(|wanted| text(filter, "name") == *wanted);
    change_list(manager, "http_filters", |filters| {
        let last = filters.last().and_then(Value::as_message);
        let tail = usize::from(last.is_some_and(|last| text(last, "name") == ROUTER));
        list::change(filters, patch, wanted.is_some(), tail, fits)
    })
}
