//! What goes wrong on purpose.

use crate::{Percentage, exclusive};
use resource::{Field, ResourceError};
use std::time::Duration;

/// Faults of a route; the delay goes before the abort.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fault {
    /// Requests that wait before they go on.
    pub delay: Option<Delay>,
    /// Requests that are answered instead of going on.
    pub abort: Option<Abort>,
}

/// A wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// How long.
    pub time: Duration,
    /// How many of the requests; none where nothing is said, as Istio has it.
    pub share: Percentage,
}

/// An answer in place of the upstream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort {
    /// What it is.
    pub status: AbortStatus,
    /// How many of the requests.
    pub share: Percentage,
}

/// The status of an abort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortStatus {
    /// Of HTTP.
    Http(u16),
    /// Of gRPC.
    Grpc(u8),
}

/// gRPC's status codes, by their number (the gRPC project's "Status codes and their use").
pub(crate) const GRPC: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

// === impl Fault ===

impl Fault {
    pub(crate) fn read(at: &Field<'_>) -> Result<Self, ResourceError> {
        let fields = at.fields(&["delay", "abort"])?;
        if at.is_present() && !fields.get("delay").is_present() && !fields.get("abort").is_present() {
            return Err(at.refuse("delay, abort or both"));
        }
        Ok(Self { delay: delay(&fields.get("delay"))?, abort: abort(&fields.get("abort"))? })
    }
}

fn delay(at: &Field<'_>) -> Result<Option<Delay>, ResourceError> {
    if !at.is_present() {
        return Ok(None);
    }
    let fields = at.fields(&["fixedDelay", "percentage", "percent", "exponentialDelay"])?;
    if fields.get("exponentialDelay").is_present() {
        return Err(fields.get("exponentialDelay").refuse("fixedDelay: Istio has never built the other"));
    }
    let time = fields.get("fixedDelay");
    let wait = time.duration(Duration::from_millis(1))?;
    let share = match Percentage::read(&fields.get("percentage"))? {
        Some(share) => Some(share),
        None => Percentage::read_whole(&fields.get("percent"))?,
    };
    Ok(Some(Delay {
        time: wait.ok_or_else(|| time.refuse("a time such as 5s; this field is required"))?,
        share: share.unwrap_or(Percentage::NONE),
    }))
}

fn abort(at: &Field<'_>) -> Result<Option<Abort>, ResourceError> {
    if !at.is_present() {
        return Ok(None);
    }
    let fields = at.fields(&["httpStatus", "grpcStatus", "http2Error", "percentage"])?;
    exclusive(&fields, &["httpStatus", "grpcStatus", "http2Error"])?;
    let (http, grpc, http2) = (fields.get("httpStatus"), fields.get("grpcStatus"), fields.get("http2Error"));
    if http2.is_present() {
        return Err(http2.refuse("httpStatus or grpcStatus: Istio has never built this one"));
    }
    let status = match (http.integer(200..=599, "an HTTP status, 200 to 599")?, grpc.text()?) {
        (Some(status), _) => AbortStatus::Http(u16::try_from(status).unwrap_or(500)),
        (None, Some(name)) => AbortStatus::Grpc(grpc_code(&grpc, name)?),
        (None, None) => return Err(at.refuse("httpStatus or grpcStatus")),
    };
    let share = Percentage::read(&fields.get("percentage"))?.unwrap_or(Percentage::NONE);
    Ok(Some(Abort { status, share }))
}

/// A gRPC status by its name, or by its number.
fn grpc_code(at: &Field<'_>, name: &str) -> Result<u8, ResourceError> {
    let by_name = GRPC.iter().position(|known| *known == name);
    let code = by_name.or_else(|| name.parse().ok().filter(|code| *code < GRPC.len()));
    let code = code.ok_or_else(|| at.refuse(format!("one of {}", GRPC.join(", "))))?;
    Ok(code as u8)
}
