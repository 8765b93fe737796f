//! Finds out what a connection carries, without taking a byte from it.
//!
//! ```text
//! first bytes -> TLS hello (server name, ALPN) | HTTP/2 preface | HTTP/1 request line | bytes
//! ```

use crate::hello::{self, ClientHello, Hello};
use bytes::BytesMut;
use std::io;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What a connection was found to carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// TLS.
    Tls(ClientHello),
    /// A request line of HTTP/1.
    Http1,
    /// The preface of HTTP/2.
    Http2,
    /// Anything else, or nothing in time.
    Bytes,
}

/// How long and how far to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// How long.
    pub(crate) wait: Duration,
    /// The greatest hello, in bytes.
    pub(crate) limit: usize,
}

/// How HTTP/2 begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The greatest request line that is waited for.
const REQUEST_LINE: usize = 8192;

/// Reads the first bytes of `tcp` into `buffer` until it is clear what they are. What is unclear at the end of the
/// wait counts as bytes; a client that closes early likewise.
pub(crate) async fn detect(tcp: &mut TcpStream, buffer: &mut BytesMut, look: Look) -> io::Result<Seen> {
    let reading = async {
        loop {
            if tcp.read_buf(buffer).await? == 0 {
                return Ok(Seen::Bytes);
            }
            if let Some(seen) = decide(buffer, look) {
                return Ok(seen);
            }
        }
    };
    timeout(look.wait, reading).await.unwrap_or(Ok(Seen::Bytes))
}

/// What `bytes` are; none if more are needed to tell.
pub(crate) fn decide(bytes: &[u8], look: Look) -> Option<Seen> {
    match hello::read(bytes, look.limit) {
        Hello::Partial => None,
        Hello::Whole(hello) => Some(Seen::Tls(hello)),
        Hello::Other => http(bytes),
    }
}

fn http(bytes: &[u8]) -> Option<Seen> {
    let compared = bytes.len().min(PREFACE.len());
    if bytes[..compared] == PREFACE[..compared] {
        return (compared == PREFACE.len()).then_some(Seen::Http2);
    }
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        let line = request_line(bytes, false);
        return if line && bytes.len() <= REQUEST_LINE { None } else { Some(Seen::Bytes) };
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    Some(if request_line(line, true) { Seen::Http1 } else { Seen::Bytes })
}

/// Whether `line` is, or may become, `METHOD SP target SP HTTP/1.x` (RFC 9112, section 3).
fn request_line(line: &[u8], whole: bool) -> bool {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let method = parts.next().unwrap_or_default();
    let is_token = |byte: &u8| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_');
    if !method.iter().all(is_token) || method.len() > 32 || (method.is_empty() && !line.is_empty()) {
        return false;
    }
    let (target, version) = (parts.next(), parts.next());
    if target.is_some_and(|target| target.iter().any(u8::is_ascii_control)) {
        return false;
    }
    match version {
        Some(version) if whole => matches!(version, b"HTTP/1.1" | b"HTTP/1.0"),
        Some(version) => b"HTTP/1.".starts_with(&version[..version.len().min(7)]),
        None => !whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Look = Look { wait: Duration::from_secs(5), limit: 1 << 16 };

    /// What each prefix is found to be; what was found must not change with more bytes.
    fn found(bytes: &[u8]) -> Option<Seen> {
        (0..=bytes.len()).find_map(|end| decide(&bytes[..end], LOOK))
    }

    #[test]
    fn http_is_found_byte_by_byte() {
        assert_eq!(found(b"GET / HTTP/1.1\r\n"), Some(Seen::Http1));
        assert_eq!(found(b"PROPFIND /a?b=%20 HTTP/1.0\r\n"), Some(Seen::Http1));
        assert_eq!(found(b"PATCH http://a/ HTTP/1.1\n"), Some(Seen::Http1));
        assert_eq!(found(PREFACE), Some(Seen::Http2));
        assert_eq!(found(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"), None);
        assert_eq!(found(b"GET / HTT"), None);
    }

    #[test]
    fn everything_else_is_bytes_at_once() {
        for bytes in [
            &b"\x00"[..],
            b" GET / HTTP/1.1\r\n",
            b"hello\n",
            b"GET /\r\n",
            b"GET / HTTP/2.0\r\n",
            b"GET / FTP/1.1\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"PRI * HTTP/2.0\r\n\r\nXX",
        ] {
            assert_eq!(found(bytes), Some(Seen::Bytes), "{bytes:?}");
        }
    }

    #[test]
    fn a_request_line_without_end_is_given_up() {
        let long = [b"GET /".as_slice(), &vec![b'a'; REQUEST_LINE]].concat();
        assert_eq!(found(&long), Some(Seen::Bytes));
    }
}
