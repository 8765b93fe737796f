//! What a request must be before it is routed; what it is refused with else, as Envoy does.

use crate::headers::wants;
use http::header::{CONNECTION, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};

/// Fields that `Connection` may not take away: they say where a request comes from and where it goes.
const KEPT: [&str; 4] = ["host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];

/// The status and the words with which `request` is refused; none if it may go on. At most `fields` header fields.
pub(crate) fn refusal<B>(request: &Request<B>, fields: usize) -> Option<(StatusCode, &'static str)> {
    let (version, headers) = (request.version(), request.headers());
    if version < Version::HTTP_11 {
        return Some((StatusCode::UPGRADE_REQUIRED, "Upgrade Required"));
    }
    if headers.len() > fields {
        return Some((StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Request Header Fields Too Large"));
    }
    if version == Version::HTTP_11 && has_other_coding(headers) {
        return Some((StatusCode::NOT_IMPLEMENTED, "Not Implemented"));
    }
    if request.method() == Method::CONNECT {
        return Some((StatusCode::NOT_FOUND, ""));
    }
    if !is_target(request) || takes_away(headers) || !is_spelled(request.method()) {
        return Some((StatusCode::BAD_REQUEST, "Bad Request"));
    }
    let is_known = wants(headers, &UPGRADE, "websocket") || wants(headers, &UPGRADE, "h2c");
    (asks_upgrade(request) && wants(headers, &CONNECTION, "upgrade") && !is_known)
        .then_some((StatusCode::FORBIDDEN, ""))
}

/// Whether the connection must end unless the protocol is switched: nobody knows what the caller sends after its request.
/// To go on as HTTP/2 is never agreed to, and callers know that.
pub(crate) fn asks_upgrade<B>(request: &Request<B>) -> bool {
    let is_other = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"h2c");
    request.version() == Version::HTTP_11 && request.headers().get_all(UPGRADE).iter().any(is_other)
}

/// Whether the body is coded in another way than in chunks alone.
fn has_other_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    codings.next().is_some_and(|first| !is_chunked(first) || codings.next().is_some())
}

/// Whether the target is a path, a whole URI of HTTP, or `*` where that means something (RFC 9112, section 3.2). A path
/// with a NUL in it is cut there by some who read it.
fn is_target<B>(request: &Request<B>) -> bool {
    let uri = request.uri();
    let is_known = match uri.scheme_str() {
        None => uri.authority().is_none(),
        Some(scheme) => {
            let is_http = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
            is_http && uri.authority().is_some()
        }
    };
    let path = uri.path();
    let is_path = path.starts_with('/') || path.is_empty() || (path == "*" && request.method() == Method::OPTIONS);
    is_known && is_path && !path.contains("%00")
}

/// Whether the method is none of the known ones in other letters: methods are told apart by case (RFC 9110, section 9.1),
/// and there are servers that do not.
fn is_spelled(method: &Method) -> bool {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    let text = method.as_str();
    !text.bytes().any(|byte| byte.is_ascii_lowercase()) || !KNOWN.iter().any(|known| text.eq_ignore_ascii_case(known))
}

fn takes_away(headers: &HeaderMap) -> bool {
    let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let mut named = named.flat_map(|value| value.split(',')).map(str::trim);
    named.any(|name| name.starts_with(':') || KEPT.iter().any(|kept| name.eq_ignore_ascii_case(kept)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: &str, target: &str, fields: &[(&str, &str)]) -> Option<u16> {
        let request = Request::builder().method(method).uri(target);
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        refusal(&request.body(()).expect("a request"), 100).map(|(status, _)| status.as_u16())
    }

    #[test]
    fn targets() {
        for (method, target, expected) in [
            ("GET", "/", None),
            ("GET", "http://a/b", None),
            ("GET", "HttpS://a/b", None),
            ("get", "/", Some(400)),
            ("Post", "/", Some(400)),
            ("PROPFIND", "/", None),
            ("m-search", "/", None),
            ("OPTIONS", "*", None),
            ("GET", "*", Some(400)),
            ("GET", "a:80", Some(400)),
            ("GET", "ftp://a/b", Some(400)),
            ("GET", "/a%00", Some(400)),
            ("CONNECT", "a:80", Some(404)),
        ] {
            assert_eq!(refused(method, target, &[]), expected, "{method} {target}");
        }
    }

    #[test]
    fn fields() {
        for (fields, expected) in [
            (&[("transfer-encoding", "Chunked")][..], None),
            (&[("transfer-encoding", "gzip, chunked")], Some(501)),
            (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], Some(501)),
            (&[("connection", "close, x-mine")], None),
            (&[("connection", "close, Host")], Some(400)),
            (&[("connection", "upgrade"), ("upgrade", "websocket")], None),
            (&[("connection", "upgrade"), ("upgrade", "h2c")], None),
            (&[("connection", "upgrade"), ("upgrade", "foo")], Some(403)),
            (&[("upgrade", "foo")], None),
        ] {
            assert_eq!(refused("GET", "/", fields), expected, "{fields:?}");
        }
        let many = vec![("x-a", "1"); 101];
        assert_eq!(refused("GET", "/", &many), Some(431));
    }
}
