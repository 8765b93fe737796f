//! Header fields that a proxy takes away, sets, or completes.

use crate::overrides;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, Entry, HOST, SERVER, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version};
use routing::{ClientCertificate, ServerName};
use std::time::Duration;

/// Who the caller is, as Istio's Envoy tells the application.
pub(crate) const CLIENT_CERTIFICATE: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// Tells a caller that as much is under way as may be, as Envoy does.
pub(crate) const OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");
const EXPECTED_TIME: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
/// Only a proxy at the edge says that a request comes from within.
const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
/// The scheme of the request as the first proxy saw it.
pub(crate) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// The authority that a request names: that of its target, else its `Host` (RFC 9110, section 7.2). A request with
/// several `Host` fields names none, and neither does one that names a user (RFC 9110, section 4.2.4).
pub(crate) fn authority<B>(request: &Request<B>) -> Option<Authority> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return None;
    }
    let authority = match request.uri().authority() {
        Some(authority) => authority.clone(),
        None => Authority::from_maybe_shared(bytes::Bytes::copy_from_slice(host?.as_bytes())).ok()?,
    };
    (!authority.as_str().contains('@')).then_some(authority)
}

/// The scheme that a request asks for: what the proxy before this one says, else that of the target, else that of the
/// connection.
pub(crate) fn scheme<B>(request: &Request<B>, over_tls: bool) -> &'static str {
    let said = request.headers().get(FORWARDED_PROTO).map(HeaderValue::as_bytes);
    match said.or_else(|| request.uri().scheme_str().map(str::as_bytes)) {
        Some(scheme) if scheme.eq_ignore_ascii_case(b"https") => "https",
        Some(scheme) if scheme.eq_ignore_ascii_case(b"http") => "http",
        _ if over_tls => "https",
        _ => "http",
    }
}

/// The authority without the dot that may end its host: it is the same host.
pub(crate) fn without_last_dot(authority: Authority) -> Authority {
    let host = authority.host();
    let Some(plain) = host.strip_suffix('.').filter(|plain| !plain.is_empty()) else { return authority };
    let changed = format!("{plain}{}", &authority.as_str()[host.len()..]).parse();
    changed.unwrap_or(authority)
}

/// Has `Host`, where it stands, say what everybody reads: an authority in the target goes before it.
pub(crate) fn tell_host(headers: &mut HeaderMap, authority: &Authority) {
    if headers.get(HOST).is_some_and(|host| host.as_bytes() != authority.as_str().as_bytes())
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        headers.insert(HOST, host);
    }
}

/// Tells who the caller `proved` to be, and nothing that it claims and could not know from another.
pub(crate) fn show_certificate(headers: &mut HeaderMap, rule: ClientCertificate, proved: Option<&HeaderValue>) {
    match (rule, proved) {
        (ClientCertificate::AlwaysForward, _) | (ClientCertificate::Forward, Some(_)) => {}
        (ClientCertificate::Sanitize, _) | (_, None) => drop(headers.remove(CLIENT_CERTIFICATE)),
        (ClientCertificate::Replace, Some(proved)) => drop(headers.insert(CLIENT_CERTIFICATE, proved.clone())),
        (ClientCertificate::Append, Some(proved)) => {
            let said = headers.get_all(CLIENT_CERTIFICATE).iter().chain([proved]).map(HeaderValue::as_bytes);
            let all = said.collect::<Vec<_>>().join(&b',');
            let all = HeaderValue::from_bytes(&all).unwrap_or_else(|_| proved.clone());
            headers.insert(CLIENT_CERTIFICATE, all);
        }
    }
}

/// Tells the upstream how long it has, and takes away what was said to this proxy alone.
pub(crate) fn expect_within(headers: &mut HeaderMap, limit: Option<Duration>) {
    for name in overrides::FIELDS {
        headers.remove(name);
    }
    headers.remove(EXPECTED_TIME);
    if let Some(limit) = limit {
        let milliseconds = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        headers.insert(EXPECTED_TIME, HeaderValue::from(milliseconds));
    }
}

/// Tells the upstream which path was asked for before it was rewritten.
pub(crate) fn remember_path(headers: &mut HeaderMap, path: &PathAndQuery) {
    if let Ok(value) = HeaderValue::from_str(path.as_str()) {
        headers.insert(ORIGINAL_PATH, value);
    }
}

