//! How HTTP/1 messages follow each other on a connection, read beside the parser and line by line.
//!
//! ```text
//! between -> head -> body (so many bytes | chunk sizes, chunks, trailers) -> between
//!                 -> open (HTTP/2, an upgrade: nobody knows where the next head would be)
//! ```

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Before a head, or in its first line.
    Between,
    /// In the fields of a head.
    Head,
    /// In a body, so many bytes before its end.
    Body(u64),
    /// In the line that says how great a chunk is.
    Size,
    /// In a chunk, so many bytes before its end.
    Chunk(u64),
    /// In the fields after a body.
    Trailers,
    /// Anything may follow.
    Open,
}

/// Follows a connection, and tells where it stops being clear what is meant.
#[derive(Debug)]
pub(crate) struct Framing {
    place: Place,
    head: Head,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// Whether there is more of that line than was kept.
    is_long: bool,
}

/// What of a head says how long its body is.
#[derive(Debug, Default)]
struct Head {
    length: Option<u64>,
    is_chunked: bool,
    /// What follows is not for this reading.
    opens: bool,
}

/// A head that can be read in two ways.
#[derive(Debug, PartialEq, Eq)]
struct Ambiguous;

/// As much is kept of a line: enough for each of those that are read here.
const LINE: usize = 256;

// === impl Framing ===

impl Framing {
    pub(crate) fn new() -> Self {
        Self { place: Place::Between, head: Head::default(), line: Vec::new(), is_long: false }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.place == Place::Open
    }

    /// Whether a head has begun and has not ended.
    pub(crate) fn is_in_head(&self) -> bool {
        self.place == Place::Head || (self.place == Place::Between && !self.line.is_empty())
    }

    /// Reads on. If a head turns out to be ambiguous: how many of `bytes` come before what makes it so.
    ///
    /// What is ambiguous (RFC 9112, sections 2.2, 3.2 and 6.3): two lengths, or one in two ways; a line that ends with
    /// LF alone; a target with a fragment, which readers cut at different places.
    pub(crate) fn follow(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.place {
                Place::Open => return Ok(()),
                Place::Body(left) | Place::Chunk(left) => {
                    let taken = left.min(rest.len() as u64);
                    at += usize::try_from(taken).unwrap_or(rest.len());
                    self.pass(left - taken);
                }
                Place::Between | Place::Head | Place::Size | Place::Trailers => {
                    let end = memchr::memchr(b'\n', rest);
                    let piece = &rest[..end.unwrap_or(rest.len())];
                    if self.place == Place::Between && memchr::memchr(b'#', piece).is_some() {
                        return Err(at);
                    }
                    if end.is_none() {
                        self.keep(piece);
                        return Ok(());
                    }
                    self.line(piece).map_err(|Ambiguous| at)?;
                    at += piece.len() + 1;
                }
            }
        }
        Ok(())
    }

    fn pass(&mut self, left: u64) {
        self.place = match self.place {
            Place::Body(_) if left == 0 => Place::Between,
            Place::Body(_) => Place::Body(left),
            _ if left == 0 => Place::Size,
            _ => Place::Chunk(left),
        };
    }

    /// Keeps the beginning of a line, and always its last byte.
    fn keep(&mut self, piece: &[u8]) {
        let room = LINE.saturating_sub(self.line.len());
        self.line.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            self.is_long = true;
            self.line.pop();
            self.line.extend(piece.last());
        }
    }

    /// Takes a line of which `piece` is the end, without its LF.
    fn line(&mut self, piece: &[u8]) -> Result<(), Ambiguous> {
        if self.line.is_empty() {
            return self.whole(piece, piece.len() > LINE);
        }
        self.keep(piece);
        let (line, is_long) = (std::mem::take(&mut self.line), std::mem::take(&mut self.is_long));
        self.whole(&line, is_long)
    }

    fn whole(&mut self, line: &[u8], is_long: bool) -> Result<(), Ambiguous> {
        match self.place {
            Place::Between => self.first(line.strip_suffix(b"\r").ok_or(Ambiguous)?),
            Place::Head => self.field(line.strip_suffix(b"\r").ok_or(Ambiguous)?, is_long)?,
            Place::Size => self.place = chunk(line),
            _ if matches!(line, b"" | b"\r") => self.place = Place::Between,
            _ => {}
        }
        Ok(())
    }

    /// A request's first line, or an empty one before it.
    fn first(&mut self, line: &[u8]) {
        if line.starts_with(b"PRI * HTTP/2.0") {
            self.place = Place::Open;
        } else if !line.is_empty() {
            self.place = Place::Head;
            self.head = Head { opens: line.starts_with(b"CONNECT "), ..Head::default() };
        }
    }

    fn field(&mut self, line: &[u8], is_long: bool) -> Result<(), Ambiguous> {
        if line.is_empty() {
            self.place = match &self.head {
                Head { opens: true, .. } => Place::Open,
                Head { is_chunked: true, .. } => Place::Size,
                Head { length: Some(length @ 1..), .. } => Place::Body(*length),
                Head { .. } => Place::Between,
            };
            return Ok(());
        }
        let Some(colon) = line.iter().take(LINE).position(|byte| *byte == b':') else { return Ok(()) };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let is = |wanted: &[u8]| name.len() == wanted.len() && name.eq_ignore_ascii_case(wanted);
        let is_read = is(b"content-length") || is(b"transfer-encoding") || is(b"upgrade");
        if is_read && is_long {
            return Err(Ambiguous);
        }
        let head = &mut self.head;
        if is(b"content-length") {
            let length = digits(value).filter(|_| head.length.is_none() && !head.is_chunked);
            head.length = Some(length.ok_or(Ambiguous)?);
        } else if is(b"transfer-encoding") {
            if head.length.is_some() || head.is_chunked {
                return Err(Ambiguous);
            }
            head.is_chunked = true;
            // Other codings are refused by whoever reads the request.
            head.opens |= !value.eq_ignore_ascii_case(b"chunked");
        } else if is(b"upgrade") {
            // To go on as HTTP/2 is never agreed to.
            head.opens |= !value.eq_ignore_ascii_case(b"h2c");
        }
        Ok(())
    }
}

