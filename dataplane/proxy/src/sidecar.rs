//! The sidecar as a whole: begun, fed, drained.

use crate::decision;
use crate::listen::Listening;
use crate::shared::Shared;
use crate::state::State;
use crate::telemetry::{Metrics, Owner, Telemetry};
use crate::{ProxyError, Settings};
use arc_swap::ArcSwap;
use dns::Zone;
use identity::Identity;
use model::{Namespace, TrustBundle};
use routing::{Resources, RoutingTable};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// What a sidecar is made of.
pub struct Parts {
    /// Who it is; its bundles are set from what the control plane tells.
    pub identity: Identity,
    /// The roots of its own trust domain.
    pub own_bundle: TrustBundle,
    /// The workload as metrics name it.
    pub owner: Owner,
    /// The workload's namespace, by which short names are completed.
    pub namespace: Namespace,
    /// Where it counts.
    pub metrics: Metrics,
    /// Where it puts the names for a DNS server.
    pub zone: Arc<ArcSwap<Zone>>,
}

/// A sidecar.
pub struct Sidecar {
    shared: Arc<Shared>,
    changes: watch::Receiver<bool>,
    ready: watch::Sender<bool>,
}

/// How often waiting connections are looked through, and addresses tried again that could not be bound.
const UPKEEP: Duration = Duration::from_secs(1);

// === impl Sidecar ===

impl Sidecar {
    /// A sidecar that waits for its configuration, and the sink that takes it.
    pub fn new(settings: Settings, parts: Parts) -> (Self, impl xds::Sink) {
        let telemetry = Telemetry::new(parts.metrics, parts.owner);
        let shared = Arc::new(Shared::new(settings, parts.identity, telemetry));
        let (complete, changes) = watch::channel(false);
        let state = State {
            shared: shared.clone(),
            resources: Resources::default(),
            own_bundle: parts.own_bundle,
            namespace: parts.namespace,
            zone: parts.zone,
            complete,
        };
        (Self { shared, changes, ready: watch::Sender::new(false) }, state)
    }

    /// The table of the moment, whenever it is asked for.
    pub fn tables(&self) -> impl Fn() -> Arc<RoutingTable> + Send + Sync + use<> {
        let shared = self.shared.clone();
        move || shared.table.load_full()
    }

    /// What would be decided at this moment: for each name that is routed, the upstream and the endpoint, as text.
    pub fn decisions(&self) -> impl Fn() -> String + Send + Sync + use<> {
        let shared = self.shared.clone();
        move || decision::all(&shared)
    }

    /// Becomes true once the whole configuration came and all its sockets listen.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Serves until `shutdown`; then no connection is taken any more, and those that are open have the drain time to
    /// end.
    ///
    /// # Errors
    /// None at present; what cannot be bound is tried again.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), ProxyError> {
        let mut listening = Listening::new(self.shared.clone());
        let mut upkeep = interval(UPKEEP);
        upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let has_all = listening.follow();
            if has_all && *self.changes.borrow_and_update() {
                self.ready.send_replace(true);
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = self.changes.changed() => if changed.is_err() {
                    // Nobody feeds it any more; it goes on with what it has.
                    shutdown.cancelled().await;
                    break;
                },
                _ = upkeep.tick() => {
                    let named = self.shared.dynamic.sweep();
                    self.shared.destinations.sweep(&self.shared.table.load(), named, self.shared.settings.pool_idle());
                }
            }
        }
        self.drain().await;
        Ok(())
    }

    async fn drain(&self) {
        self.shared.drain.cancel();
        self.shared.tasks.close();
        let limit = self.shared.settings.drain();
        if timeout(limit, self.shared.tasks.wait()).await.is_err() {
            tracing::info!(?limit, "connections left after the drain are cut");
        }
        self.shared.abort.cancel();
        self.shared.tasks.wait().await;
        self.shared.upstreams.close();
        self.shared.upstreams.wait().await;
    }
}