/// Writes the target in the form of the HTTP version: a path and `Host`, or a whole URI.
pub(crate) fn address(head: &mut Parts, authority: &Authority, path: &PathAndQuery, is_http2: bool) {
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(path.clone());
    if is_http2 {
        head.version = Version::HTTP_2;
        head.headers.remove(HOST);
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(authority.clone());
    } else {
        head.version = Version::HTTP_11;
        // What was routed is what the application sees: an authority in the target goes before any `Host`.
        if head.headers.get(HOST).is_none_or(|host| host.as_bytes() != authority.as_str().as_bytes())
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            head.headers.insert(HOST, host);
        }
    }
    if let Ok(uri) = Uri::from_parts(uri) {
        head.uri = uri;
    }
}

/// Whether `token` is in the list of the field `name`.
pub(crate) fn wants(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let texts = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// Whether the request wants to go on as a WebSocket.
pub(crate) fn is_websocket(version: Version, headers: &HeaderMap) -> bool {
    version == Version::HTTP_11 && wants(headers, &CONNECTION, "upgrade") && wants(headers, &UPGRADE, "websocket")
}

/// Whether it is gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Takes away what is meant for this hop only (RFC 9110, section 7.6.1). A WebSocket's upgrade stays, and so does the
/// wish for trailers, which pass here.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap, is_websocket: bool) {
    if let Entry::Occupied(connection) = headers.entry(CONNECTION) {
        // The field may stand there several times.
        let named: Vec<HeaderValue> = connection.remove_entry_mult().1.collect();
        for name in named.iter().flat_map(|value| value.to_str().unwrap_or_default().split(',')) {
            if let Ok(name) = name.trim().parse::<HeaderName>()
                && name != TE
                && (name != UPGRADE || !is_websocket)
            {
                headers.remove(name);
            }
        }
    }
    if headers.remove(TRANSFER_ENCODING).is_some() {
        // A length beside it meant nothing, and must not come to mean something (RFC 9112, section 6.3).
        headers.remove(CONTENT_LENGTH);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION] {
        headers.remove(name);
    }
    if headers.contains_key(TE) {
        let trailers = wants(headers, &TE, "trailers");
        headers.remove(TE);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    if is_websocket {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    } else {
        headers.remove(UPGRADE);
    }
}

/// Tells the caller how long it took from the request to the head of the upstream's response.
pub(crate) fn tell_time(headers: &mut HeaderMap, took: Duration) {
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    headers.insert(SERVICE_TIME, HeaderValue::from(milliseconds));
}

/// Says what this server calls itself.
pub(crate) fn sign(headers: &mut HeaderMap, server: &ServerName) {
    match server {
        ServerName::Always(name) => {
            headers.insert(SERVER, name.clone());
        }
        ServerName::IfNone(name) => {
            headers.entry(SERVER).or_insert_with(|| name.clone());
        }
        ServerName::Never => {}
    }
}

/// Completes a request's fields: the scheme, and an id if `makes_ids`.
pub(crate) fn complete(headers: &mut HeaderMap, over_tls: bool, makes_ids: bool) {
    // The caller's body is asked for here, and sent on at once.
    if headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        headers.remove(EXPECT);
    }
    headers.remove(INTERNAL);
    if let Entry::Vacant(scheme) = headers.entry(FORWARDED_PROTO) {
        scheme.insert(HeaderValue::from_static(if over_tls { "https" } else { "http" }));
    }
    if makes_ids
        && let Entry::Vacant(id) = headers.entry(REQUEST_ID)
        && let Ok(new) = HeaderValue::from_str(&new_id())
    {
        id.insert(new);
    }
}

