//! One client's stream: its own task, so that no client waits for another.
//!
//! ```text
//! request  -> Subscription.receive -> observe -> next() of that type        -> bounded queue -> client
//! snapshot -> Subscription.moved   -> clusters, endpoints; once they are taken: the others, then removals -> client
//! ```
//! Make before break: a route must not name a cluster that the client has not taken in yet, and no acknowledgement comes
//! before what it acknowledges is in use.
//! While the client does not read, the task waits at the queue and snapshots pass it by: it then sends the latest only.

use crate::exchange::{Request, Verdict};
use crate::server::{Event, ServerSettings, Source};
use crate::snapshot::DiffItem;
use crate::subscription::{Limits, Phase, Subscription};
use crate::wire::{Asked, Wire};
use crate::{Node, Snapshot, type_url};
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

/// The task's state.
pub(crate) struct Stream<W: Wire, S: Source> {
    source: Arc<S>,
    node: Node,
    settings: Arc<ServerSettings>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    /// The snapshot that the client is being brought to.
    current: Arc<Snapshot>,
    /// One per type, in push order.
    subscriptions: [Subscription; type_url::ORDER.len()],
    queue: mpsc::Sender<W::Response>,
    /// When clusters and endpoints that a reconnected client still holds, but that are gone, are removed.
    removal: Option<Instant>,
    /// What waits for clusters and endpoints to be taken.
    held: Option<Held>,
    /// Clusters whose endpoints the client is still to ask for; perhaps some for which it has.
    awaited: BTreeSet<Arc<str>>,
    rate: Rate,
}

/// Listeners, routes and removals that wait.
struct Held {
    /// The snapshot that the client's listeners and routes are of.
    old: Arc<Snapshot>,
    /// When they wait no longer.
    until: Instant,
}

/// The client's end of the queue. It ends with the status of [`Cut`], at once, whatever is still in the queue.
pub(crate) struct Outbound<M> {
    queue: mpsc::Receiver<M>,
    cut: Cut,
}

/// Says why a stream ended.
#[derive(Clone, Default)]
pub(crate) struct Cut(Arc<OnceLock<Status>>);

/// Counts requests in windows of one second.
struct Rate {
    window: Instant,
    seen: u32,
}

// === impl Stream ===

impl<W: Wire, S: Source> Stream<W, S> {
    pub(crate) fn new(
        source: Arc<S>,
        node: Node,
        settings: Arc<ServerSettings>,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        queue: mpsc::Sender<W::Response>,
    ) -> Self {
        let limits = Limits { names: settings.max_subscriptions, response_bytes: settings.max_response_bytes };
        let current = snapshots.borrow_and_update().clone();
        let awaited = current.get(type_url::ENDPOINT).keys().cloned().collect();
        Self {
            source,
            node,
            settings,
            snapshots,
            current,
            subscriptions: type_url::ORDER.map(|type_url| Subscription::new(type_url, W::VARIANT, limits)),
            queue,
            removal: None,
            held: None,
            awaited,
            rate: Rate { window: Instant::now(), seen: 0 },
        }
    }

    /// Serves until one side ends it.
    pub(crate) async fn run(
        mut self,
        first: W::Request,
        inbound: Streaming<W::Request>,
        end: &CancellationToken,
    ) -> Result<(), Status> {
        let ended = tokio::select! {
            ended = self.serve(first, inbound) => ended,
            () = end.cancelled() => Err(Status::unavailable("the server ends this stream; connect again")),
        };
        self.source.closed(&self.node);
        ended
    }

    async fn serve(&mut self, first: W::Request, mut inbound: Streaming<W::Request>) -> Result<(), Status> {
        self.request(W::take(first)).await?;
        loop {
            let (removal, held) = (self.removal, self.held.as_ref().map(|held| held.until));
            tokio::select! {
                request = inbound.message() => match request? {
                    Some(request) => self.request(W::take(request)).await?,
                    None => return Ok(()),
                },
                changed = self.snapshots.changed() => {
                    changed.map_err(|_| Status::unavailable("there is no source any more"))?;
                    self.push().await?;
                }
                () = at(removal) => self.send_removals().await?,
                () = at(held) => self.release().await?,
                () = self.queue.closed() => return Ok(()),
            }
        }
    }

    async fn request(&mut self, asked: Asked) -> Result<(), Status> {
        self.rate.admit(self.settings.max_requests_per_second)?;
        if asked.node.is_some_and(|node| !node.id.is_empty() && node.id != self.node.id) {
            return Err(Status::invalid_argument("the node must not change within a stream"));
        }
        if asked.type_url == type_url::HEALTH {
            self.source.health(&self.node, asked.request.error.map_or(Ok(()), Err));
            return Ok(());
        }
        let Some(index) = type_url::ORDER.iter().position(|known| *known == asked.type_url) else {
            return unknown(&asked.type_url);
        };
        self.receive(index, asked.request)?;
        if self.held.is_none() || ![LISTENER, ROUTE].contains(&index) {
            self.send_type(index, Phase::Make, &self.current.clone()).await?;
        }
        // What was told to a type may be awaited in another: clusters wait for their endpoints.
        self.send_type(ENDPOINT, Phase::Make, &self.current.clone()).await?;
        if self.is_settled() {
            self.release().await?;
        }
        if self.removal.is_none() {
            self.removal = Some(Instant::now() + Duration::from_millis(self.settings.removal_delay_ms));
        }
        Ok(())
    }

