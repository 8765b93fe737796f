//! When a request is tried again.

use resource::{Field, ResourceError};
use std::time::Duration;

/// A policy of retries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retries {
    /// How often beyond the first time; none if 0.
    pub attempts: u32,
    /// How long each try may take; as long as the route if absent.
    pub per_try_timeout: Option<Duration>,
    /// On what, in Envoy's and gRPC's names; as the mesh does it if empty.
    pub on: Vec<String>,
    /// On which statuses.
    pub statuses: Vec<u16>,
    /// Whether other localities may be tried.
    pub remote_localities: bool,
    /// Whether endpoints that were tried are left out.
    pub ignores_previous: bool,
    /// The wait before the first retry; Envoy's 25 ms if absent.
    pub backoff: Option<Duration>,
}

const FIELDS: &[&str] =
    &["attempts", "perTryTimeout", "retryOn", "retryRemoteLocalities", "retryIgnorePreviousHosts", "backoff"];
/// The conditions of Envoy's `x-envoy-retry-on` and `x-envoy-retry-grpc-on`.
const CONDITIONS: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];
const MOST_ATTEMPTS: u32 = 1000;
const LEAST: Duration = Duration::from_millis(1);

// === impl Retries ===

impl Retries {
    pub(crate) fn read(at: &Field<'_>) -> Result<Option<Self>, ResourceError> {
        if !at.is_present() {
            return Ok(None);
        }
        let fields = at.fields(FIELDS)?;
        let attempts = fields.get("attempts").integer(0..=MOST_ATTEMPTS, "a number of retries, 0 to 1000")?;
        let flag = |name: &str| fields.get(name).boolean();
        let on = fields.get("retryOn");
        let attempts = attempts.unwrap_or(0);
        if attempts == 0 && (on.is_present() || fields.get("perTryTimeout").is_present()) {
            return Err(fields.get("attempts").refuse("1 or more where retryOn or perTryTimeout is set"));
        }
        let (on, statuses) = conditions(&on)?;
        Ok(Some(Self {
            attempts,
            per_try_timeout: fields.get("perTryTimeout").duration(LEAST)?,
            on,
            statuses,
            remote_localities: flag("retryRemoteLocalities")?.unwrap_or_default(),
            ignores_previous: flag("retryIgnorePreviousHosts")?.unwrap_or(true),
            backoff: fields.get("backoff").duration(LEAST)?,
        }))
    }
}

/// Conditions and statuses, separated by commas.
fn conditions(at: &Field<'_>) -> Result<(Vec<String>, Vec<u16>), ResourceError> {
    let (mut on, mut statuses) = (Vec::new(), Vec::new());
    for part in at.text()?.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty()) {
        if let Some(status) = part.parse().ok().filter(|status| (100..600).contains(status)) {
            statuses.push(status);
        } else if CONDITIONS.contains(&part) {
            on.push(part.to_owned());
        } else {
            return Err(at.refuse(format!("HTTP statuses and {}, separated by commas", CONDITIONS.join(", "))));
        }
    }
    if !statuses.is_empty() && !on.iter().any(|one| one == "retriable-status-codes") {
        on.push("retriable-status-codes".to_owned());
    }
    Ok((on, statuses))
}