/// A random UUID (RFC 9562, version 4).
fn new_id() -> String {
    let bits: u128 = rand::random();
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        bits >> 96,
        bits >> 80 & 0xffff,
        bits >> 64 & 0xffff,
        bits >> 48 & 0xffff,
        bits & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn fields_of_this_hop_go_no_further() {
        let mut all = headers(&[
            ("connection", "close, x-mine, upgrade"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip"),
            ("upgrade", "h2c"),
            ("accept", "*/*"),
        ]);
        strip_hop_by_hop(&mut all, false);
        assert_eq!(all, headers(&[("accept", "*/*")]));
    }

    #[test]
    fn a_websocket_keeps_its_upgrade_and_grpc_its_te() {
        let mut all = headers(&[("connection", "Upgrade"), ("upgrade", "websocket"), ("te", "trailers")]);
        assert!(is_websocket(Version::HTTP_11, &all));
        strip_hop_by_hop(&mut all, true);
        assert_eq!(all, headers(&[("connection", "upgrade"), ("upgrade", "websocket"), ("te", "trailers")]));
    }

    #[test]
    fn nobody_can_claim_a_certificate() {
        let proved = HeaderValue::from_static("URI=spiffe://a/ns/b/sa/c");
        let claims = "URI=spiffe://a/ns/b/sa/admin";
        let both = format!("{claims},URI=spiffe://a/ns/b/sa/c");
        for (rule, certified, clear) in [
            (ClientCertificate::Sanitize, None, None),
            (ClientCertificate::Forward, Some(claims), None),
            (ClientCertificate::Append, Some(both.as_str()), None),
            (ClientCertificate::Replace, Some("URI=spiffe://a/ns/b/sa/c"), None),
            (ClientCertificate::AlwaysForward, Some(claims), Some(claims)),
        ] {
            let shown = |proved: Option<&HeaderValue>| {
                let mut all = headers(&[("x-forwarded-client-cert", claims)]);
                show_certificate(&mut all, rule, proved);
                let shown: Vec<_> = all.get_all(CLIENT_CERTIFICATE).iter().map(|v| v.to_str().expect("text")).collect();
                shown.join("|")
            };
            assert_eq!(shown(Some(&proved)), certified.unwrap_or_default(), "{rule:?}");
            assert_eq!(shown(None), clear.unwrap_or_default(), "{rule:?}");
        }
        let mut all = HeaderMap::new();
        show_certificate(&mut all, ClientCertificate::Append, Some(&proved));
        assert_eq!(all.get_all(CLIENT_CERTIFICATE).iter().collect::<Vec<_>>(), [&proved]);
    }

    #[test]
    fn a_host_is_the_same_with_a_last_dot() {
        for (given, expected) in
            [("a.b.", "a.b"), ("a.b.:80", "a.b:80"), ("a.b", "a.b"), ("[::1]:80", "[::1]:80"), (".", ".")]
        {
            let given: Authority = given.parse().expect("an authority");
            assert_eq!(without_last_dot(given.clone()).as_str(), expected, "{given}");
        }
        let mut all = headers(&[("host", "other")]);
        tell_host(&mut all, &Authority::from_static("a.b"));
        assert_eq!(all, headers(&[("host", "a.b")]));
        let mut none = HeaderMap::new();
        tell_host(&mut none, &Authority::from_static("a.b"));
        assert_eq!(none, HeaderMap::new());
    }

    #[test]
    fn a_scheme_is_the_same_in_any_letters() {
        let asked = |uri: &str, said: Option<&str>| {
            let builder = Request::builder().uri(uri);
            let builder = said.into_iter().fold(builder, |builder, said| builder.header(FORWARDED_PROTO, said));
            scheme(&builder.body(()).expect("a request"), false)
        };
        assert_eq!(asked("HttpS://a/", None), "https");
        assert_eq!(asked("http://a/", Some("HTTPS")), "https");
        assert_eq!(asked("/", Some("gopher")), "http");
    }

    #[test]
    fn two_hosts_are_none() {
        let request = |hosts: &[&str]| {
            let builder = hosts.iter().fold(Request::builder().uri("/"), |builder, host| builder.header(HOST, *host));
            builder.body(()).expect("a request")
        };
        assert_eq!(authority(&request(&["a:80"])).as_ref().map(Authority::as_str), Some("a:80"));
        assert_eq!(authority(&request(&["a", "b"])), None);
        assert_eq!(authority(&request(&["user@a"])), None);
        assert_eq!(authority(&request(&[])), None);
    }

    #[test]
    fn ids_are_uuids_of_version_4() {
        let id = new_id();
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'), "{id}");
        assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{id}");
    }
}
