//! When a request is tried again, as Envoy's retry policy says.

use crate::decode::duration;
use api::envoy::envoy::config::route::v3 as proto;
use http::{HeaderMap, HeaderName};
use std::time::Duration;

/// When a request is tried again (`retry_on`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often beyond the first time.
    pub attempts: u32,
    /// How long each try may take; as long as the request if absent.
    pub per_try_timeout: Option<Duration>,
    /// The wait before the first retry.
    pub backoff: Duration,
    /// The longest wait.
    pub longest_backoff: Duration,
    /// Whether endpoints that were tried are left out.
    pub ignores_previous: bool,
    /// Whether priorities that were tried are left out.
    pub next_priority: bool,
    on: u32,
    statuses: Vec<u16>,
    /// The fields of answers that are tried again under `retriable-headers`.
    fields: Vec<HeaderName>,
}

/// Why a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection came about.
    Connect,
    /// The upstream refused before it began (`REFUSED_STREAM`, GOAWAY).
    Refused,
    /// The connection broke, or no answer came in time; whether the request had begun to be sent.
    Reset,
}

/// The conditions of `x-envoy-retry-on` and `x-envoy-retry-grpc-on`.
const CONDITIONS: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
    "envoy-ratelimited",
    "retriable-headers",
    "reset-before-request",
    // There are no upstreams of HTTP/3: it is known, and never the case.
    "http3-post-connect-failure",
];
/// The field of an answer that says that a limit of rates refused (Envoy's).
const RATE_LIMITED: &str = "x-envoy-ratelimited";
/// gRPC's codes of the conditions that are its.
const GRPC: [(&str, u16); 5] =
    [("cancelled", 1), ("deadline-exceeded", 4), ("internal", 13), ("resource-exhausted", 8), ("unavailable", 14)];
/// Envoy's.
const BACKOFF: Duration = Duration::from_millis(25);

// === impl RetryPolicy ===

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 0,
            per_try_timeout: None,
            backoff: BACKOFF,
            longest_backoff: BACKOFF * 10,
            ignores_previous: true,
            next_priority: false,
            on: 0,
            statuses: Vec::new(),
            fields: Vec::new(),
        }
    }
}

impl RetryPolicy {
    pub(crate) fn parse(policy: &proto::RetryPolicy) -> Self {
        let fields = policy.retriable_headers.iter().filter_map(|header| header.name.parse().ok());
        let backoff = policy.retry_back_off.as_ref();
        let first = backoff.and_then(|backoff| duration(backoff.base_interval.as_ref())).unwrap_or(BACKOFF);
        let longest = backoff.and_then(|backoff| duration(backoff.max_interval.as_ref()));
        Self {
            attempts: policy.num_retries.as_ref().map_or(1, |retries| retries.value),
            per_try_timeout: duration(policy.per_try_timeout.as_ref()).filter(|limit| !limit.is_zero()),
            backoff: first,
            longest_backoff: longest.unwrap_or(first * 10),
            ignores_previous: !policy.retry_host_predicate.is_empty(),
            next_priority: policy.retry_priority.is_some(),
            on: flags(&policy.retry_on),
            statuses: policy.retriable_status_codes.iter().filter_map(|code| u16::try_from(*code).ok()).collect(),
            fields: fields.collect(),
        }
    }

    /// Adds conditions, separated by commas; those that are not known are passed over.
    pub fn add_conditions(&mut self, conditions: &str) {
        self.on |= flags(conditions);
        self.attempts = self.attempts.max(1);
    }

    /// Adds statuses to those that are tried again under `retriable-status-codes`.
    pub fn add_statuses(&mut self, statuses: impl Iterator<Item = u16>) {
        self.statuses.extend(statuses);
    }

    /// Adds fields to those whose answers are tried again under `retriable-headers`.
    pub fn add_fields(&mut self, fields: impl Iterator<Item = HeaderName>) {
        self.fields.extend(fields);
    }

    /// Whether an answer of this status and with these fields is tried again; `grpc` is the gRPC status, if the answer
    /// has one in its head.
    pub fn wants(&self, status: u16, grpc: Option<u16>, headers: &HeaderMap) -> bool {
        if headers.contains_key(RATE_LIMITED) {
            // Whoever is refused for asking too often does not ask again unless told to.
            return self.is_on("envoy-ratelimited");
        }
        let by_field = self.is_on("retriable-headers") && self.fields.iter().any(|name| headers.contains_key(name));
        let by_status = (self.is_on("5xx") && status >= 500)
            || (self.is_on("gateway-error") && (502..=504).contains(&status))
            || (self.is_on("retriable-4xx") && status == 409)
            || (self.is_on("retriable-status-codes") && self.statuses.contains(&status));
        by_field
            || by_status
            || grpc.is_some_and(|grpc| GRPC.iter().any(|(name, code)| *code == grpc && self.is_on(name)))
    }

    /// Whether a try that failed so is tried again.
    pub fn wants_after(&self, failure: Failure) -> bool {
        let any = self.is_on("reset") || self.is_on("5xx") || self.is_on("gateway-error");
        any || match failure {
            Failure::Connect => self.is_on("connect-failure") || self.is_on("reset-before-request"),
            Failure::Refused => self.is_on("refused-stream"),
            Failure::Reset => false,
        }
    }

    /// Whether an answer, or what came after the request was sent, may be a reason: then the request must be kept.
    pub fn looks_at_answers(&self) -> bool {
        const BEFORE: [&str; 4] =
            ["connect-failure", "refused-stream", "reset-before-request", "http3-post-connect-failure"];
        CONDITIONS
            .iter()
            .any(|name| !BEFORE.contains(name) && !GRPC.iter().any(|(grpc, _)| grpc == name) && self.is_on(name))
    }

    fn is_on(&self, condition: &str) -> bool {
        self.on & flag(condition) != 0
    }
}

fn flags(text: &str) -> u32 {
    text.split(',').map(|one| flag(one.trim())).fold(0, |all, one| all | one)
}

fn flag(condition: &str) -> u32 {
    CONDITIONS.iter().position(|known| *known == condition).map_or(0, |place| 1 << place)
}
