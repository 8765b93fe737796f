//! The two variants of the protocol as the server sees them: their messages, and the common form of both.

use crate::exchange::{Ask, Request, Response, Variant};
use api::envoy::envoy::config::core::v3::Node as ProtoNode;
use api::envoy::envoy::service::discovery::v3 as ads;
use api::envoy::google::protobuf::Any;
use api::envoy::google::rpc;
use std::hash::{DefaultHasher, Hasher};

/// A request of either variant, taken apart.
pub(crate) struct Asked {
    /// Who asks; only the first message of a stream must say.
    pub(crate) node: Option<ProtoNode>,
    /// About which type.
    pub(crate) type_url: String,
    /// What.
    pub(crate) request: Request,
}

/// The messages of one variant.
pub(crate) trait Wire: Send + 'static {
    /// What the client sends.
    type Request: Send + 'static;
    /// What it is sent.
    type Response: Send + 'static;
    /// Which variant this is.
    const VARIANT: Variant;

    /// Who asks, if the request says.
    fn node(request: &Self::Request) -> Option<&ProtoNode>;
    /// Takes a request apart.
    fn take(request: Self::Request) -> Asked;
    /// Writes a response.
    fn write(type_url: &str, response: Response) -> Self::Response;
}

/// The incremental variant.
pub(crate) struct Delta;

/// The variant that tells all, every time.
pub(crate) struct StateOfTheWorld;

// === impl Delta ===

impl Wire for Delta {
    type Request = ads::DeltaDiscoveryRequest;
    type Response = ads::DeltaDiscoveryResponse;
    const VARIANT: Variant = Variant::Delta;

    fn node(request: &Self::Request) -> Option<&ProtoNode> {
        request.node.as_ref()
    }

    fn take(request: Self::Request) -> Asked {
        Asked {
            node: request.node,
            type_url: request.type_url,
            request: Request {
                nonce: request.response_nonce,
                error: request.error_detail.as_ref().map(reason),
                ask: Ask::Change {
                    subscribe: request.resource_names_subscribe,
                    unsubscribe: request.resource_names_unsubscribe,
                    held: request.initial_resource_versions,
                },
            },
        }
    }

    fn write(type_url: &str, response: Response) -> Self::Response {
        let resource = |resource: crate::Resource| ads::Resource {
            name: resource.name.as_ref().into(),
            version: resource.version.as_ref().into(),
            resource: Some(Any { type_url: type_url.into(), value: resource.body.into() }),
            ..ads::Resource::default()
        };
        ads::DeltaDiscoveryResponse {
            system_version_info: response.nonce.clone(),
            type_url: type_url.into(),
            nonce: response.nonce,
            resources: response.resources.into_iter().map(resource).collect(),
            removed_resources: response.removed.iter().map(|name| name.as_ref().into()).collect(),
            ..ads::DeltaDiscoveryResponse::default()
        }
    }
}

// === impl StateOfTheWorld ===

impl Wire for StateOfTheWorld {
    type Request = ads::DiscoveryRequest;
    type Response = ads::DiscoveryResponse;
    const VARIANT: Variant = Variant::StateOfTheWorld;

    fn node(request: &Self::Request) -> Option<&ProtoNode> {
        request.node.as_ref()
    }

    fn take(request: Self::Request) -> Asked {
        Asked {
            node: request.node,
            type_url: request.type_url,
            request: Request {
                nonce: request.response_nonce,
                error: request.error_detail.as_ref().map(reason),
                ask: Ask::All(request.resource_names),
            },
        }
    }

    fn write(type_url: &str, response: Response) -> Self::Response {
        let mut version = DefaultHasher::new();
        for resource in &response.resources {
            version.write(resource.name.as_bytes());
            version.write(resource.version.as_bytes());
        }
        let any = |resource: crate::Resource| Any { type_url: type_url.into(), value: resource.body.into() };
        ads::DiscoveryResponse {
            version_info: format!("{:016x}", version.finish()),
            type_url: type_url.into(),
            nonce: response.nonce,
            resources: response.resources.into_iter().map(any).collect(),
            ..ads::DiscoveryResponse::default()
        }
    }
}

fn reason(status: &rpc::Status) -> String {
    status.message.chars().take(4096).collect()
}
