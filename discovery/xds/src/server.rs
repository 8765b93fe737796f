//! The server's front: who may open a stream, and how many.

use crate::stream::{Outbound, Stream};
use crate::wire::{Delta, StateOfTheWorld, Wire};
use crate::{Node, Snapshot};
use ads::aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer};
use api::envoy::envoy::service::discovery::v3 as ads;
use futures_util::stream::BoxStream;
use model::WorkloadIdentity;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Where the resources come from: one snapshot per proxy, watched for as long as its stream lasts.
pub trait Source: Send + Sync + 'static {
    /// The resources of `node`, whose claims were compared with `peer`. The first value must be complete: what is not in
    /// it, the client removes. An error refuses the stream.
    fn open(&self, node: &Node, peer: &WorkloadIdentity) -> Result<watch::Receiver<Arc<Snapshot>>, Status>;

    /// The node's verdict on a response.
    fn observe(&self, _node: &Node, _event: Event) {}

    /// The node says how its workload is: well, or not, for this reason of at most 4096 characters.
    fn health(&self, _node: &Node, _health: Result<(), String>) {}

    /// The stream of a node that was opened has ended.
    fn closed(&self, _node: &Node) {}
}

/// What a client said of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It was accepted.
    Ack {
        /// The type.
        type_url: &'static str,
        /// The response.
        nonce: String,
    },
    /// It was rejected; the client keeps what it had.
    Nack {
        /// The type.
        type_url: &'static str,
        /// The response.
        nonce: String,
        /// The client's reason, cut to 4096 characters.
        message: String,
    },
}

/// Limits and times of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ServerSettings {
    /// The greatest message accepted, in bytes. Default 4 MiB.
    pub max_message_bytes: usize,
    /// A delta response is cut into several from this size on, in bytes. Default 2 MiB.
    pub max_response_bytes: usize,
    /// The most names that one client subscribes to, per type. Default 100 000.
    pub max_subscriptions: usize,
    /// The most requests per second on one stream. Default 10 000.
    pub max_requests_per_second: u32,
    /// The most streams of one proxy; one more ends the oldest. Default 3.
    pub max_streams_per_node: usize,
    /// Responses that wait for a slow client. Default 4.
    pub queue: usize,
    /// How long the first request may take, in milliseconds. Default 10 000.
    pub first_request_timeout_ms: u64,
    /// How long a response may wait for room before the stream is cut, in milliseconds. Default 30 000.
    pub write_timeout_ms: u64,
    /// After a reconnect: how long clusters and endpoints that are gone stay, so that listeners and routes can be
    /// answered first, in milliseconds. Default 1000.
    pub removal_delay_ms: u64,
    /// How long listeners and routes wait for the client to take the clusters and endpoints that came with them, in
    /// milliseconds; then they are sent all the same. Default 2000.
    pub settle_ms: u64,
}

/// The aggregated discovery service over a [`Source`].
pub struct Server<S> {
    source: Arc<S>,
    settings: Arc<ServerSettings>,
    streams: Arc<Streams>,
    shutdown: CancellationToken,
}

/// What the task of one stream owns.
struct Task<S> {
    source: Arc<S>,
    settings: Arc<ServerSettings>,
    streams: Arc<Streams>,
    end: CancellationToken,
    peer: WorkloadIdentity,
}

/// The responses of one stream.
type Answers<M> = BoxStream<'static, Result<M, Status>>;

/// The open streams of each proxy, oldest first.
#[derive(Default)]
struct Streams(Mutex<HashMap<String, Vec<CancellationToken>>>);

// === impl ServerSettings ===

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            max_message_bytes: 4 << 20,
            max_response_bytes: 2 << 20,
            max_subscriptions: 100_000,
            max_requests_per_second: 10_000,
            max_streams_per_node: 3,
            queue: 4,
            first_request_timeout_ms: 10_000,
            write_timeout_ms: 30_000,
            removal_delay_ms: 1000,
            settle_ms: 2000,
        }
    }
}

// === impl Server ===

impl<S: Source> Server<S> {
    /// A server of what `source` gives.
    pub fn new(source: S, settings: ServerSettings) -> Self {
        Self {
            source: Arc::new(source),
            settings: Arc::new(settings),
            streams: Arc::default(),
            shutdown: CancellationToken::new(),
        }
    }

