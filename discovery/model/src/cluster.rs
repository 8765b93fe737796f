//! The members of the mesh.

use crate::name::{RFC1123_LABEL, is_rfc1123_label};
use crate::{Invalid, TrustDomain};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A cluster's name within the mesh, e.g. `east`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(Arc<str>);

/// What tells a cluster from a later one of the same name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterUid(Arc<str>);

/// The network whose addresses can be reached from a workload (label `topology.istio.io/network`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NetworkId(pub Arc<str>);

/// A member of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub id: ClusterId,
    /// Its unique id.
    pub uid: ClusterUid,
    /// The trust domain of its workloads.
    pub trust_domain: TrustDomain,
}

macro_rules! text {
    ($name:ident, $field:literal, $accept:expr, $expected:expr) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                if $accept(text) {
                    return Ok(Self(text.into()));
                }
                Err(Invalid::new($field, text, $expected))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(ClusterId, "cluster", is_rfc1123_label, RFC1123_LABEL);
text!(ClusterUid, "cluster UID", is_rfc1123_label, RFC1123_LABEL);
