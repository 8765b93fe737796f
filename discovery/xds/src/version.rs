//! A version for a body: a hash that does not depend on the order of map entries.
//!
//! Envoy's generated messages keep maps in hash maps, so equal messages encode their map entries in a random order. A
//! plain hash would change at every translation and push everything again. Without a schema, a map is recognised by the
//! shape of its entries: neighbours of one tag, each exactly {1: printable text, 2: bytes}. Such neighbours are hashed
//! as a set; everything else is hashed in order.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

/// Deeper nesting than this is hashed as plain bytes.
const MAX_DEPTH: u8 = 48;

/// One field of an encoded message: its tag with wire type, and its payload.
struct Field<'a> {
    tag: u64,
    payload: &'a [u8],
}

/// Walks the fields of an encoded message; `None` inside says that it is no message.
struct Fields<'a>(&'a [u8]);

/// The version of an encoded message: 16 hexadecimal digits.
///
/// SipHash with fixed keys; a change of the algorithm between releases costs one full push, nothing else.
pub(crate) fn of(body: &[u8]) -> Arc<str> {
    format!("{:016x}", digest(body, 0)).into()
}

fn digest(bytes: &[u8], depth: u8) -> u64 {
    message(bytes, depth).unwrap_or_else(|| plain(bytes))
}

fn plain(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// The digest of `bytes` read as a message, if they are one.
fn message(bytes: &[u8], depth: u8) -> Option<u64> {
    if depth == MAX_DEPTH || bytes.is_empty() {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    let mut set: Option<(u64, u64)> = None; // the tag of a run of map entries, and the sum of their digests
    for field in Fields(bytes) {
        let Field { tag, payload } = field?;
        let length_delimited = tag & 7 == 2;
        let digest = if length_delimited { digest(payload, depth + 1) } else { plain(payload) };
        let is_entry = length_delimited && is_map_entry(payload);
        match &mut set {
            Some((of, sum)) if is_entry && *of == tag => *sum = sum.wrapping_add(digest),
            _ => {
                flush(&mut hasher, set.take());
                set = is_entry.then_some((tag, digest));
                if !is_entry {
                    flush(&mut hasher, Some((tag, digest)));
                }
            }
        }
    }
    flush(&mut hasher, set);
    Some(hasher.finish())
}

fn flush(hasher: &mut DefaultHasher, run: Option<(u64, u64)>) {
    if let Some((tag, digest)) = run {
        hasher.write_u64(tag);
        hasher.write_u64(digest);
    }
}

fn is_map_entry(bytes: &[u8]) -> bool {
    const KEY: u64 = 1 << 3 | 2;
    const VALUE: u64 = 2 << 3 | 2;
    let mut fields = Fields(bytes);
    let (Some(Some(key)), Some(Some(value)), None) = (fields.next(), fields.next(), fields.next()) else {
        return false;
    };
    let printable = |b: &u8| matches!(b, 0x20..=0x7e);
    key.tag == KEY && value.tag == VALUE && !key.payload.is_empty() && key.payload.iter().all(printable)
}

// === impl Fields ===

impl<'a> Iterator for Fields<'a> {
    type Item = Option<Field<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| {
            let field = self.field();
            if field.is_none() {
                self.0 = &[];
            }
            field
        })
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<Field<'a>> {
        let tag = self.varint()?;
        let length = match tag & 7 {
            0 => self.0.iter().position(|b| b & 0x80 == 0)? + 1,
            1 => 8,
            2 => usize::try_from(self.varint()?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (payload, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        (tag >> 3 != 0).then_some(Field { tag, payload })
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for (index, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.0 = &self.0[index + 1..];
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::envoy::envoy::config::core::v3::Metadata;
    use api::envoy::envoy::config::route::v3::{Route, RouteMatch, VirtualHost, route_match::PathSpecifier};
    use api::envoy::google::protobuf::{Struct, Value, value::Kind};
    use prost::Message;

    fn metadata(value: &str) -> Vec<u8> {
        let inner = (0..8)
            .map(|n| (format!("key{n}"), Value { kind: Some(Kind::StringValue(format!("{value}{n}"))) }))
            .collect::<std::collections::HashMap<_, _>>();
        let filter_metadata =
            (0..8).map(|n| (format!("filter{n}"), Struct { fields: inner.clone().into_iter().collect() })).collect();
        Metadata { filter_metadata, ..Metadata::default() }.encode_to_vec()
    }

    #[test]
    fn the_order_of_map_entries_does_not_matter() {
        let bodies: Vec<_> = (0..20).map(|_| metadata("a")).collect();
        assert!(bodies.iter().any(|body| *body != bodies[0]), "hash maps are random");
        assert!(bodies.iter().all(|body| of(body) == of(&bodies[0])));
        assert_ne!(of(&bodies[0]), of(&metadata("b")));
    }

    #[test]
    fn the_order_of_routes_matters() {
        let route = |prefix: &str| Route {
            r#match: Some(RouteMatch {
                path_specifier: Some(PathSpecifier::Prefix(prefix.into())),
                ..RouteMatch::default()
            }),
            ..Route::default()
        };
        let host = |prefixes: [&str; 2]| {
            VirtualHost { name: "h".into(), routes: prefixes.map(route).to_vec(), ..VirtualHost::default() }
                .encode_to_vec()
        };
        assert_ne!(of(&host(["/a", "/b"])), of(&host(["/b", "/a"])));
    }

    #[test]
    fn bytes_that_are_no_message_have_a_version_too() {
        let long = vec![0x0a; 100_000];
        for body in [&b""[..], b"\x00", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x0a\xff", &long] {
            assert_eq!(of(body).len(), 16);
        }
        assert_ne!(of(b"\x0a\x01a"), of(b"\x0a\x01b"));
    }
}