/// Where a connection is after the line of a chunk's size; what is none is found by the parser too.
fn chunk(line: &[u8]) -> Place {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let size = std::str::from_utf8(&line[..end]).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
    match size {
        Some(0) => Place::Trailers,
        // The CR and LF after it belong to it.
        Some(size) => size.checked_add(2).map_or(Place::Open, Place::Chunk),
        None => Place::Open,
    }
}

/// A length of plain digits.
fn digits(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the connection is after `text`, the same however it is cut; none if it is ambiguous.
    fn after(text: &str) -> Option<Place> {
        let follow = |size: usize| {
            let mut framing = Framing::new();
            let all = text.as_bytes().chunks(size).all(|piece| framing.follow(piece).is_ok());
            all.then_some(framing.place)
        };
        let whole = follow(text.len());
        for size in 1..text.len().min(40) {
            assert_eq!(follow(size), whole, "{text:?} in pieces of {size}");
        }
        whole
    }

    fn head(fields: &str) -> Option<Place> {
        after(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    }

    #[test]
    fn heads_and_bodies_are_told_apart() {
        assert_eq!(after("GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET"), Some(Place::Between));
        assert_eq!(head("Content-Length: 12\r\n"), Some(Place::Body(12)));
        assert_eq!(head("content-length:0\r\n"), Some(Place::Between));
        assert_eq!(head("Transfer-Encoding: Chunked\r\n"), Some(Place::Size));
        let chunked = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(after(&format!("{chunked}5;a=b\r\nhel")), Some(Place::Chunk(4)));
        assert_eq!(after(&format!("{chunked}5\r\nhello\r\n0\r\nx: 1\r\n")), Some(Place::Trailers));
        assert_eq!(after(&format!("{chunked}5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n")), Some(Place::Head));
        assert_eq!(after("POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcGET / HTTP/1.1\r\n"), Some(Place::Head));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_found() {
        for fields in [
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 2\r\nContent-Length: 2\r\n",
            "Content-Length: 2, 2\r\n",
            "Content-Length: +2\r\n",
            "Content-Length: -2\r\n",
            "Content-Length: 0x2\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999999\r\n",
            "x: 1\n",
            "x: 1\ny: 2\r\n",
        ] {
            assert_eq!(head(fields), None, "{fields:?}");
        }
        assert_eq!(after("GET / HTTP/1.1\nHost: a\n\n"), None);
        assert_eq!(after("GET /a#b HTTP/1.1\r\n"), None);
    }

    #[test]
    fn what_follows_an_upgrade_is_not_read() {
        assert_eq!(head("Upgrade: websocket\r\n"), Some(Place::Open));
        assert_eq!(head("Upgrade: h2c\r\n"), Some(Place::Between));
        assert_eq!(head("Transfer-Encoding: gzip, chunked\r\n"), Some(Place::Open));
        assert_eq!(after("CONNECT a:80 HTTP/1.1\r\n\r\n"), Some(Place::Open));
        assert_eq!(after("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Some(Place::Open));
    }

    #[test]
    fn all_before_the_ambiguity_counts() {
        let mut framing = Framing::new();
        let first = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let second = "POST / HTTP/1.1\r\nContent-Length: 1\r\n";
        let all = format!("{first}{second}Content-Length: 1\r\n\r\na");
        assert_eq!(framing.follow(all.as_bytes()), Err(first.len() + second.len()));
    }
}
