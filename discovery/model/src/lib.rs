//! The nouns of the mesh: what every other crate speaks of. No I/O, no async, no clock.
//!
//! Everything here is a validated, immutable value. Text becomes one of these types at the wall, once; behind the
//! wall nothing is checked twice.

mod catalog;
mod cluster;
mod endpoint;
mod error;
mod export;
mod identity;
mod locality;
mod name;
mod service;
mod visibility;

pub use catalog::{Catalog, Gateway, Path, Peer, PeerHealth};
pub use cluster::{Cluster, ClusterId, ClusterUid, NetworkId};
pub use endpoint::{Address, Endpoint};
pub use error::Invalid;
pub use export::{Audience, Group, GroupId, ServiceExport, ServiceImport};
pub use identity::{TrustBundle, TrustDomain, WorkloadIdentity};
pub use locality::Locality;
pub use name::{Host, Namespace, Sni};
pub use service::{Location, Port, Protocol, Resolution, Service, ServiceKey};
pub use visibility::Visibility;
