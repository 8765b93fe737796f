//! What all connections of a sidecar share.

use crate::Settings;
use crate::acceptors::Acceptors;
use crate::connectors::Connectors;
use crate::destination::Destinations;
use crate::dynamic::Dynamic;
use crate::telemetry::Telemetry;
use arc_swap::ArcSwap;
use identity::{Identity, IdentityError};
use routing::{DownstreamTls, OutsideTls, RoutingTable};
use rustls::{ClientConfig, ServerConfig};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Shared by all connections; cheap to reach, never locked for long.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) identity: Identity,
    /// What is known of the mesh at the moment.
    pub(crate) table: ArcSwap<RoutingTable>,
    /// Tells that listeners may have changed in the table.
    pub(crate) listeners: watch::Sender<()>,
    pub(crate) destinations: Destinations,
    /// Names that are resolved when they are asked for.
    pub(crate) dynamic: Dynamic,
    pub(crate) telemetry: Arc<Telemetry>,
    /// Every task that serves somebody.
    pub(crate) tasks: TaskTracker,
    /// The connections to upstreams, which last as long as anybody is served and no longer.
    pub(crate) upstreams: TaskTracker,
    /// Finish what you do, begin nothing.
    pub(crate) drain: CancellationToken,
    /// Stop at once.
    pub(crate) abort: CancellationToken,
    /// Room for copies of requests.
    pub(crate) shadows: Arc<Semaphore>,
    began: Instant,
    acceptors: Acceptors,
    connectors: Connectors,
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(settings: Settings, identity: Identity, telemetry: Telemetry) -> Self {
        Self {
            listeners: watch::Sender::new(()),
            destinations: Destinations::default(),
            dynamic: Dynamic::new(settings.names),
            shadows: Arc::new(Semaphore::new(settings.shadows)),
            acceptors: Acceptors::new(settings.files()),
            connectors: Connectors::new(settings.files()),
            settings,
            identity,
            table: ArcSwap::from_pointee(RoutingTable::default()),
            telemetry: Arc::new(telemetry),
            tasks: TaskTracker::new(),
            upstreams: TaskTracker::new(),
            drain: CancellationToken::new(),
            abort: CancellationToken::new(),
            began: Instant::now(),
        }
    }

    /// The time on the clock by which endpoints are avoided.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// How TLS is taken at this moment; see [`Acceptors::of`].
    pub(crate) fn server(&self, tls: &DownstreamTls) -> Result<Arc<ServerConfig>, IdentityError> {
        self.acceptors.of(tls, &self.identity, &self.table.load())
    }

    /// How TLS is spoken to a server outside of the mesh at this moment; see [`Connectors::of`].
    pub(crate) fn client(&self, tls: &OutsideTls) -> Result<Arc<ClientConfig>, IdentityError> {
        self.connectors.of(tls, &self.table.load())
    }
}
