//! What goes wrong on purpose.

use crate::decode::duration;
use api::envoy::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
use api::envoy::envoy::extensions::filters::http::fault::v3 as proto;
use api::envoy::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use proto::fault_abort::ErrorType;
use std::time::Duration;

/// The faults of a route; the delay goes before the abort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    delay: Option<(Duration, Fraction)>,
    abort: Option<(Abort, Fraction)>,
}

/// An answer in place of the upstream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// With this status.
    Http(u16),
    /// With this gRPC status.
    Grpc(u16),
}

/// A share of requests, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fraction(u64);

const WHOLE: u64 = 1_000_000;

// === impl Fault ===

impl Fault {
    pub(crate) fn parse(fault: &proto::HttpFault) -> Result<Self, String> {
        let delay = match &fault.delay {
            None => None,
            Some(delay) => match &delay.fault_delay_secifier {
                Some(FaultDelaySecifier::FixedDelay(time)) => {
                    duration(Some(time)).map(|time| (time, Fraction::parse(delay.percentage.as_ref())))
                }
                _ => return Err("fault: fixed_delay is accepted".into()),
            },
        };
        let abort = match &fault.abort {
            None => None,
            Some(abort) => {
                let status = |status: u32| u16::try_from(status).map_err(|_| format!("fault: status {status}"));
                let kind = match abort.error_type {
                    Some(ErrorType::HttpStatus(code)) => Abort::Http(status(code)?),
                    Some(ErrorType::GrpcStatus(code)) => Abort::Grpc(status(code)?),
                    _ => return Err("fault: http_status or grpc_status is accepted".into()),
                };
                Some((kind, Fraction::parse(abort.percentage.as_ref())))
            }
        };
        Ok(Self { delay, abort })
    }

    /// How long this request waits, `draw` being by chance.
    pub fn delay(&self, draw: u64) -> Option<Duration> {
        self.delay.filter(|(_, share)| share.includes(draw)).map(|(time, _)| time)
    }

    /// What this request is answered, `draw` being by chance.
    pub fn abort(&self, draw: u64) -> Option<Abort> {
        self.abort.filter(|(_, share)| share.includes(draw)).map(|(abort, _)| abort)
    }
}

// === impl Fraction ===

impl Fraction {
    /// None if nothing is said, as in Envoy.
    pub(crate) fn parse(percent: Option<&FractionalPercent>) -> Self {
        let Some(percent) = percent else { return Self(0) };
        let each = match percent.denominator() {
            DenominatorType::Hundred => 10_000,
            DenominatorType::TenThousand => 100,
            DenominatorType::Million => 1,
        };
        Self(u64::from(percent.numerator).saturating_mul(each))
    }

    /// Whether what was drawn by chance falls into it.
    pub(crate) fn includes(self, draw: u64) -> bool {
        draw % WHOLE < self.0
    }
}
