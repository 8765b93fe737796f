//! Names: host names, namespaces, and the SNI form that carries a service's name across gateways.

use crate::{GroupId, Invalid};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A host name in its one canonical form: lower case, no trailing dot, possibly with a leading `*.`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(Arc<str>);

/// A Kubernetes namespace: an RFC 1123 label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(Arc<str>);

/// The server name under which a service is asked for at an east-west gateway:
/// `outbound_.PORT_.SUBSET_.HOST`, Istio's form. The subset place holds [`GroupId`]s, with a dot between them, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sni {
    /// The service's port.
    pub port: u16,
    /// The groups asked for, one of which is to answer; any if there are none.
    pub groups: Vec<GroupId>,
    /// The service's host.
    pub host: Host,
}

// === impl Host ===

impl Host {
    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is a wildcard such as `*.example.com`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with('*')
    }

    /// Whether `other` is this host, or falls under this wildcard.
    pub fn covers(&self, other: &Host) -> bool {
        match self.0.strip_prefix('*') {
            Some(suffix) => other.0.len() > suffix.len() && other.0.ends_with(suffix),
            None => self == other,
        }
    }
}

impl FromStr for Host {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refuse = |why| Err(Invalid::new("host", text, why));
        let trimmed = text.strip_suffix('.').unwrap_or(text);
        if trimmed.is_empty() || trimmed.len() > 253 {
            return refuse("a DNS name of 1 to 253 characters");
        }
        let labels = trimmed.strip_prefix("*.").unwrap_or(trimmed);
        if !labels.split('.').all(is_dns_label) {
            return refuse("dot-separated labels of letters, digits, '-' and '_', each 1 to 63 long");
        }
        Ok(Self(trimmed.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Namespace ===

impl Namespace {
    /// The first of all namespaces in their order, for range look-ups.
    pub(crate) fn first() -> Self {
        Self("0".into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Namespace {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if is_rfc1123_label(text) {
            return Ok(Self(text.into()));
        }
        Err(Invalid::new("namespace", text, RFC1123_LABEL))
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Sni ===

impl FromStr for Sni {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refuse = || Invalid::new("SNI", text, "outbound_.PORT_.SUBSET_.HOST");
        let mut parts = text.splitn(4, "_.");
        let (Some("outbound"), Some(port), Some(group), Some(host)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refuse());
        };
        let port = port.parse().ok().filter(|p| *p != 0).ok_or_else(refuse)?;
        let groups = match group {
            "" => Vec::new(),
            ids => ids.split('.').map(str::parse).collect::<Result<_, _>>()?,
        };
        let host: Host = host.parse()?;
        if host.is_wildcard() {
            return Err(refuse());
        }
        Ok(Self { port, groups, host })
    }
}

impl Sni {
    /// How many bytes a server name has for groups beside `host`, the dots between them counted: of all it has 253.
    pub fn room(host: &Host) -> usize {
        const ELSE: usize = "outbound_.65535_._.".len();
        (253 - ELSE).saturating_sub(host.as_str().len())
    }
}

impl fmt::Display for Sni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<&str> = self.groups.iter().map(GroupId::as_str).collect();
        write!(f, "outbound_.{}_.{}_.{}", self.port, groups.join("."), self.host)
    }
}

pub(crate) const RFC1123_LABEL: &str = "1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit";

/// Whether `text` is a label as RFC 1123 wants it, the form of most names in Kubernetes.
pub(crate) fn is_rfc1123_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

fn is_dns_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_form() {
        for text in ["Reviews.Bookinfo.svc.cluster.local", "reviews.bookinfo.svc.cluster.local."] {
            assert_eq!(text.parse::<Host>().expect("valid").as_str(), "reviews.bookinfo.svc.cluster.local");
        }
        for text in ["", ".", "a..b", "a b", "a/b", "a:80", "-a", "a.*.b", "\u{e9}.com", "a\0b"] {
            assert!(text.parse::<Host>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_wildcard_covers_what_lies_below_it() {
        let wildcard: Host = "*.example.com".parse().expect("valid");
        assert!(wildcard.covers(&"a.example.com".parse().expect("valid")));
        assert!(!wildcard.covers(&"example.com".parse().expect("valid")));
        assert!(!wildcard.covers(&"badexample.com".parse().expect("valid")));
    }

    #[test]
    fn an_sni_survives_the_round_trip() {
        for text in ["outbound_.8080_._.reviews.bookinfo.svc.cluster.local", "outbound_.80_.v1-0a1b2c3d_.a.b"] {
            assert_eq!(text.parse::<Sni>().expect("valid").to_string(), text);
        }
        for text in
            ["", "reviews", "outbound_.0_._.a.b", "outbound_.70000_._.a.b", "outbound_.80_._.*.b", "inbound_.80_._.a"]
        {
            assert!(text.parse::<Sni>().is_err(), "{text:?}");
        }
    }
}
