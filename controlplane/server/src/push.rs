//! The pusher: gathers changes, translates them for every proxy, and tells each what is different.
//!
//! ```text
//! catalog, documents -> Debounce -> World, and what is different in it
//!     -> batches of equal proxies -> translate, or no more than the difference (a few at once) -> tell
//! ```

use crate::debounce::Debounce;
use crate::proxies::{Batch, Proxies};
use crate::registration::Registration;
use crate::world::{Urgency, World, urgency};
use crate::{DebounceSettings, Metrics, Settings};
use config::{FetchedKeys, Intent, JwtKeys};
use futures_util::StreamExt;
use model::Catalog;
use registry::Registry;
use resource::{Document, ResourceError};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use translate::{retranslate, translate};

/// What the pusher's task owns.
pub(crate) struct Pusher {
    pub(crate) proxies: Proxies,
    /// Where errors of the configuration are told.
    pub(crate) errors: watch::Sender<Arc<Vec<ResourceError>>>,
    registry: Registry,
    catalog: watch::Receiver<Arc<Catalog>>,
    documents: watch::Receiver<Arc<Vec<Document>>>,
    debounce: DebounceSettings,
    settle: Duration,
    translations: usize,
    waiting: Debounce,
    /// What was seen last, pushed or not.
    seen: Arc<Catalog>,
    intent: Arc<Intent>,
    /// What it was made of, or would have been if it had been good.
    read: Arc<Vec<Document>>,
    keys: Keys,
}

/// The keys of tokens: which are wanted, and which are known.
pub(crate) struct Keys {
    pub(crate) wanted: watch::Sender<BTreeSet<JwtKeys>>,
    pub(crate) known: watch::Receiver<FetchedKeys>,
}

// === impl Pusher ===

impl Pusher {
    /// A pusher of what `registry` knows.
    pub(crate) fn new(registry: Registry, keys: Keys, settings: &Settings, metrics: Metrics) -> Self {
        let (mut catalog, mut documents) = (registry.catalog.clone(), registry.documents.clone());
        let errors = watch::Sender::default();
        let seen = catalog.borrow_and_update().clone();
        let documents_now = documents.borrow_and_update().clone();
        let intent = read(&documents_now, &errors).unwrap_or_default();
        keys.want(&intent);
        Self {
            proxies: Proxies::new(World::new(seen.clone(), intent.clone()), Registration::new(&registry), metrics),
            registry,
            catalog,
            documents,
            errors,
            debounce: settings.debounce,
            settle: Duration::from_millis(settings.settle_ms),
            translations: settings.translations.max(1),
            waiting: Debounce::default(),
            seen,
            intent,
            read: documents_now,
            keys,
        }
    }

