//! What an application says of a single request's retries and time, in Envoy's header fields.

use http::{HeaderMap, HeaderName};
use routing::RetryPolicy;
use std::time::Duration;

/// The fields, which go no further (Envoy's router documentation).
pub(crate) const FIELDS: [HeaderName; 7] = [
    HeaderName::from_static("x-envoy-upstream-rq-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms"),
    HeaderName::from_static("x-envoy-max-retries"),
    HeaderName::from_static("x-envoy-retry-on"),
    HeaderName::from_static("x-envoy-retry-grpc-on"),
    HeaderName::from_static("x-envoy-retriable-status-codes"),
    HeaderName::from_static("x-envoy-retriable-header-names"),
];

/// Lets what `headers` say go before what the route says. What cannot be read says nothing.
pub(crate) fn apply(headers: &HeaderMap, retries: &mut RetryPolicy, timeout: &mut Option<Duration>) {
    if FIELDS.iter().all(|name| !headers.contains_key(name)) {
        return;
    }
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let time = |name: &HeaderName| text(name).and_then(|text| text.parse().ok()).map(Duration::from_millis);
    let [whole, per_try, attempts, on, grpc, statuses, fields] = &FIELDS;
    if let Some(limit) = time(whole) {
        *timeout = Some(limit).filter(|limit| !limit.is_zero());
    }
    if let Some(limit) = time(per_try) {
        retries.per_try_timeout = Some(limit).filter(|limit| !limit.is_zero());
    }
    for conditions in [on, grpc].into_iter().filter_map(text) {
        retries.add_conditions(conditions);
    }
    if let Some(statuses) = text(statuses) {
        retries.add_statuses(statuses.split(',').filter_map(|status| status.trim().parse().ok()));
    }
    if let Some(fields) = text(fields) {
        retries.add_fields(fields.split(',').filter_map(|name| name.trim().parse().ok()));
    }
    if let Some(attempts) = text(attempts).and_then(|text| text.parse().ok()) {
        retries.attempts = attempts;
    }
}
