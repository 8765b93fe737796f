//! The client: connects, asks, hands over to a [`Sink`], acknowledges; and begins again when the stream breaks.

use crate::dialect::{Delta, Dialect, StateOfTheWorld};
use crate::topic::Topic;
use crate::{Node, Resource, type_url};
use api::envoy::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// What takes the resources in.
pub trait Sink: Send + 'static {
    /// Applies one response, wholly or not at all: `changed` is new or has a new version, `removed` is gone (or, of a
    /// by-name type, never was). A rejection is sent back, and everything stays as it was.
    fn apply(&mut self, type_url: &str, changed: Vec<Resource>, removed: Vec<Arc<str>>) -> Result<(), Rejection>;

    /// The names now wanted of a by-name type. Asked after every response, and at every connection.
    fn wanted(&self, type_url: &str) -> BTreeSet<Arc<str>>;
}

/// Why a sink rejects a response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// For the server's operator: which resource, which field, what is wrong.
    pub message: String,
}

/// Which variant of the protocol to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// Changes only.
    #[default]
    Delta,
    /// Everything, every time.
    StateOfTheWorld,
}

/// Limits and times of the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ClientSettings {
    /// The variant. Default delta.
    pub mode: Mode,
    /// The greatest message accepted, in bytes. Default 64 MiB.
    pub max_message_bytes: usize,
    /// How long connecting may take, and then opening the stream, in milliseconds each. Default 5000.
    pub connect_timeout_ms: u64,
    /// The first wait before a new connection, in milliseconds; it doubles with every failure. Default 10.
    pub backoff_min_ms: u64,
    /// The longest wait, in milliseconds. Default 15 000.
    pub backoff_max_ms: u64,
    /// A ping is sent after this much silence, in milliseconds. Default 10 000.
    pub keep_alive_interval_ms: u64,
    /// The connection is given up when a ping is unanswered for this long, in milliseconds. Default 10 000.
    pub keep_alive_timeout_ms: u64,
}

/// Requests that wait to be written; more is a server that does not read.
const QUEUE: usize = 64;

/// Runs the client until `shutdown`: calls `connect` for a channel, subscribes, and feeds `sink`; when the connection
/// breaks it waits (jittered, growing from 10 ms to 15 s) and resumes with the versions it holds.
pub async fn run<F, Fut, E>(
    connect: F,
    node: Node,
    settings: impl Into<ClientSettings>,
    sink: impl Sink,
    shutdown: CancellationToken,
) where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = Result<Channel, E>> + Send,
    E: Display + Send,
{
    run_with_health(connect, node, settings, sink, watch::Sender::default().subscribe(), shutdown).await;
}

/// What is known of the workload's health: nothing yet, that it is well, or why not.
pub type Health = Option<Result<(), String>>;

/// As [`run`], and tells the server how the workload is: at every connection, if anything is known, and whenever it is
/// something else.
pub async fn run_with_health<F, Fut, E>(
    mut connect: F,
    node: Node,
    settings: impl Into<ClientSettings>,
    mut sink: impl Sink,
    health: watch::Receiver<Health>,
    shutdown: CancellationToken,
) where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = Result<Channel, E>> + Send,
    E: Display + Send,
{
    let settings = settings.into();
    let mut topics = type_url::ORDER.map(Topic::new);
    let mut failures = 0;
    let conversation = async {
        loop {
            let health = health.clone();
            let mut session = Session { node: &node, settings: &settings, topics: &mut topics, health, heard: false };
            let ended = match timeout(settings.connect_timeout(), connect()).await {
                Ok(Ok(channel)) => session.converse(channel, &mut sink).await,
                Ok(Err(error)) => Err(Status::unavailable(error.to_string())),
                Err(_) => Err(Status::deadline_exceeded("connecting took too long")),
            };
            failures = if session.heard { 0 } else { failures + 1 };
            let wait = settings.backoff(failures, rand::random_range(0.5..1.0));
            let reason = ended.err().map_or_else(|| "the server ended the stream".to_owned(), |e| e.to_string());
            tracing::info!(reason, ?wait, "xDS connection lost");
            tokio::time::sleep(wait).await;
        }
    };
    tokio::select! {
        () = conversation => {}
        () = shutdown.cancelled() => {}
    }
}

/// One connection.
struct Session<'a> {
    node: &'a Node,
    settings: &'a ClientSettings,
    topics: &'a mut [Topic; type_url::ORDER.len()],
    health: watch::Receiver<Health>,
    /// Whether the server ever answered.
    heard: bool,
}

// === impl Session ===