    /// Pushes until `shutdown`, or until the registry has ended.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = self.settled() => {}
        }
        self.see_catalog();
        self.see_documents();
        self.renew_world();
        let proxies = self.proxies.clone();
        proxies.set_ready();
        loop {
            let due = self.waiting.due(&self.debounce);
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = self.catalog.changed() => match changed {
                    Ok(()) => self.see_catalog(),
                    Err(_) => return,
                },
                changed = self.documents.changed() => match changed {
                    Ok(()) => self.see_documents(),
                    Err(_) => return,
                },
                // Nobody but us tells the keeper to end.
                Ok(()) = self.keys.known.changed() => self.see_keys(),
                () = proxies.stale() => self.push(None).await,
                () = at(due) => {
                    let since = self.renew_world();
                    self.push(since).await;
                }
            }
        }
    }

    /// Returns when the world is as complete as it was before a restart, or after the settled time: when every peer's
    /// records have been read once, and a gateway that leads to them has reported. Proxies that were told less would
    /// drop what they have.
    async fn settled(&self) {
        let begun = Instant::now();
        self.registry.settled(self.settle).await;
        let mut catalog = self.catalog.clone();
        let leads_on = catalog.wait_for(|catalog| catalog.peers.is_empty() || !catalog.gateways.is_empty());
        // Whether it has come or time is over: start with what there is.
        let _ = tokio::time::timeout(self.settle.saturating_sub(begun.elapsed()), leads_on).await;
    }

    /// What was seen last is now what proxies are told; since when it waited.
    fn renew_world(&mut self) -> Option<Instant> {
        let next = self.proxies.world().next(self.seen.clone(), self.intent.clone());
        self.proxies.set_world(next);
        self.waiting.take()
    }

    fn see_catalog(&mut self) {
        let catalog = self.catalog.borrow_and_update().clone();
        self.waiting.note(urgency(&self.seen, &catalog), Instant::now());
        self.seen = catalog;
    }

    fn see_documents(&mut self) {
        let documents = self.documents.borrow_and_update().clone();
        let before = std::mem::replace(&mut self.read, documents.clone());
        if Intent::is_same_of(&before, &documents) {
            return;
        }
        let Some(intent) = read(&documents, &self.errors) else { return };
        self.keys.want(&intent);
        self.follow(self.keys.with(&intent));
    }

    fn see_keys(&mut self) {
        self.follow(self.keys.with(&self.intent));
    }

    fn follow(&mut self, intent: Arc<Intent>) {
        if intent != self.intent {
            self.intent = intent;
            self.waiting.note(Urgency::Configuration, Instant::now());
        }
    }

    /// Tells the world to all proxies that were told an older one.
    async fn push(&self, since: Option<Instant>) {
        let world = self.proxies.world();
        let batches = self.proxies.behind(world.generation);
        let count = batches.len();
        let pushed = futures_util::stream::iter(batches).for_each_concurrent(self.translations, |batch| {
            let (world, proxies) = (world.clone(), self.proxies.clone());
            async move { tell(&proxies, batch, world, since).await }
        });
        pushed.await;
        let took = since.map(|since| since.elapsed());
        tracing::debug!(generation = world.generation, translations = count, ?took, "pushed");
    }
}

// === impl Keys ===

impl Keys {
    fn want(&self, intent: &Intent) {
        let wanted = FetchedKeys::wanted(intent);
        self.wanted.send_if_modified(|before| {
            let is_new = *before != wanted;
            *before = wanted;
            is_new
        });
    }

    /// `intent` with the keys that are known now.
    fn with(&self, intent: &Arc<Intent>) -> Arc<Intent> {
        let keys = self.known.borrow().clone();
        if intent.keys == keys { intent.clone() } else { Arc::new(Intent { keys, ..Intent::clone(intent) }) }
    }
}

async fn tell(proxies: &Proxies, batch: Batch, world: Arc<World>, since: Option<Instant>) {
    let (generation, sharing) = (world.generation, proxies.clone());
    let translated = tokio::task::spawn_blocking(move || {
        let (catalog, intent) = (&world.catalog, &world.intent);
        let snapshot = if batch.generation + 1 == world.generation {
            retranslate(&batch.told, &world.change, catalog, intent, &batch.node, &batch.identity)
        } else {
            translate(catalog, intent, &batch.node, &batch.identity)
        };
        (sharing.shared(&batch.node, snapshot, &batch.told), batch)
    });
    match translated.await {
        Ok((snapshot, batch)) => proxies.tell(&batch, &snapshot, generation, since),
        Err(error) => tracing::error!(%error, "a translation did not end: its proxies keep what they have"),
    }
}

/// The intent of `documents`; none if anything in them is wrong, which is told.
fn read(documents: &[Document], errors: &watch::Sender<Arc<Vec<ResourceError>>>) -> Option<Arc<Intent>> {
    match Intent::from_documents(documents) {
        Ok(intent) => {
            errors.send_replace(Arc::default());
            for warning in &intent.warnings {
                tracing::warn!(%warning, "configuration that is not honoured");
            }
            Some(Arc::new(intent))
        }
        Err(wrong) => {
            for error in &wrong {
                tracing::error!(%error, "the configuration is wrong: the last good one is kept");
            }
            errors.send_replace(Arc::new(wrong));
            None
        }
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
