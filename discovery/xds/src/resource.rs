//! One named, versioned, encoded resource, and the types there are.

use bytes::Bytes;
use std::sync::Arc;

/// One resource as it travels: its body is encoded once and shared by all who send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its name, unique within its type.
    pub name: Arc<str>,
    /// A stable hash of the body: equal content has an equal version, in every replica.
    pub version: Arc<str>,
    /// The encoded message that stands inside the `Any`.
    pub body: Bytes,
}

/// The type URLs that we speak, in the order in which they are pushed.
pub mod type_url {
    /// CDS: upstreams.
    pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    /// EDS: endpoints of one upstream.
    pub const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
    /// LDS: listeners.
    pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
    /// RDS: routes.
    pub const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
    /// SDS: secrets and validation contexts.
    pub const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    /// NDS: Istio's name table.
    pub const NAME_TABLE: &str = "type.googleapis.com/istio.networking.nds.v1.NameTable";

    /// PCDS: how a proxy is started (Istio's).
    pub const PROXY_CONFIG: &str = "type.googleapis.com/istio.mesh.v1alpha1.ProxyConfig";

    /// The one resource of [`NAME_TABLE`].
    pub const NAME_TABLE_NAME: &str = "nametable";
    /// The one resource of [`PROXY_CONFIG`].
    pub const PROXY_CONFIG_NAME: &str = "proxyconfig";

    /// What a proxy says of its workload's health (Istio's); nothing is answered.
    pub const HEALTH: &str = "type.googleapis.com/istio.v1.HealthInformation";

    /// Make before break: what is referred to goes before what refers to it.
    pub const ORDER: [&str; 7] = [CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, NAME_TABLE, PROXY_CONFIG];

    /// Whether a first request of this type that names nothing means "all".
    pub fn is_wildcard(type_url: &str) -> bool {
        matches!(type_url, CLUSTER | LISTENER | NAME_TABLE | PROXY_CONFIG)
    }

    /// The name of the one resource of this type, of types whose messages have no name.
    pub(crate) fn only_name(type_url: &str) -> Option<&'static str> {
        match type_url {
            NAME_TABLE => Some(NAME_TABLE_NAME),
            PROXY_CONFIG => Some(PROXY_CONFIG_NAME),
            _ => None,
        }
    }

    /// The constant equal to `type_url`, if it is one that we speak.
    pub fn known(type_url: &str) -> Option<&'static str> {
        ORDER.into_iter().find(|known| *known == type_url)
    }
}

// === impl Resource ===

impl Resource {
    /// Encodes `message` as the resource `name`; the version is a hash of the bytes.
    pub fn new<M: prost::Message>(name: impl Into<Arc<str>>, message: &M) -> Self {
        Self::from_body(name, message.encode_to_vec().into())
    }

    /// The resource `name` with an encoded body.
    pub fn from_body(name: impl Into<Arc<str>>, body: Bytes) -> Self {
        Self { name: name.into(), version: crate::version::of(&body), body }
    }
}
