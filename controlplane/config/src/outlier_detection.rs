//! When an endpoint that fails is left out for a while.

use resource::{Field, ResourceError, Source};
use std::collections::BTreeSet;
use std::time::Duration;

/// Outlier detection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Answers 5xx (or no answers) in a row; not counted if 0.
    pub consecutive_5xx: u32,
    /// Answers 502, 503 and 504 (or no answers) in a row; not counted if 0.
    pub consecutive_gateway: u32,
    /// Connections that did not come about, in a row; counted with the others if absent.
    pub consecutive_local: Option<u32>,
    /// How often endpoints are looked at.
    pub interval: Duration,
    /// How long an endpoint is left out the first time; the nth time it is n times as long.
    pub base_ejection: Duration,
    /// The percentage of endpoints that may be left out; one may always be.
    pub max_ejection_percent: u32,
    /// The percentage of endpoints that must be healthy; below it none is left out.
    pub min_health_percent: u32,
    /// The statuses that count as failures instead of 5xx; those if empty.
    pub statuses: BTreeSet<u16>,
}

const FIELDS: &[&str] = &[
    "consecutiveErrors",
    "splitExternalLocalOriginErrors",
    "consecutiveLocalOriginFailures",
    "consecutiveGatewayErrors",
    "consecutive5xxErrors",
    "interval",
    "baseEjectionTime",
    "maxEjectionPercent",
    "minHealthPercent",
    "outlierDetectionHttpErrorCodes",
];
const LEAST: Duration = Duration::from_millis(1);
/// Istio's and Envoy's defaults.
const CONSECUTIVE: u32 = 5;
const INTERVAL: Duration = Duration::from_secs(10);
const BASE_EJECTION: Duration = Duration::from_secs(30);
const MAX_EJECTION: u32 = 10;

// === impl OutlierDetection ===

impl OutlierDetection {
    pub(crate) fn read(at: &Field<'_>, source: &mut Source) -> Result<Option<Self>, ResourceError> {
        if !at.is_present() {
            return Ok(None);
        }
        let fields = at.fields(FIELDS)?;
        let mut statuses = BTreeSet::new();
        for code in fields.get("outlierDetectionHttpErrorCodes").items()? {
            let what = "an HTTP status, 100 to 599";
            let status = code.integer(100..=599, what)?.and_then(|status| u16::try_from(status).ok());
            statuses.insert(status.ok_or_else(|| code.refuse(what))?);
        }
        let older = fields.get("consecutiveErrors");
        let errors = older.integer(0..=u32::MAX, "a number of failures in a row")?.filter(|count| *count != 0);
        if errors.is_some() {
            source.warn(&older, "deprecated: taken as consecutiveGatewayErrors, with 5xx not counted otherwise");
        }
        let count = |name: &str| fields.get(name).integer(0..=u32::MAX, "a number of failures in a row; 0 is never");
        let percent = |name: &str| fields.get(name).integer(0..=100, "a percentage, 0 to 100");
        let time = |name: &str, default| Ok(fields.get(name).duration(LEAST)?.unwrap_or(default));
        let split = fields.get("splitExternalLocalOriginErrors").boolean()?.unwrap_or_default();
        let local = count("consecutiveLocalOriginFailures")?.unwrap_or(CONSECUTIVE);
        Ok(Some(Self {
            consecutive_5xx: count("consecutive5xxErrors")?.unwrap_or(if errors.is_some() { 0 } else { CONSECUTIVE }),
            consecutive_gateway: count("consecutiveGatewayErrors")?.or(errors).unwrap_or(0),
            consecutive_local: split.then_some(local),
            interval: time("interval", INTERVAL)?,
            base_ejection: time("baseEjectionTime", BASE_EJECTION)?,
            // 0 is what Istio's resources have where nothing is said.
            max_ejection_percent: percent("maxEjectionPercent")?.filter(|share| *share != 0).unwrap_or(MAX_EJECTION),
            min_health_percent: percent("minHealthPercent")?.unwrap_or(0),
            statuses,
        }))
    }
}
