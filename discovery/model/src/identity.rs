//! Who somebody is: trust domains, SPIFFE identities, and the roots that may vouch for a domain.

use crate::{Invalid, Namespace};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A SPIFFE trust domain, e.g. `east.example`.
/// (SPIFFE-ID, section 2.1: lower-case letters, digits, dots, dashes and underscores.)
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

/// A workload's identity in Istio's form: `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadIdentity {
    /// The domain whose roots vouch for it.
    pub trust_domain: TrustDomain,
    /// The Kubernetes namespace.
    pub namespace: Namespace,
    /// The service account: a DNS subdomain name, as Kubernetes allows.
    pub service_account: Arc<str>,
}

/// The roots that may vouch for one trust domain, and for no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    /// The domain.
    pub trust_domain: TrustDomain,
    /// Its roots: one or more PEM certificates.
    pub pem: Arc<str>,
}

// === impl TrustDomain ===

impl TrustDomain {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let legal = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if (1..=255).contains(&text.len()) && text.bytes().all(legal) {
            return Ok(Self(text.into()));
        }
        Err(Invalid::new("trust domain", text, "1 to 255 of a-z, 0-9, '.', '-' and '_'"))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl WorkloadIdentity ===

impl WorkloadIdentity {
    /// An identity from its parts; the service account must be a DNS subdomain name.
    pub fn new(trust_domain: TrustDomain, namespace: Namespace, service_account: &str) -> Result<Self, Invalid> {
        if !is_service_account(service_account) {
            return Err(Invalid::new(
                "service account",
                service_account,
                "1 to 253 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit",
            ));
        }
        Ok(Self { trust_domain, namespace, service_account: service_account.into() })
    }
}

impl FromStr for WorkloadIdentity {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refuse = || Invalid::new("SPIFFE id", text, "spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT");
        let rest = text.strip_prefix("spiffe://").filter(|_| text.len() <= 2048).ok_or_else(refuse)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let [domain, "ns", namespace, "sa", account] = parts[..] else {
            return Err(refuse());
        };
        Self::new(domain.parse()?, namespace.parse()?, account)
    }
}

impl fmt::Display for WorkloadIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

impl fmt::Debug for WorkloadIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn is_service_account(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 253
        && bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
        && edge(bytes.first())
        && edge(bytes.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spiffe_id_survives_the_round_trip() {
        let text = "spiffe://east.example/ns/bookinfo/sa/reviews.v1";
        assert_eq!(text.parse::<WorkloadIdentity>().expect("valid").to_string(), text);
    }

    #[test]
    fn what_is_not_exactly_istios_form_is_refused() {
        for text in [
            "spiffe://TD/ns/a/sa/x",
            "spiffe://td/ns//sa/x",
            "spiffe://td/ns/a/sa/",
            "spiffe://td/ns/a/sa/x/",
            "spiffe://td/ns/a/sa/b/extra",
            "spiffe://td/ns/%2f/sa/x",
            "spiffe://td/ns/a/sa/x?q",
            "spiffe://td/ns/a/sa/x#f",
            "spiffe://td:443/ns/a/sa/x",
            "spiffe://u@td/ns/a/sa/x",
            "spiffe:///ns/a/sa/x",
            "http://td/ns/a/sa/x",
            "spiffe://td/ns/a/sa/..",
            "spiffe://td/ns/a/sa/x\0y",
        ] {
            assert!(text.parse::<WorkloadIdentity>().is_err(), "{text:?}");
        }
        let long = format!("spiffe://td/ns/a/sa/{}", "x".repeat(2100));
        assert!(long.parse::<WorkloadIdentity>().is_err());
    }
}
