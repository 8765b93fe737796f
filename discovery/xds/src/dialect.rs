//! The two variants of the protocol as the client speaks them.

use crate::topic::{Change, Topic, Update};
use crate::{Resource, type_url};
use ads::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use api::envoy::envoy::config::core::v3::Node as ProtoNode;
use api::envoy::envoy::service::discovery::v3 as ads;
use api::envoy::google::protobuf::Any;
use api::envoy::google::rpc;
use prost::Message;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// A response's envelope.
pub(crate) struct Envelope {
    /// Its type.
    pub(crate) type_url: String,
    /// Its nonce.
    pub(crate) nonce: String,
}

/// How one variant asks, answers and understands.
pub(crate) trait Dialect: 'static {
    /// What is sent.
    type Request: Send + 'static;
    /// What comes back.
    type Response: Send + 'static;

    /// Opens the stream.
    fn open(
        client: &mut AggregatedDiscoveryServiceClient<Channel>,
        requests: mpsc::Receiver<Self::Request>,
    ) -> impl Future<Output = Result<Streaming<Self::Response>, Status>> + Send;

    /// Asks for a change of what is subscribed to.
    fn ask(topic: &Topic, change: Change) -> Self::Request;
    /// Accepts the last response, or rejects it with a reason.
    fn answer(topic: &Topic, error: Option<String>) -> Self::Request;
    /// Says how the workload is: well, or not, for a reason.
    fn health(health: Result<(), String>) -> Self::Request;
    /// Names the sender.
    fn sign(request: &mut Self::Request, node: ProtoNode);
    /// Reads the envelope.
    fn envelope(response: &Self::Response) -> Envelope;
    /// Reads the content; an error is a reason to reject it.
    fn read(topic: &Topic, response: Self::Response) -> Result<Update, String>;
}

/// The incremental variant.
pub(crate) struct Delta;

/// The variant that tells all, every time.
pub(crate) struct StateOfTheWorld;

/// The first field of every resource that state of the world delivers is its name.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

// === impl Delta ===

impl Dialect for Delta {
    type Request = ads::DeltaDiscoveryRequest;
    type Response = ads::DeltaDiscoveryResponse;

    async fn open(
        client: &mut AggregatedDiscoveryServiceClient<Channel>,
        requests: mpsc::Receiver<Self::Request>,
    ) -> Result<Streaming<Self::Response>, Status> {
        Ok(client.delta_aggregated_resources(ReceiverStream::new(requests)).await?.into_inner())
    }

    fn ask(topic: &Topic, change: Change) -> Self::Request {
        let text = |name: &Arc<str>| name.as_ref().to_owned();
        let held = topic.held.iter().filter(|_| change.first).map(|(name, version)| (text(name), text(version)));
        ads::DeltaDiscoveryRequest {
            type_url: topic.type_url.into(),
            resource_names_subscribe: change.subscribe.iter().map(text).collect(),
            resource_names_unsubscribe: change.unsubscribe.iter().map(text).collect(),
            initial_resource_versions: held.collect(),
            ..ads::DeltaDiscoveryRequest::default()
        }
    }

    fn answer(topic: &Topic, error: Option<String>) -> Self::Request {
        ads::DeltaDiscoveryRequest {
            type_url: topic.type_url.into(),
            response_nonce: topic.nonce.clone(),
            error_detail: error.map(rejected),
            ..ads::DeltaDiscoveryRequest::default()
        }
    }

    fn health(health: Result<(), String>) -> Self::Request {
        ads::DeltaDiscoveryRequest {
            type_url: type_url::HEALTH.into(),
            error_detail: health.err().map(rejected),
            ..ads::DeltaDiscoveryRequest::default()
        }
    }

    fn sign(request: &mut Self::Request, node: ProtoNode) {
        request.node = Some(node);
    }

    fn envelope(response: &Self::Response) -> Envelope {
        Envelope { type_url: response.type_url.clone(), nonce: response.nonce.clone() }
    }

    fn read(topic: &Topic, response: Self::Response) -> Result<Update, String> {
        let mut update = Update::default();
        for resource in response.resources {
            let any = resource.resource.ok_or_else(|| format!("resource {:?} has no content", resource.name))?;
            update.changed.push(Resource {
                name: resource.name.into(),
                version: resource.version.into(),
                body: body(topic, any)?.into(),
            });
        }
        update.removed = response.removed_resources.into_iter().map(Into::into).collect();
        Ok(update)
    }
}

// === impl StateOfTheWorld ===

impl StateOfTheWorld {
    fn request(topic: &Topic, error: Option<String>) -> ads::DiscoveryRequest {
        let names = topic.asked.iter().flatten();
        ads::DiscoveryRequest {
            type_url: topic.type_url.into(),
            version_info: topic.version.clone(),
            resource_names: names.map(|name| name.as_ref().to_owned()).collect(),
            response_nonce: topic.nonce.clone(),
            error_detail: error.map(rejected),
            ..ads::DiscoveryRequest::default()
        }
    }
}

impl Dialect for StateOfTheWorld {
    type Request = ads::DiscoveryRequest;
    type Response = ads::DiscoveryResponse;

    async fn open(
        client: &mut AggregatedDiscoveryServiceClient<Channel>,
        requests: mpsc::Receiver<Self::Request>,
    ) -> Result<Streaming<Self::Response>, Status> {
        Ok(client.stream_aggregated_resources(ReceiverStream::new(requests)).await?.into_inner())
    }

    fn ask(topic: &Topic, _change: Change) -> Self::Request {
        Self::request(topic, None)
    }

    fn answer(topic: &Topic, error: Option<String>) -> Self::Request {
        Self::request(topic, error)
    }

    fn health(health: Result<(), String>) -> Self::Request {
        ads::DiscoveryRequest {
            type_url: type_url::HEALTH.into(),
            error_detail: health.err().map(rejected),
            ..ads::DiscoveryRequest::default()
        }
    }

    fn sign(request: &mut Self::Request, node: ProtoNode) {
        request.node = Some(node);
    }

    fn envelope(response: &Self::Response) -> Envelope {
        Envelope { type_url: response.type_url.clone(), nonce: response.nonce.clone() }
    }

    /// What is unchanged is left out; of a wildcard type, what is not there is gone.
    fn read(topic: &Topic, response: Self::Response) -> Result<Update, String> {
        let mut update = Update { version: response.version_info, ..Update::default() };
        let mut seen: BTreeSet<Arc<str>> = BTreeSet::new();
        for any in response.resources {
            let body = body(topic, any)?;
            let name = match type_url::only_name(topic.type_url) {
                Some(only) => only.to_owned(),
                None => Named::decode(body.as_slice()).map_err(|error| format!("{}: {error}", topic.type_url))?.name,
            };
            let resource = Resource::from_body(name, body.into());
            if !seen.insert(resource.name.clone()) {
                return Err(format!("{} {:?} comes twice", topic.type_url, resource.name));
            }
            if topic.held.get(&resource.name) != Some(&resource.version) {
                update.changed.push(resource);
            }
        }
        if type_url::is_wildcard(topic.type_url) {
            update.removed = topic.held.keys().filter(|name| !seen.contains(*name)).cloned().collect();
        }
        Ok(update)
    }
}

fn body(topic: &Topic, any: Any) -> Result<Vec<u8>, String> {
    if any.type_url == topic.type_url {
        return Ok(any.value);
    }
    Err(format!("a resource of type {:?} in a response of type {}", any.type_url, topic.type_url))
}

fn rejected(message: String) -> rpc::Status {
    rpc::Status { code: Code::InvalidArgument as i32, message, details: Vec::new() }
}
