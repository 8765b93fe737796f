//! What a route says to the filters before the router: faults and CORS.

use crate::any::any;
use crate::matches::string_matcher;
use crate::value::{flag, fraction, fraction_at_runtime, time};
use api::envoy::envoy::extensions::filters::common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier};
use api::envoy::envoy::extensions::filters::http::cors::v3 as cors;
use api::envoy::envoy::extensions::filters::http::fault::v3 as fault;
use api::envoy::google::protobuf::Any;
use config::{AbortStatus, CorsPolicy, Fault, HttpRoute, Percentage};
use fault::fault_abort::ErrorType;
use std::collections::BTreeMap;

/// The filters' names, in Envoy's registry and in route configurations.
pub(crate) const FAULT: &str = "envoy.filters.http.fault";
/// See [`FAULT`].
pub(crate) const CORS: &str = "envoy.filters.http.cors";

pub(crate) fn by_filter(route: &HttpRoute) -> BTreeMap<String, Any> {
    let fault = (route.fault != Fault::default()).then(|| (FAULT.to_owned(), any(&faults(&route.fault))));
    let cors = route.cors.as_ref().map(|policy| (CORS.to_owned(), any(&policy_of(policy))));
    fault.into_iter().chain(cors).collect()
}

fn faults(fault: &Fault) -> fault::HttpFault {
    fault::HttpFault {
        delay: fault.delay.map(|delay| FaultDelay {
            percentage: fraction(delay.share),
            fault_delay_secifier: time(delay.time).map(FaultDelaySecifier::FixedDelay),
        }),
        abort: fault.abort.map(|abort| fault::FaultAbort {
            percentage: fraction(abort.share),
            error_type: Some(match abort.status {
                AbortStatus::Http(status) => ErrorType::HttpStatus(status.into()),
                AbortStatus::Grpc(status) => ErrorType::GrpcStatus(status.into()),
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn policy_of(policy: &CorsPolicy) -> cors::CorsPolicy {
    cors::CorsPolicy {
        allow_origin_string_match: policy.origins.iter().map(string_matcher).collect(),
        allow_methods: policy.methods.join(","),
        allow_headers: policy.headers.join(","),
        expose_headers: policy.exposed.join(","),
        max_age: policy.max_age.map(|age| age.as_secs().to_string()).unwrap_or_default(),
        allow_credentials: policy.credentials.and_then(flag),
        filter_enabled: fraction_at_runtime(Percentage::ALL),
        forward_not_matching_preflights: flag(policy.forwards_unmatched),
        ..Default::default()
    }
}
