//! Who or what is meant: workloads by their labels, services by patterns of namespace and host.

use model::{Host, Invalid, Namespace, ServiceKey};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The labels that a workload must bear; at least one.
pub type Selector = BTreeMap<String, String>;

/// A pattern of services, `NAMESPACE/HOST`, e.g. `./*` or `bookinfo/*.example.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressHost {
    /// The namespaces that are meant.
    pub namespace: NamespacePattern,
    /// The hosts that are meant.
    pub host: HostPattern,
}

/// Which namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespacePattern {
    /// `*`: all.
    Any,
    /// `.`: that of the resource itself.
    Own,
    /// `~`: none.
    None,
    /// This one.
    Named(Namespace),
}

/// Which hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// `*`: all.
    Any,
    /// This one, or those that it covers if it is a wildcard.
    Host(Host),
}

const EXPECTED: &str =
    "NAMESPACE/HOST with a namespace, '*', '.' or '~' before the slash, and a host, '*.DOMAIN' or '*' after it";

// === impl EgressHost ===

impl EgressHost {
    /// Whether `service` is meant by a resource in the namespace `own`.
    pub fn matches(&self, service: &ServiceKey, own: &Namespace) -> bool {
        self.namespace.includes(&service.namespace, own) && self.host.matches(&service.host)
    }
}

impl FromStr for EgressHost {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refuse = |_| Invalid::new("egress host", text, EXPECTED);
        let (namespace, host) = text.split_once('/').ok_or_else(|| Invalid::new("egress host", text, EXPECTED))?;
        let namespace = match namespace {
            "*" => NamespacePattern::Any,
            "." => NamespacePattern::Own,
            "~" => NamespacePattern::None,
            name => NamespacePattern::Named(name.parse().map_err(refuse)?),
        };
        Ok(Self { namespace, host: host.parse().map_err(refuse)? })
    }
}

impl fmt::Display for EgressHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            NamespacePattern::Any => f.write_str("*/")?,
            NamespacePattern::Own => f.write_str("./")?,
            NamespacePattern::None => f.write_str("~/")?,
            NamespacePattern::Named(name) => write!(f, "{name}/")?,
        }
        self.host.fmt(f)
    }
}

// === impl NamespacePattern ===

impl NamespacePattern {
    /// Whether `namespace` is meant by a resource in the namespace `own`.
    pub fn includes(&self, namespace: &Namespace, own: &Namespace) -> bool {
        match self {
            Self::Any => true,
            Self::Own => namespace == own,
            Self::None => false,
            Self::Named(name) => namespace == name,
        }
    }
}

// === impl HostPattern ===

impl HostPattern {
    /// Whether `host` is meant. A wildcard service is meant by a wildcard that covers it, or by the same text.
    pub fn matches(&self, host: &Host) -> bool {
        match self {
            Self::Any => true,
            Self::Host(pattern) => pattern == host || pattern.covers(host),
        }
    }

    /// How closely `host` is meant, if it is: an exact name before every wildcard, a longer wildcard before a shorter.
    pub fn closeness(&self, host: &Host) -> Option<usize> {
        match self {
            Self::Any => Some(0),
            Self::Host(pattern) if pattern == host => Some(usize::MAX),
            Self::Host(pattern) => pattern.covers(host).then(|| pattern.as_str().len()),
        }
    }

    /// Of the two, the one that means what both do; none if they have nothing in common.
    pub fn narrower<'a>(&'a self, other: &'a Self) -> Option<&'a Self> {
        match (self, other) {
            (Self::Any, host) | (host, Self::Any) => Some(host),
            (Self::Host(a), Self::Host(b)) if a == b || b.covers(a) || is_within(a, b) => Some(self),
            (Self::Host(a), Self::Host(b)) if a.covers(b) || is_within(b, a) => Some(other),
            _ => None,
        }
    }
}

/// Whether the wildcard `inner` is within the wildcard `outer`.
fn is_within(inner: &Host, outer: &Host) -> bool {
    let suffix = |host: &Host| host.as_str().strip_prefix('*').map(str::to_owned);
    suffix(inner).zip(suffix(outer)).is_some_and(|(inner, outer)| inner.ends_with(&outer))
}

impl FromStr for HostPattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == "*" { Ok(Self::Any) } else { text.parse().map(Self::Host) }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Host(host) => host.fmt(f),
        }
    }
}
