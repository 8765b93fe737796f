//! When a request is tried again, as Envoy has it.

use crate::any::any;
use crate::value::{number, time};
use api::envoy::envoy::config::route::v3 as envoy;
use api::envoy::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use api::envoy::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use config::Retries;
use envoy::retry_policy::{
    RetryBackOff, RetryHostPredicate, RetryPriority, retry_host_predicate, retry_priority::ConfigType,
};

/// Istio's default retries: of what the server has certainly not begun.
const RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled";
/// Envoy refuses waits of less than a millisecond, and has the longest at ten times the first.
const LONGEST: u32 = 10;

/// What `retries` says, or else the mesh's default; nothing if it says that there are none.
pub(crate) fn policy(retries: Option<&Retries>) -> Option<envoy::RetryPolicy> {
    let default = Retries { attempts: 2, ignores_previous: true, ..Retries::default() };
    let retries = retries.unwrap_or(&default);
    if retries.attempts == 0 {
        return None;
    }
    let previous_hosts = RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(any(&PreviousHostsPredicate::default()))),
    };
    let previous_priorities = RetryPriority {
        name: "envoy.retry_priorities.previous_priorities".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&PreviousPrioritiesConfig { update_frequency: 2 }))),
    };
    Some(envoy::RetryPolicy {
        retry_on: if retries.on.is_empty() { RETRY_ON.to_owned() } else { retries.on.join(",") },
        retriable_status_codes: retries.statuses.iter().map(|status| u32::from(*status)).collect(),
        num_retries: number(retries.attempts),
        per_try_timeout: retries.per_try_timeout.and_then(time),
        retry_priority: retries.remote_localities.then_some(previous_priorities),
        retry_host_predicate: if retries.ignores_previous { vec![previous_hosts] } else { Vec::new() },
        host_selection_retry_max_attempts: if retries.ignores_previous { 5 } else { 0 },
        retry_back_off: retries
            .backoff
            .map(|first| RetryBackOff { base_interval: time(first), max_interval: time(first * LONGEST) }),
        ..Default::default()
    })
}
