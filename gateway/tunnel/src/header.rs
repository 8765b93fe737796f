//! The first bytes of every stream: a two-byte length, and a `StreamHeader` message.
//!
//! ```text
//! u16 big-endian ─ isthmus.v1.StreamHeader ─ payload, in the same packet if it fits
//! ```
//!
//! Targets are keys of the registry and never addresses.

use api::isthmus::StreamHeader as Wire;
use model::{ClusterId, GroupId, Host};
use prost::Message;

/// The only version there is.
pub const VERSION: u32 = 1;
/// The longest header that is read, in bytes.
pub const LIMIT: usize = 4096;
/// How many gateways a stream may pass beyond the first.
pub const MAX_HOPS: u32 = 1;

/// Where a stream wants to go, and where it has been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamHeader {
    /// The cluster it comes from, for logs; whose it really is, the connection's certificate says.
    pub source: ClusterId,
    /// The service's host.
    pub host: Host,
    /// The service's port.
    pub port: u16,
    /// The group of its endpoints; any if absent.
    pub group: Option<GroupId>,
    /// How many gateways forwarded it before.
    pub hops: u32,
    /// The clusters it has passed.
    pub visited: Vec<ClusterId>,
}

/// Why a header was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The length is 0, or beyond the limit.
    #[error("header of {0} bytes: 1 to {LIMIT} are accepted")]
    Length(usize),
    /// The bytes are not such a message, or a name in it is not one.
    #[error("header: {0}")]
    Malformed(String),
    /// A version that is not ours.
    #[error("header version {0}: {VERSION} is accepted")]
    Version(u32),
}

// === impl StreamHeader ===

impl StreamHeader {
    /// The length and the message, ready to be sent.
    ///
    /// # Errors
    /// If it would be longer than a header may be.
    pub fn encode(&self) -> Result<Vec<u8>, HeaderError> {
        let wire = Wire {
            version: VERSION,
            source_cluster: self.source.to_string(),
            host: self.host.to_string(),
            port: u32::from(self.port),
            group: self.group.as_ref().map(ToString::to_string).unwrap_or_default(),
            hops: self.hops,
            visited: self.visited.iter().map(ToString::to_string).collect(),
        };
        let body = wire.encode_to_vec();
        let length = u16::try_from(body.len()).ok().filter(|length| usize::from(*length) <= LIMIT);
        let length = length.ok_or(HeaderError::Length(body.len()))?;
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(body);
        Ok(bytes)
    }

    /// The length that the first two bytes announce.
    ///
    /// # Errors
    /// If no header has this length.
    pub fn length(prefix: [u8; 2]) -> Result<usize, HeaderError> {
        match usize::from(u16::from_be_bytes(prefix)) {
            length @ 1..=LIMIT => Ok(length),
            length => Err(HeaderError::Length(length)),
        }
    }

    /// Parses the message that follows the length.
    ///
    /// # Errors
    /// If it is not a header of this version.
    pub fn decode(body: &[u8]) -> Result<Self, HeaderError> {
        let malformed = |error: &dyn std::fmt::Display| HeaderError::Malformed(error.to_string());
        let wire = Wire::decode(body).map_err(|error| malformed(&error))?;
        if wire.version != VERSION {
            return Err(HeaderError::Version(wire.version));
        }
        let port = u16::try_from(wire.port).ok().filter(|port| *port != 0);
        let group = match wire.group.as_str() {
            "" => None,
            id => Some(id.parse().map_err(|error| malformed(&error))?),
        };
        let visited = wire.visited.iter().map(|name| name.parse()).collect::<Result<_, _>>();
        Ok(Self {
            source: wire.source_cluster.parse().map_err(|error| malformed(&error))?,
            host: wire.host.parse().map_err(|error| malformed(&error))?,
            port: port.ok_or_else(|| malformed(&format!("port {}: 1 to 65535 is accepted", wire.port)))?,
            group,
            hops: wire.hops,
            visited: visited.map_err(|error| malformed(&error))?,
        })
    }

    /// Whether the stream has been at `own` before, or has passed as many gateways as it may.
    pub fn loops(&self, own: &ClusterId) -> bool {
        self.hops >= MAX_HOPS || self.visited.contains(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> StreamHeader {
        StreamHeader {
            source: "west".parse().expect("valid"),
            host: "reviews.bookinfo.svc.cluster.local".parse().expect("valid"),
            port: 9080,
            group: Some("v1-00000000".parse().expect("valid")),
            hops: 0,
            visited: vec!["west".parse().expect("valid")],
        }
    }

    #[test]
    fn a_header_survives_the_round_trip() {
        let bytes = header().encode().expect("short enough");
        let length = StreamHeader::length([bytes[0], bytes[1]]).expect("a length");
        assert_eq!(length, bytes.len() - 2);
        assert_eq!(StreamHeader::decode(&bytes[2..]), Ok(header()));
    }

    #[test]
    fn what_is_not_a_header_is_refused() {
        assert_eq!(StreamHeader::length([0, 0]), Err(HeaderError::Length(0)));
        assert_eq!(StreamHeader::length([0xff, 0xff]), Err(HeaderError::Length(65535)));
        let encoded = header().encode().expect("short enough");
        for cut in 1..encoded.len() - 2 {
            assert_ne!(StreamHeader::decode(&encoded[2..2 + cut]), Ok(header()), "cut after {cut}");
        }
        let newer = Wire { version: 2, ..Wire::default() }.encode_to_vec();
        assert_eq!(StreamHeader::decode(&newer), Err(HeaderError::Version(2)));
        for (host, port, group) in
            [("", 1, ""), ("a b", 1, ""), ("a/../b", 1, ""), ("a.b", 0, ""), ("a.b", 65536, ""), ("a.b", 1, "A")]
        {
            let source_cluster = "west".to_owned();
            let (host, group) = (host.to_owned(), group.to_owned());
            let wire = Wire { version: 1, source_cluster, host, port, group, ..Wire::default() };
            let refused = StreamHeader::decode(&wire.encode_to_vec());
            assert!(matches!(refused, Err(HeaderError::Malformed(_))), "{wire:?}");
        }
    }

    #[test]
    fn a_loop_is_seen() {
        assert!(!header().loops(&"east".parse().expect("valid")));
        assert!(header().loops(&"west".parse().expect("valid")));
        assert!(StreamHeader { hops: 1, ..header() }.loops(&"east".parse().expect("valid")));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = StreamHeader::decode(&bytes);
        }
    }
}
