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

/// What is known of a caller from outside, whatever it says.
pub(crate) struct Outside {
    /// Where its connection comes from.
    pub(crate) address: IpAddr,
    pub(crate) over_tls: bool,
    /// How many proxies before this one are believed where they say that requests come from.
    pub(crate) trusted_hops: usize,
    /// Whether requests get an id of ours.
    pub(crate) makes_ids: bool,
}

// === impl Outside ===

impl Outside {
    /// Makes `headers` of a request what the mesh can rely on.
    pub(crate) fn sanitize(&self, headers: &mut HeaderMap) {
        for name in INTERNAL {
            headers.remove(name);
        }
        if self.makes_ids {
            headers.remove(REQUEST_ID);
        }
        if self.trusted_hops == 0 || !headers.contains_key(FORWARDED_PROTO) {
            let scheme = if self.over_tls { "https" } else { "http" };
            headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
        }
        let address = self.address.to_canonical().to_string();
        let said = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let mut all: Vec<&str> = said.collect();
        all.push(&address);
        if let (Ok(all), Ok(address)) = (HeaderValue::from_str(&all.join(",")), HeaderValue::from_str(&address)) {
            headers.insert(FORWARDED_FOR, all);
            let client = said_by(headers, self.trusted_hops);
            let client = client.and_then(|client| HeaderValue::from_str(&client.to_string()).ok());
            headers.insert(EXTERNAL_ADDRESS, client.unwrap_or(address));
        }
    }
}

/// The address that the last proxy but `hops` wrote into `x-forwarded-for`, if it is one.
pub(crate) fn said_by(headers: &HeaderMap, hops: usize) -> Option<IpAddr> {
    let values = headers.get_all(FORWARDED_FOR).iter().rev();
    let mut addresses = values.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
    addresses.nth(hops)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(trusted_hops: usize) -> Outside {
        let address = "192.0.2.7".parse().expect("an address");
        Outside { address, over_tls: false, trusted_hops, makes_ids: true }
    }

    #[test]
    fn proxies_that_are_trusted_say_where_a_request_comes_from() {
        for (said, hops, client) in [
            (&["10.0.0.1"][..], 0, "192.0.2.7"),
            (&["10.0.0.1"], 1, "10.0.0.1"),
            (&["10.0.0.1, 10.0.0.2"], 1, "10.0.0.2"),
            (&["10.0.0.1", "10.0.0.2"], 2, "10.0.0.1"),
            // Fewer than there should be, or no address: nobody is believed.
            (&["10.0.0.1"], 2, "192.0.2.7"),
            (&["10.0.0.1, nonsense"], 1, "192.0.2.7"),
            (&[], 1, "192.0.2.7"),
        ] {
            let field = |value: &&'static str| (FORWARDED_FOR, HeaderValue::from_static(value));
            let mut headers: HeaderMap = said.iter().map(field).collect();
            headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
            caller(hops).sanitize(&mut headers);
            assert_eq!(headers[EXTERNAL_ADDRESS], client, "{said:?} {hops}");
            assert_eq!(headers[FORWARDED_PROTO], if hops == 0 { "http" } else { "https" }, "{said:?} {hops}");
            let believed = said_by(&headers, hops).unwrap_or(caller(hops).address);
            assert_eq!(believed.to_string(), client, "{said:?} {hops}");
        }
    }

    #[test]
    fn what_only_proxies_say_is_taken_away() {
        let mut headers = HeaderMap::new();
        for name in INTERNAL {
            headers.insert(name, HeaderValue::from_static("1"));
        }
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
        headers.append(FORWARDED_FOR, HeaderValue::from_static("10.0.0.1"));
        headers.insert("x-mine", HeaderValue::from_static("1"));
        caller(0).sanitize(&mut headers);
        let is = |name: &HeaderName, wanted: &str| assert_eq!(headers.get(name).expect("set"), wanted);
        is(&FORWARDED_PROTO, "http");
        is(&FORWARDED_FOR, "10.0.0.1,192.0.2.7");
        is(&EXTERNAL_ADDRESS, "192.0.2.7");
        assert_eq!(headers.len(), 4, "{headers:?}");
    }
}