    /// Ends all streams when `shutdown` is cancelled.
    #[must_use]
    pub fn until(mut self, shutdown: CancellationToken) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// The service, for a tonic server.
    pub fn into_service(self) -> AggregatedDiscoveryServiceServer<impl AggregatedDiscoveryService> {
        let limit = self.settings.max_message_bytes;
        AggregatedDiscoveryServiceServer::new(self).max_decoding_message_size(limit)
    }

    /// Starts the task of one stream, which lives until the client, the source or the server ends it.
    fn start<W: Wire>(
        &self,
        request: Request<Streaming<W::Request>>,
    ) -> Result<Response<Answers<W::Response>>, Status> {
        let peer = request.extensions().get::<WorkloadIdentity>().cloned();
        let peer = peer.ok_or_else(|| Status::unauthenticated("xDS needs a client certificate"))?;
        let (sender, receiver) = mpsc::channel(self.settings.queue.max(1));
        let (outbound, cut) = Outbound::new(receiver);
        let task = Task {
            source: self.source.clone(),
            settings: self.settings.clone(),
            streams: self.streams.clone(),
            end: self.shutdown.child_token(),
            peer,
        };
        tokio::spawn(async move {
            // The queue stays open until its end has a reason.
            let ended = task.run::<W>(request.into_inner(), sender.clone()).await;
            if let Err(status) = ended {
                tracing::debug!(%status, "an xDS stream ends");
                cut.with(status);
            }
            drop(sender);
        });
        Ok(Response::new(Box::pin(outbound)))
    }
}

#[tonic::async_trait]
impl<S: Source> AggregatedDiscoveryService for Server<S> {
    type StreamAggregatedResourcesStream = Answers<ads::DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Answers<ads::DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<ads::DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        self.start::<StateOfTheWorld>(request)
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<ads::DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        self.start::<Delta>(request)
    }
}

// === impl Task ===

impl<S: Source> Task<S> {
    async fn run<W: Wire>(
        self,
        inbound: Streaming<W::Request>,
        queue: mpsc::Sender<W::Response>,
    ) -> Result<(), Status> {
        let (node, first, inbound) = tokio::select! {
            greeted = greet::<W>(inbound, &self.peer, &self.settings) => greeted?,
            () = self.end.cancelled() => return Err(Status::unavailable("the server stops")),
        };
        let snapshots = self.source.open(&node, &self.peer)?;
        let key = format!("{} {}", node.id, self.peer);
        self.streams.enter(&key, &self.end, self.settings.max_streams_per_node);
        let stream = Stream::<W, S>::new(self.source, node, self.settings, snapshots, queue);
        let ended = stream.run(first, inbound, &self.end).await;
        self.end.cancel();
        self.streams.leave(&key);
        ended
    }
}

/// Waits for the first request, and compares what it claims with who the peer is.
async fn greet<W: Wire>(
    mut inbound: Streaming<W::Request>,
    peer: &WorkloadIdentity,
    settings: &ServerSettings,
) -> Result<(Node, W::Request, Streaming<W::Request>), Status> {
    let wait = Duration::from_millis(settings.first_request_timeout_ms);
    let first = tokio::time::timeout(wait, inbound.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no request came"))??
        .ok_or_else(|| Status::cancelled("the client left before it asked"))?;
    let proto = W::node(&first).ok_or_else(|| Status::invalid_argument("the first request must name its node"))?;
    let node = Node::parse(proto).map_err(|invalid| Status::invalid_argument(invalid.to_string()))?;
    if node.namespace != peer.namespace || *node.service_account != *peer.service_account {
        return Err(Status::permission_denied(format!(
            "the node claims namespace {:?} and service account {:?}, but its certificate says {peer}",
            node.namespace.as_str(),
            node.service_account,
        )));
    }
    Ok((node, first, inbound))
}

// === impl Streams ===

impl Streams {
    /// Notes a stream of `node`; beyond `most`, the oldest ends, because it is likely one whose client is long gone.
    fn enter(&self, node: &str, stream: &CancellationToken, most: usize) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_node = streams.entry(node.to_owned()).or_default();
        if of_node.len() >= most.max(1) {
            of_node.remove(0).cancel();
        }
        of_node.push(stream.clone());
    }

    /// Forgets the streams of `node` that have ended.
    fn leave(&self, node: &str) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_node) = streams.get_mut(node) {
            of_node.retain(|stream| !stream.is_cancelled());
            if of_node.is_empty() {
                streams.remove(node);
            }
        }
    }
}
