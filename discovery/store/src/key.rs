//! Where each kind of record lies in the store.
//!
//! ```text
//! /isthmus/v1/clusters/A/for/{all|B}/services/NAMESPACE/HOST    what A offers
//!                       /alive/GATEWAY                           a gateway of A runs; leased
//!                       /addresses/HOST                          what A allocated to a host
//!                       /leader                                  which gateway of A writes
//!                       /workloads/NAMESPACE/NAME                a workload that registered itself with A
//!                       /controllers/NAME                        a control plane of A that workloads register with; leased
//! ```

use model::{ClusterId, Host, Invalid, Namespace};
use std::fmt;
use std::str::FromStr;

/// What all keys of ours begin with.
pub const ROOT: &str = "/isthmus/v1/clusters/";

const EXPECTED: &str = "/isthmus/v1/clusters/CLUSTER/ followed by for/all|CLUSTER/services/NAMESPACE/HOST, alive/GATEWAY, \
                        addresses/HOST, workloads/NAMESPACE/NAME, controllers/NAME or leader";

/// A key of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The cluster that owns it.
    pub cluster: ClusterId,
    /// Which of its keys.
    pub kind: KeyKind,
}

/// The keys that a cluster has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyKind {
    /// A service on offer.
    Service {
        /// To whom; to all if absent.
        audience: Option<ClusterId>,
        /// Its namespace.
        namespace: Namespace,
        /// Its host.
        host: Host,
    },
    /// A gateway's sign of life.
    Alive {
        /// The gateway's name, 1 to 253 of a-z, A-Z, 0-9, `-`, `_` and `.`.
        gateway: String,
    },
    /// Addresses allocated to a host.
    Address {
        /// The host.
        host: Host,
    },
    /// The elected writer.
    Leader,
    /// A workload that registered itself.
    Workload {
        /// Its namespace.
        namespace: Namespace,
        /// Its name: 1 to 253 of a-z, 0-9, `-` and `.`.
        name: String,
    },
    /// A control plane's sign of life.
    Controller {
        /// Its name, as a gateway's.
        name: String,
    },
}

/// The prefix of all keys of `cluster`, with its closing slash.
pub fn cluster_prefix(cluster: &ClusterId) -> String {
    format!("{ROOT}{cluster}/")
}

// === impl Key ===

impl Key {
    /// The key of the service `host`, offered to `audience` or to all.
    pub fn service(cluster: ClusterId, audience: Option<ClusterId>, namespace: Namespace, host: Host) -> Self {
        Self { cluster, kind: KeyKind::Service { audience, namespace, host } }
    }

    /// The key under which `gateway` says that it runs.
    pub fn alive(cluster: ClusterId, gateway: &str) -> Result<Self, Invalid> {
        if !is_gateway(gateway) {
            return Err(Invalid::new("gateway", gateway, "1 to 253 of a-z, A-Z, 0-9, '-', '_' and '.'"));
        }
        Ok(Self { cluster, kind: KeyKind::Alive { gateway: gateway.to_owned() } })
    }

    /// The key of the addresses allocated to `host`.
    pub fn address(cluster: ClusterId, host: Host) -> Self {
        Self { cluster, kind: KeyKind::Address { host } }
    }

    /// The key of the workload `name` that registered itself.
    pub fn workload(cluster: ClusterId, namespace: Namespace, name: &str) -> Result<Self, Invalid> {
        if !is_workload(name) {
            return Err(Invalid::new("workload", name, "1 to 253 of a-z, 0-9, '-' and '.'"));
        }
        Ok(Self { cluster, kind: KeyKind::Workload { namespace, name: name.to_owned() } })
    }

    /// The key under which the control plane `name` says that it runs.
    pub fn controller(cluster: ClusterId, name: &str) -> Result<Self, Invalid> {
        if !is_gateway(name) {
            return Err(Invalid::new("controller", name, "1 to 253 of a-z, A-Z, 0-9, '-', '_' and '.'"));
        }
        Ok(Self { cluster, kind: KeyKind::Controller { name: name.to_owned() } })
    }

