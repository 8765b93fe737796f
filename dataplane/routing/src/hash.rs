//! What makes requests alike, so that they go to the same endpoint.

use crate::Asked;
use crate::condition::{joined, parameter};
use crate::decode::duration;
use api::envoy::envoy::config::route::v3::route_action as proto;
use http::header::COOKIE;
use http::{HeaderMap, HeaderName};
use proto::hash_policy::PolicySpecifier;
use std::net::IpAddr;
use std::time::Duration;
use twox_hash::XxHash64;

/// What requests are alike in.
#[derive(Debug, Clone)]
pub(crate) enum Key {
    Field(HeaderName),
    Cookie(Cookie),
    Source,
    Parameter(Box<str>),
}

/// A cookie by which requests are alike.
#[derive(Debug, Clone)]
pub(crate) struct Cookie {
    name: Box<str>,
    path: Box<str>,
    /// If it is made where the caller has none: for how long; 0 is as long as the session.
    ttl: Option<Duration>,
    attributes: Vec<(Box<str>, Box<str>)>,
}

/// A request's hash, and the cookie that the caller gets so that its next ones are alike.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alike {
    /// The hash; none if the request has nothing to be alike in.
    pub hash: Option<u64>,
    /// A `Set-Cookie` for the answer.
    pub cookie: Option<String>,
}

/// The hash of `bytes`: xxHash64, as Envoy's.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

/// What connections from `source` are alike in.
pub fn source_hash(source: IpAddr) -> u64 {
    hash(source.to_string().as_bytes())
}

// === impl Key ===

impl Key {
    pub(crate) fn parse(policy: &proto::HashPolicy) -> Result<Self, String> {
        Ok(match &policy.policy_specifier {
            Some(PolicySpecifier::Header(header)) => {
                let name = header.header_name.parse();
                Self::Field(name.map_err(|_| format!("hash_policy: {:?} is no field's name", header.header_name))?)
            }
            Some(PolicySpecifier::Cookie(cookie)) => Self::Cookie(Cookie {
                name: cookie.name.as_str().into(),
                path: cookie.path.as_str().into(),
                ttl: duration(cookie.ttl.as_ref()),
                attributes: cookie
                    .attributes
                    .iter()
                    .map(|attribute| (attribute.name.as_str().into(), attribute.value.as_str().into()))
                    .collect(),
            }),
            Some(PolicySpecifier::ConnectionProperties(properties)) if properties.source_ip => Self::Source,
            Some(PolicySpecifier::QueryParameter(parameter)) => Self::Parameter(parameter.name.as_str().into()),
            _ => return Err("hash_policy: header, cookie, source_ip or query_parameter is accepted".into()),
        })
    }

    fn of(&self, asked: &Asked<'_>, source: IpAddr, made: &mut Option<String>, draw: u64) -> Option<u64> {
        match self {
            Self::Field(name) => joined(asked.headers, name).map(|value| hash(value.as_bytes())),
            Self::Source => Some(source_hash(source)),
            Self::Parameter(name) => parameter(asked.query(), name).map(|value| hash(value.as_bytes())),
            Self::Cookie(cookie) => {
                if let Some(value) = cookie.value(asked.headers) {
                    return Some(hash(value.as_bytes()));
                }
                let (ttl, value) = (cookie.ttl?, format!("{draw:016x}"));
                *made = Some(cookie.set(&value, ttl));
                Some(hash(value.as_bytes()))
            }
        }
    }
}

/// What a request that comes from `source` is alike in by `keys`; `draw` makes a cookie that is new.
pub(crate) fn alike(keys: &[Key], asked: &Asked<'_>, source: IpAddr, mut draw: impl FnMut() -> u64) -> Alike {
    let mut alike = Alike::default();
    for key in keys {
        if let Some(one) = key.of(asked, source, &mut alike.cookie, draw()) {
            alike.hash = Some(alike.hash.map_or(one, |before| before.rotate_left(1) ^ one));
        }
    }
    alike
}

// === impl Cookie ===

impl Cookie {
    fn value<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = pairs.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let mut values = pairs.filter(|(name, _)| *name == &*self.name).map(|(_, value)| value.trim_matches('"'));
        values.next().filter(|value| !value.is_empty())
    }

    fn set(&self, value: &str, ttl: Duration) -> String {
        let age = (!ttl.is_zero()).then(|| format!("Max-Age={}", ttl.as_secs()));
        let path = (!self.path.is_empty()).then(|| format!("Path={}", self.path));
        let attribute = |(name, value): &(Box<str>, Box<str>)| {
            if value.is_empty() { name.to_string() } else { format!("{name}={value}") }
        };
        let mut parts = vec![format!("{}=\"{value}\"", self.name)];
        parts.extend(age.into_iter().chain(path).chain(self.attributes.iter().map(attribute)));
        parts.push("HttpOnly".to_owned());
        parts.join("; ")
    }
}
