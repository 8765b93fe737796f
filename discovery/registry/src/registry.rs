//! The registry as its users see it.
//!
//! ```text
//! files ──┐
//! peers ──┼─▶ events ─▶ the one writer ─▶ merge ─▶ watch<Arc<Catalog>>
//! gateways┘
//! ```

use crate::event::{Event, GatewayEvent};
use crate::offers::Offers;
use crate::registrations::Registrations;
use crate::source::address::{Addresses, Wishes};
use crate::source::directory::Directory;
use crate::source::workload::Registrar;
use crate::source::{file, peer, presence};
use crate::writer::{Outlets, Writer};
use crate::{Metrics, RegistryError, Settings, Status};
use federation::health;
use model::Catalog;
use resource::Document;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::Store;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What exists, kept current. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registry {
    /// Every service of the federation. Holds the files' services from the start; the peers' follow.
    pub catalog: watch::Receiver<Arc<Catalog>>,
    /// The documents of all good files, for those who know the kinds that we do not.
    pub documents: watch::Receiver<Arc<Vec<Document>>>,
    /// What there is to tell about the sources.
    pub status: watch::Receiver<Arc<Status>>,
    /// Where the own cluster's gateways are reported.
    pub gateway_events: mpsc::Sender<GatewayEvent>,
    /// Where workloads register themselves.
    pub registrations: Registrations,
    tasks: TaskTracker,
}

/// How many events may wait for the writer.
const EVENTS: usize = 1_024;
/// How often the writer looks at the clock.
const TICK: Duration = Duration::from_secs(1);

// === impl Registry ===

impl Registry {
    /// Starts a registry, which ends at `shutdown`. Reads the directory once before it returns, and waits for nothing
    /// else: without a `store` there are no peers' services, and addresses are chosen by hash alone.
    ///
    /// Must be called within a tokio runtime. Fails only if the peers' settings are wrong.
    pub fn start(
        settings: Settings,
        store: Option<Store>,
        metrics: Metrics,
        shutdown: &CancellationToken,
    ) -> Result<Self, RegistryError> {
        let now = Instant::now();
        let peers = settings.peer_keys()?;
        let (catalog, catalog_reader) = watch::channel(Arc::new(Catalog::new(settings.cluster.clone())));
        let (documents, documents_reader) = watch::channel(Arc::default());
        let (status, status_reader) = watch::channel(Arc::default());
        let (wishes, wishes_reader) = watch::channel(Arc::<Wishes>::default());
        let (gateway_events, gateway_inlet) = mpsc::channel(EVENTS);
        let (events, inlet) = mpsc::channel(EVENTS);

        let own = (settings.cluster.clone(), settings.own_bundle.clone());
        let outlets = Outlets { catalog, documents, status, wishes };
        let health = health::Settings { suspect_after: settings.suspect_after, forget_after: settings.forget_after };
        let mut writer = Writer::new(own.0, own.1, &peers, health, (metrics.clone(), outlets), now);
        let limits = (settings.limits.file, settings.limits.files);
        let mut directory = Directory::new(settings.directory.clone(), limits, settings.check.clone());
        directory.read();
        writer.apply(Event::Files(directory.view()), now);
        writer.publish(now);

        let tasks = TaskTracker::new();
        tasks.spawn(file::run(directory, events.clone(), shutdown.clone()));
        let registrations = Registrations::new(settings.controller.clone());
        let registrar = Registrar::new(&settings, registrations.clone(), store.clone());
        tasks.spawn(registrar.run(events.clone(), shutdown.clone()));
        if let Some(store) = store {
            if let Some(controller) = &settings.controller {
                let who = (settings.cluster.clone(), controller.name.clone());
                tasks.spawn(presence::run(who, settings.registry_key.clone(), store.clone(), shutdown.clone()));
            }
            let own = settings.cluster.id.clone();
            for (id, keys) in peers {
                let offers = Offers::new(keys, own.clone(), &settings.limits);
                let whose = (id, own.clone());
                tasks.spawn(peer::run(whose, offers, store.clone(), metrics.clone(), events.clone(), shutdown.clone()));
            }
            let addresses = Addresses::new(settings.cluster, settings.registry_key, store);
            tasks.spawn(addresses.run(wishes_reader, events, shutdown.clone()));
        }
        tasks.spawn(write(writer, metrics, inlet, gateway_inlet, shutdown.clone()));
        tasks.close();
        let (catalog, documents, status) = (catalog_reader, documents_reader, status_reader);
        Ok(Self { catalog, documents, status, gateway_events, registrations, tasks })
    }

    /// Returns when every peer's part of the store has been read once, or after `at_most`: a control plane that waits
    /// for this after its own restart does not take remote services away from proxies that have them.
    pub async fn settled(&self, at_most: Duration) {
        let mut status = self.status.clone();
        let read = status.wait_for(|status| status.peers.values().all(|peer| peer.read));
        // Whether it is read or time is over: start with what there is.
        let _ = tokio::time::timeout(at_most, read).await;
    }

    /// Returns when all tasks have ended, after shutdown.
    pub async fn stopped(&self) {
        self.tasks.wait().await;
    }
}

async fn write(
    mut writer: Writer,
    metrics: Metrics,
    mut events: mpsc::Receiver<Event>,
    mut gateways: mpsc::Receiver<GatewayEvent>,
    shutdown: CancellationToken,
) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let mut changed = false;
        let arrived;
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(event) = events.recv() => {
                arrived = Instant::now();
                changed |= writer.apply(event, arrived);
            }
            Some(event) = gateways.recv() => {
                arrived = Instant::now();
                changed |= writer.gateway(event, arrived);
            }
            _ = tick.tick() => arrived = Instant::now(),
        }
        // What waits already is taken in together: one catalog shows it all.
        for _ in 0..EVENTS {
            let Ok(event) = events.try_recv() else { break };
            changed |= writer.apply(event, arrived);
        }
        for _ in 0..EVENTS {
            let Ok(event) = gateways.try_recv() else { break };
            changed |= writer.gateway(event, arrived);
        }
        let now = Instant::now();
        changed |= writer.tick(now);
        if changed {
            writer.publish(now);
            metrics.lag.observe(arrived.elapsed().as_secs_f64());
        } else {
            writer.tell(now);
        }
    }
}
