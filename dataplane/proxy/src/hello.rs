//! Reads the server name and the protocols out of a TLS ClientHello (RFC 8446, section 4.1.2; RFC 6066; RFC 7301).
//!
//! Only what routing needs is read; TLS itself is rustls's. A hello that breaks a rule names nothing.

/// What a hello asks for. What is absent or not well-formed is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ClientHello {
    /// The server name, in lower case.
    pub(crate) server_name: Option<String>,
    /// The protocols of ALPN, in the client's order.
    pub(crate) alpn: Vec<String>,
}

/// How far a look at the first bytes came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    /// More bytes are needed.
    Partial,
    /// It is not TLS.
    Other,
    /// It is TLS.
    Whole(ClientHello),
}

/// Walks over length-prefixed bytes.
struct Reader<'a>(&'a [u8]);

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u64 = 0;
const PROTOCOLS: u64 = 16;

/// Looks at the first bytes of a connection; a hello may be spread over many records. `limit` bounds all its bytes.
pub(crate) fn read(bytes: &[u8], limit: usize) -> Hello {
    match bytes {
        [] | [HANDSHAKE] => return Hello::Partial,
        [HANDSHAKE, 3, ..] => {}
        _ => return Hello::Other,
    }
    let Some((message, whole)) = handshake(bytes) else { return Hello::Whole(ClientHello::default()) };
    let needed = match message[..] {
        [CLIENT_HELLO, a, b, c, ..] => 4 + u32::from_be_bytes([0, a, b, c]) as usize,
        [] | [CLIENT_HELLO, ..] => 4,
        _ => return Hello::Whole(ClientHello::default()),
    };
    if needed > limit || bytes.len() > limit {
        return Hello::Whole(ClientHello::default());
    }
    if message.len() < needed {
        return if whole { Hello::Whole(ClientHello::default()) } else { Hello::Partial };
    }
    Hello::Whole(parse(&message[4..needed]).unwrap_or_default())
}

/// The handshake bytes of the records so far, and whether something other than a handshake follows them. None if a
/// record breaks the rules.
fn handshake(mut bytes: &[u8]) -> Option<(Vec<u8>, bool)> {
    let mut message = Vec::with_capacity(bytes.len());
    while let [kind, major, _, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if *kind != HANDSHAKE {
            return Some((message, true));
        }
        if *major != 3 || length == 0 || length > (1 << 14) {
            return None;
        }
        let here = length.min(rest.len());
        message.extend_from_slice(&rest[..here]);
        bytes = &rest[here..];
    }
    Some((message, false))
}

fn parse(body: &[u8]) -> Option<ClientHello> {
    let mut reader = Reader(body);
    reader.take(2 + 32)?;
    reader.block(1)?;
    reader.block(2)?;
    reader.block(1)?;
    let mut hello = ClientHello::default();
    if reader.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(reader.block(2)?);
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let body = extensions.block(2)?;
        match kind {
            SERVER_NAME => hello.server_name = server_name(body),
            PROTOCOLS => hello.alpn = protocols(body).unwrap_or_default(),
            _ => {}
        }
    }
    Some(hello)
}

/// The one host name of the list. Two names, or one that is no DNS name, are none.
fn server_name(body: &[u8]) -> Option<String> {
    let mut names = Reader(Reader(body).block(2)?);
    (names.number(1)? == 0).then_some(())?;
    let name = names.block(2)?;
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let labels = || name.split(|byte| *byte == b'.');
    let valid = names.0.is_empty()
        && (1..=253).contains(&name.len())
        && name.iter().all(legal)
        && labels().all(|label| (1..=63).contains(&label.len()))
        && !labels().next_back().is_some_and(|last| last.iter().all(u8::is_ascii_digit));
    valid.then(|| String::from_utf8_lossy(name).to_ascii_lowercase())
}

fn protocols(body: &[u8]) -> Option<Vec<String>> {
    let mut list = Reader(Reader(body).block(2)?);
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let name = list.block(1)?;
        protocols.push(String::from_utf8_lossy(name).into_owned());
    }
    Some(protocols)
}

// === impl Reader ===

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    /// A big-endian number of so many bytes.
    fn number(&mut self, bytes: usize) -> Option<u64> {
        Some(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Bytes behind their own length, which has so many bytes.
    fn block(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number(bytes)?).ok()?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
    use std::sync::Arc;

    fn hello(name: &str, alpn: &[&str]) -> Vec<u8> {
        let mut config = rustls::ClientConfig::builder_with_provider(identity::provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).expect("a valid name");
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("a vector takes all");
        bytes
    }

    /// The same hello in records of `size` bytes each.
    fn split(bytes: &[u8], size: usize) -> Vec<u8> {
        let records = bytes[5..].chunks(size);
        records.flat_map(|part| [&[HANDSHAKE, 3, 1, 0, part.len() as u8], part].concat()).collect()
    }

    #[test]
    fn names_and_protocols_are_read_however_the_hello_is_split() {
        let bytes = hello("outbound_.9080_._.Reviews.default.svc.cluster.local", &["istio-h2", "h2"]);
        let expected = ClientHello {
            server_name: Some("outbound_.9080_._.reviews.default.svc.cluster.local".to_owned()),
            alpn: vec!["istio-h2".to_owned(), "h2".to_owned()],
        };
        for bytes in [bytes.clone(), split(&bytes, 1), split(&bytes, 100)] {
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end], 1 << 16), Hello::Partial, "{end} of {}", bytes.len());
            }
            assert_eq!(read(&bytes, 1 << 16), Hello::Whole(expected.clone()));
        }
    }

    #[test]
    fn what_is_not_tls_is_told_from_the_first_byte() {
        for bytes in [&b"GET / HTTP/1.1"[..], b"\x00", b"\x16\x02", b"\x80\x2e\x01\x03\x01"] {
            assert_eq!(read(bytes, 1 << 16), Hello::Other, "{bytes:?}");
        }
    }

    #[test]
    fn a_broken_hello_names_nothing_and_ends_the_wait() {
        let nothing = Hello::Whole(ClientHello::default());
        let whole = hello("a.example", &[]);
        let mut huge = whole.clone();
        huge[6] = 0xff;
        let mut server = whole.clone();
        server[5] = 2;
        let mut empty = whole.clone();
        (empty[3], empty[4]) = (0, 0);
        for bytes in [huge, server, empty] {
            assert_eq!(read(&bytes, 1 << 16), nothing);
        }
        assert_eq!(read(&whole, 16), nothing);
        let address = hello("127.0.0.1", &[]);
        assert_eq!(read(&address, 1 << 16), nothing);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let bytes = hello("a.example", &["h2", "http/1.1"]);
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                let _ = read(&changed, 1 << 16);
            }
        }
    }
}