    /// The key that the elected writer of `cluster` holds.
    pub fn leader(cluster: ClusterId) -> Self {
        Self { cluster, kind: KeyKind::Leader }
    }
}

impl FromStr for Key {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let refuse = || Invalid::new("store key", text, EXPECTED);
        let rest = text.strip_prefix(ROOT).filter(|_| text.len() <= 1024).ok_or_else(refuse)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let key = match parts[..] {
            [cluster, "for", audience, "services", namespace, host] => {
                // A cluster named `all` cannot be addressed alone; model's names allow it, this place does not.
                let audience = if audience == "all" { None } else { Some(audience.parse()?) };
                Self::service(cluster.parse()?, audience, namespace.parse()?, host.parse()?)
            }
            [cluster, "alive", gateway] => Self::alive(cluster.parse()?, gateway)?,
            [cluster, "addresses", host] => Self::address(cluster.parse()?, host.parse()?),
            [cluster, "workloads", namespace, name] => Self::workload(cluster.parse()?, namespace.parse()?, name)?,
            [cluster, "controllers", name] => Self::controller(cluster.parse()?, name)?,
            [cluster, "leader"] => Self::leader(cluster.parse()?),
            _ => return Err(refuse()),
        };
        // Host names have more than one spelling; a key has one.
        if key.to_string() == text { Ok(key) } else { Err(refuse()) }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ROOT}{}/", self.cluster)?;
        match &self.kind {
            KeyKind::Service { audience, namespace, host } => {
                let audience = audience.as_ref().map_or("all", ClusterId::as_str);
                write!(f, "for/{audience}/services/{namespace}/{host}")
            }
            KeyKind::Alive { gateway } => write!(f, "alive/{gateway}"),
            KeyKind::Address { host } => write!(f, "addresses/{host}"),
            KeyKind::Workload { namespace, name } => write!(f, "workloads/{namespace}/{name}"),
            KeyKind::Controller { name } => write!(f, "controllers/{name}"),
            KeyKind::Leader => f.write_str("leader"),
        }
    }
}

pub(crate) fn is_workload(text: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    (1..=253).contains(&text.len()) && text.bytes().all(is_legal)
}

pub(crate) fn is_gateway(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_round_trip() {
        for text in [
            "/isthmus/v1/clusters/east/for/all/services/bookinfo/reviews.bookinfo.svc.cluster.local",
            "/isthmus/v1/clusters/east/for/west/services/bookinfo/*.example.com",
            "/isthmus/v1/clusters/east/alive/gateway-0.abc",
            "/isthmus/v1/clusters/east/addresses/api.example.com",
            "/isthmus/v1/clusters/east/leader",
            "/isthmus/v1/clusters/east/workloads/shop/vm-10.0.0.1-net",
            "/isthmus/v1/clusters/east/controllers/controlplane-1",
        ] {
            assert_eq!(text.parse::<Key>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_not_exactly_a_key_is_refused() {
        for text in [
            "",
            "/isthmus/v1/clusters/",
            "/isthmus/v2/clusters/east/leader",
            "/isthmus/v1/clusters/east/leader/",
            "/isthmus/v1/clusters/EAST/leader",
            "/isthmus/v1/clusters//leader",
            "/isthmus/v1/clusters/east/alive/",
            "/isthmus/v1/clusters/east/alive/a b",
            "/isthmus/v1/clusters/east/for/all/services/bookinfo/Reviews.Bookinfo",
            "/isthmus/v1/clusters/east/for/all/services/bookinfo/reviews.",
            "/isthmus/v1/clusters/east/for/all/services/../reviews",
            "/isthmus/v1/clusters/east/addresses/a/b",
            "/isthmus/v1/clusters/east/workloads/shop",
            "/isthmus/v1/clusters/east/workloads/shop/Vm",
        ] {
            assert!(text.parse::<Key>().is_err(), "{text:?}");
        }
    }
}