impl Session<'_> {
    async fn converse(&mut self, channel: Channel, sink: &mut impl Sink) -> Result<(), Status> {
        match self.settings.mode {
            Mode::Delta => self.speak::<Delta>(channel, sink).await,
            Mode::StateOfTheWorld => self.speak::<StateOfTheWorld>(channel, sink).await,
        }
    }

    async fn speak<D: Dialect>(&mut self, channel: Channel, sink: &mut impl Sink) -> Result<(), Status> {
        let (queue, requests) = mpsc::channel(QUEUE);
        let limit = self.settings.max_message_bytes;
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(limit);
        self.greet::<D>(sink, &queue).await?;
        let mut responses = timeout(self.settings.connect_timeout(), D::open(&mut client, requests))
            .await
            .map_err(|_| Status::deadline_exceeded("opening the stream took too long"))??;
        let mut is_told = self.health.has_changed().is_ok();
        self.tell_health::<D>(&queue).await?;
        loop {
            tokio::select! {
                response = responses.message() => {
                    let Some(response) = response? else { return Ok(()) };
                    self.heard = true;
                    self.respond::<D>(response, sink, &queue).await?;
                }
                changed = self.health.changed(), if is_told => {
                    is_told = changed.is_ok();
                    self.tell_health::<D>(&queue).await?;
                }
            }
        }
    }

    async fn tell_health<D: Dialect>(&mut self, queue: &mpsc::Sender<D::Request>) -> Result<(), Status> {
        let health = self.health.borrow_and_update().clone();
        match health {
            Some(health) => self::send(queue, D::health(health)).await,
            None => Ok(()),
        }
    }

    /// The first requests of a connection; the very first names the node.
    async fn greet<D: Dialect>(&mut self, sink: &impl Sink, queue: &mpsc::Sender<D::Request>) -> Result<(), Status> {
        let mut node = Some(self.node.to_proto());
        for topic in self.topics.iter_mut() {
            topic.restart();
            if let Some(change) = topic.want(sink.wanted(topic.type_url)) {
                let mut request = D::ask(topic, change);
                if let Some(node) = node.take() {
                    D::sign(&mut request, node);
                }
                self::send(queue, request).await?;
            }
        }
        Ok(())
    }

    async fn respond<D: Dialect>(
        &mut self,
        response: D::Response,
        sink: &mut impl Sink,
        queue: &mpsc::Sender<D::Request>,
    ) -> Result<(), Status> {
        let envelope = D::envelope(&response);
        let Some(topic) = self.topics.iter_mut().find(|topic| topic.type_url == envelope.type_url) else {
            return Err(Status::internal(format!("a response of type {:?}, never asked for", envelope.type_url)));
        };
        topic.nonce = envelope.nonce;
        let error = hand_over::<D>(topic, response, sink).err();
        if let Some(message) = &error {
            tracing::warn!(type_url = topic.type_url, message, "configuration rejected; the old one stays");
        }
        self::send(queue, D::answer(topic, error)).await?;
        for topic in self.topics.iter_mut().filter(|topic| !type_url::is_wildcard(topic.type_url)) {
            if let Some(change) = topic.want(sink.wanted(topic.type_url)) {
                self::send(queue, D::ask(topic, change)).await?;
            }
        }
        Ok(())
    }
}

/// Reads a response and lets the sink apply it; only what it accepted counts as held.
fn hand_over<D: Dialect>(topic: &mut Topic, response: D::Response, sink: &mut impl Sink) -> Result<(), String> {
    let update = D::read(topic, response)?;
    let changed = update.changed.iter().map(|resource| (resource.name.clone(), resource.version.clone())).collect();
    let removed = update.removed.clone();
    sink.apply(topic.type_url, update.changed, update.removed).map_err(|rejection| rejection.message)?;
    topic.accept(changed, &removed, update.version);
    Ok(())
}

async fn send<T>(queue: &mpsc::Sender<T>, request: T) -> Result<(), Status> {
    match timeout(Duration::from_secs(30), queue.send(request)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Status::unavailable("the stream is closed")),
        Err(_) => Err(Status::unavailable("the server did not read for 30 seconds")),
    }
}

// === impl ClientSettings ===

impl ClientSettings {
    /// Sets the connect timeout and the keep-alive pings on an endpoint; who makes the channel calls this.
    pub fn tune(&self, endpoint: Endpoint) -> Endpoint {
        endpoint
            .connect_timeout(self.connect_timeout())
            .http2_keep_alive_interval(Duration::from_millis(self.keep_alive_interval_ms))
            .keep_alive_timeout(Duration::from_millis(self.keep_alive_timeout_ms))
            .keep_alive_while_idle(true)
    }

    fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    /// The wait after so many failures in a row; `jitter` is a factor from 0.5 to 1.
    fn backoff(&self, failures: u32, jitter: f64) -> Duration {
        let doubled = self.backoff_min_ms.saturating_mul(1 << failures.min(31));
        Duration::from_millis(doubled.min(self.backoff_max_ms)).mul_f64(jitter)
    }
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            mode: Mode::Delta,
            max_message_bytes: 64 << 20,
            connect_timeout_ms: 5000,
            backoff_min_ms: 10,
            backoff_max_ms: 15_000,
            keep_alive_interval_ms: 10_000,
            keep_alive_timeout_ms: 10_000,
        }
    }
}

impl From<Mode> for ClientSettings {
    fn from(mode: Mode) -> Self {
        Self { mode, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_and_is_bounded() {
        let settings = ClientSettings::default();
        assert_eq!(settings.backoff(0, 1.0), Duration::from_millis(10));
        assert_eq!(settings.backoff(3, 0.5), Duration::from_millis(40));
        for failures in [11, 31, 32, u32::MAX] {
            assert_eq!(settings.backoff(failures, 1.0), Duration::from_secs(15));
        }
    }
}
