//! Requests from outside of the mesh: what they say that only a proxy may say is taken away, and where they come from is
//! written down, as Envoy does with `use_remote_address`.

use crate::headers::FORWARDED_PROTO;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::net::IpAddr;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What only proxies within the mesh may say (Envoy's list, by its documentation of header sanitizing, and what Istio's
/// proxies tell each other).
const INTERNAL: [HeaderName; 22] = [
    HeaderName::from_static("x-envoy-attempt-count"),
    HeaderName::from_static("x-envoy-decorator-operation"),
    HeaderName::from_static("x-envoy-downstream-service-cluster"),
    HeaderName::from_static("x-envoy-downstream-service-node"),
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms"),
    HeaderName::from_static("x-envoy-external-address"),
    HeaderName::from_static("x-envoy-force-trace"),
    HeaderName::from_static("x-envoy-hedge-on-per-try-timeout"),
    HeaderName::from_static("x-envoy-internal"),
    HeaderName::from_static("x-envoy-ip-tags"),
    HeaderName::from_static("x-envoy-max-retries"),
    HeaderName::from_static("x-envoy-original-host"),
    HeaderName::from_static("x-envoy-original-path"),
    HeaderName::from_static("x-envoy-peer-metadata"),
    HeaderName::from_static("x-envoy-peer-metadata-id"),
    HeaderName::from_static("x-envoy-retriable-header-names"),
    HeaderName::from_static("x-envoy-retriable-status-codes"),
    HeaderName::from_static("x-envoy-retry-grpc-on"),
    HeaderName::from_static("x-envoy-retry-on"),
    HeaderName::from_static("x-envoy-upstream-alt-stat-name"),
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-ms"),
];

/// Makes `headers` of a request from `address` what the mesh can rely on. Every request has an id of ours.
pub(crate) fn sanitize(headers: &mut HeaderMap, address: IpAddr, over_tls: bool) {
    for name in INTERNAL {
        headers.remove(name);
    }
    headers.remove(REQUEST_ID);
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(if over_tls { "https" } else { "http" }));
    let address = address.to_canonical().to_string();
    let said = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let mut all: Vec<&str> = said.collect();
    all.push(&address);
    if let (Ok(all), Ok(address)) = (HeaderValue::from_str(&all.join(",")), HeaderValue::from_str(&address)) {
        headers.insert(FORWARDED_FOR, all);
        headers.insert(EXTERNAL_ADDRESS, address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_proxies_say_is_taken_away() {
        let mut headers = HeaderMap::new();
        for name in INTERNAL {
            headers.insert(name, HeaderValue::from_static("1"));
        }
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
        headers.append(FORWARDED_FOR, HeaderValue::from_static("10.0.0.1"));
        headers.insert("x-mine", HeaderValue::from_static("1"));
        sanitize(&mut headers, "192.0.2.7".parse().expect("an address"), false);
        let is = |name: &HeaderName, wanted: &str| assert_eq!(headers.get(name).expect("set"), wanted);
        is(&FORWARDED_PROTO, "http");
        is(&FORWARDED_FOR, "10.0.0.1,192.0.2.7");
        is(&EXTERNAL_ADDRESS, "192.0.2.7");
        assert_eq!(headers.len(), 4, "{headers:?}");
    }
}
