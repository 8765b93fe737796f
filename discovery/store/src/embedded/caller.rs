//! Who asks, and what they may write: a certificate of cluster A writes below A's prefix and nowhere else.

use super::fault::Fault;
use super::listen::Peer;
use super::settings::KnownMember;
use super::span::Span;
use crate::key::cluster_prefix;
use model::{ClusterId, WorkloadIdentity};
use std::sync::Arc;

/// Who sent a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caller {
    /// The server itself: the expiry of leases, compaction.
    Server,
    /// A process on this machine, over loopback. May do everything.
    Local,
    /// A gateway or control plane of this cluster, by its certificate.
    Cluster(ClusterId),
}

/// Who is known.
#[derive(Debug, Clone)]
pub(super) enum Access {
    /// Loopback without TLS.
    Loopback,
    /// These clusters, over mutual TLS.
    Members(Arc<[KnownMember]>),
}

// === impl Access ===

impl Access {
    /// Names the sender of `request`.
    pub(super) fn caller<T>(&self, request: &tonic::Request<T>) -> Result<Caller, Fault> {
        match self {
            Self::Loopback => Ok(Caller::Local),
            Self::Members(members) => {
                let peer = request.extensions().get::<Peer>().and_then(|peer| peer.0.as_ref());
                let cluster = peer.and_then(|peer| cluster_of(peer, members)).ok_or(Fault::PermissionDenied)?;
                Ok(Caller::Cluster(cluster))
            }
        }
    }
}

/// The cluster whose gateway or control plane `peer` is. The name in the certificate counts only together with the trust
/// domain pinned for that cluster: no member can name itself after another.
fn cluster_of(peer: &WorkloadIdentity, members: &[KnownMember]) -> Option<ClusterId> {
    if peer.namespace.as_str() != "isthmus-system" {
        return None;
    }
    let account = &peer.service_account;
    let name = account.strip_prefix("gateway-").or_else(|| account.strip_prefix("controlplane-"))?;
    let member = members.iter().find(|member| member.cluster.as_str() == name)?;
    (member.trust_domain == peer.trust_domain).then(|| member.cluster.clone())
}

// === impl Caller ===

impl Caller {
    /// Whether the caller may write the keys of `span`.
    pub(super) fn may_write(&self, span: &Span) -> Result<(), Fault> {
        match self {
            Self::Server | Self::Local => Ok(()),
            Self::Cluster(cluster) if span.within(cluster_prefix(cluster).as_bytes()) => Ok(()),
            Self::Cluster(_) => Err(Fault::PermissionDenied),
        }
    }

    /// Whether the caller may keep, use or revoke a lease of `owner`.
    pub(super) fn may_use_lease(&self, owner: &str) -> Result<(), Fault> {
        match self {
            Self::Cluster(cluster) if cluster.as_str() != owner => Err(Fault::PermissionDenied),
            _ => Ok(()),
        }
    }

    /// Whether the caller may compact, or do what else concerns the whole store.
    pub(super) fn may_maintain(&self) -> Result<(), Fault> {
        match self {
            Self::Cluster(_) => Err(Fault::PermissionDenied),
            Self::Server | Self::Local => Ok(()),
        }
    }

    /// What a lease of this caller is marked with.
    pub(super) fn owner(&self) -> &str {
        match self {
            Self::Cluster(cluster) => cluster.as_str(),
            Self::Server | Self::Local => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Vec<KnownMember> {
        ["east", "west"]
            .map(|name| KnownMember {
                cluster: name.parse().expect("a name"),
                trust_domain: format!("{name}.example").parse().expect("a trust domain"),
            })
            .to_vec()
    }

    fn named(text: &str) -> Option<String> {
        cluster_of(&text.parse().expect("a SPIFFE id"), &members()).map(|cluster| cluster.to_string())
    }

    #[test]
    fn a_cluster_is_named_by_its_own_trust_domain_only() {
        assert_eq!(named("spiffe://east.example/ns/isthmus-system/sa/gateway-east").as_deref(), Some("east"));
        assert_eq!(named("spiffe://west.example/ns/isthmus-system/sa/controlplane-west").as_deref(), Some("west"));
        assert_eq!(named("spiffe://west.example/ns/isthmus-system/sa/gateway-east"), None);
        assert_eq!(named("spiffe://east.example/ns/bookinfo/sa/gateway-east"), None);
        assert_eq!(named("spiffe://east.example/ns/isthmus-system/sa/reviews"), None);
        assert_eq!(named("spiffe://east.example/ns/isthmus-system/sa/gateway-north"), None);
    }

    #[test]
    fn a_cluster_writes_its_own_prefix_only() {
        let east = Caller::Cluster("east".parse().expect("a name"));
        assert!(east.may_write(&Span::new(b"/isthmus/v1/clusters/east/leader", b"")).is_ok());
        assert!(east.may_write(&Span::new(b"/isthmus/v1/clusters/west/leader", b"")).is_err());
        assert!(east.may_write(&Span::new(b"/isthmus/v1/clusters/east-2/leader", b"")).is_err());
        assert!(east.may_write(&Span::new(b"\0", b"\0")).is_err());
        assert!(
            east.may_maintain().is_err() && east.may_use_lease("west").is_err() && east.may_use_lease("east").is_ok()
        );
    }
}