    fn receive(&mut self, index: usize, request: Request) -> Result<(), Status> {
        let type_url = type_url::ORDER[index];
        let nonce = request.nonce.clone();
        let verdict = self.subscriptions[index]
            .receive(request)
            .map_err(|excess| Status::resource_exhausted(format!("{type_url}: {excess}")))?;
        match verdict {
            Verdict::Silent => {}
            Verdict::Accepted => self.source.observe(&self.node, Event::Ack { type_url, nonce }),
            Verdict::Rejected(message) => {
                tracing::warn!(node = %self.node.id, type_url, message, "a proxy rejects its configuration");
                self.source.observe(&self.node, Event::Nack { type_url, nonce, message });
            }
        }
        Ok(())
    }

    /// Brings the client to the latest snapshot: make, then break.
    async fn push(&mut self) -> Result<(), Status> {
        let new = self.snapshots.borrow_and_update().clone();
        let old = std::mem::replace(&mut self.current, new);
        for subscription in &mut self.subscriptions {
            subscription.moved(&self.current, &old);
        }
        for difference in old.get(type_url::ENDPOINT).diff(self.current.get(type_url::ENDPOINT)) {
            match difference {
                DiffItem::Add(name, _) => self.awaited.insert(name.clone()),
                DiffItem::Remove(name, _) => self.awaited.remove(name),
                DiffItem::Update { .. } => false,
            };
        }
        // Pushes that come while others wait do not let those wait any longer.
        let (old, until) = match self.held.take() {
            Some(held) => (held.old, held.until),
            None => (old, Instant::now() + Duration::from_millis(self.settings.settle_ms)),
        };
        self.send_type(CLUSTER, Phase::Make, &old).await?;
        self.send_type(ENDPOINT, Phase::Make, &old).await?;
        self.held = Some(Held { old, until });
        if self.is_settled() { self.release().await } else { Ok(()) }
    }

    /// Whether the client has taken all clusters and endpoints that it was sent, and asked for those that it must.
    fn is_settled(&mut self) -> bool {
        let endpoints = &self.subscriptions[ENDPOINT];
        self.awaited.retain(|name| !endpoints.was_sent(name));
        self.held.is_some()
            && self.awaited.is_empty()
            && self.subscriptions[CLUSTER].is_settled()
            && endpoints.is_settled()
    }

    /// Sends what has waited, if anything has: make, then break.
    async fn release(&mut self) -> Result<(), Status> {
        let Some(Held { old, .. }) = self.held.take() else { return Ok(()) };
        for index in 0..self.subscriptions.len() {
            self.send_type(index, Phase::Make, &old).await?;
        }
        for index in [CLUSTER, ENDPOINT] {
            self.send_type(index, Phase::Break, &old).await?;
        }
        Ok(())
    }

    async fn send_removals(&mut self) -> Result<(), Status> {
        self.removal = None;
        if self.held.is_some() {
            // The client's listeners and routes may still name them: they go when those have gone.
            return Ok(());
        }
        for index in [CLUSTER, ENDPOINT] {
            self.send_type(index, Phase::Break, &self.current.clone()).await?;
        }
        Ok(())
    }

    /// Sends all that one type has to say in one phase.
    async fn send_type(&mut self, index: usize, phase: Phase, old: &Snapshot) -> Result<(), Status> {
        while let Some(response) = self.subscriptions[index].next(&self.current, old, phase) {
            if index == CLUSTER {
                self.subscriptions[ENDPOINT].repeat(&response.fresh);
            }
            let message = W::write(type_url::ORDER[index], response);
            let wait = Duration::from_millis(self.settings.write_timeout_ms);
            let sent = tokio::time::timeout(wait, self.queue.send(message)).await;
            sent.map_err(|_| Status::unavailable(format!("the client did not read for {wait:?}")))?
                .map_err(|_| Status::cancelled("the client left"))?;
        }
        Ok(())
    }
}

/// Places in [`type_url::ORDER`].
const CLUSTER: usize = 0;
const ENDPOINT: usize = 1;
const LISTENER: usize = 2;
const ROUTE: usize = 3;

fn unknown(type_url: &str) -> Result<(), Status> {
    if type_url.contains("debug") {
        return Err(Status::permission_denied("debug types are not served"));
    }
    tracing::debug!(type_url = %type_url.chars().take(200).collect::<String>(), "a type that is not served");
    Ok(())
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

// === impl Rate ===

impl Rate {
    fn admit(&mut self, most: u32) -> Result<(), Status> {
        if self.window.elapsed() >= Duration::from_secs(1) {
            *self = Self { window: Instant::now(), seen: 0 };
        }
        self.seen += 1;
        if self.seen > most {
            return Err(Status::resource_exhausted(format!("more than {most} requests in a second")));
        }
        Ok(())
    }
}

// === impl Outbound ===

impl<M> Outbound<M> {
    pub(crate) fn new(queue: mpsc::Receiver<M>) -> (Self, Cut) {
        let cut = Cut::default();
        (Self { queue, cut: cut.clone() }, cut)
    }
}

impl<M> tokio_stream::Stream for Outbound<M> {
    type Item = Result<M, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = if self.cut.0.get().is_some() { Poll::Ready(None) } else { self.queue.poll_recv(context) };
        match next {
            Poll::Ready(None) => Poll::Ready(self.cut.0.get().cloned().map(Err)),
            next => next.map(|message| message.map(Ok)),
        }
    }
}

// === impl Cut ===

impl Cut {
    /// Ends the stream with `status`; the first call counts.
    pub(crate) fn with(&self, status: Status) {
        self.0.get_or_init(|| status);
    }
}
