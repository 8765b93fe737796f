//! Something that happens once, and that others wait for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::sync::Notify;

/// Waits for it.
#[derive(Clone, Default)]
pub(crate) struct Event(Arc<State>);

/// It happens when this goes away.
pub(crate) struct Cause(Event);

#[derive(Default)]
struct State {
    happened: OnceLock<Instant>,
    failed: AtomicBool,
    waiting: Notify,
}

// === impl Event ===

impl Event {
    /// An event, and what causes it.
    pub(crate) fn new() -> (Self, Cause) {
        let event = Self::default();
        (event.clone(), Cause(event))
    }

    /// When it happened, if it did.
    pub(crate) fn when(&self) -> Option<Instant> {
        self.0.happened.get().copied()
    }

    /// Whether it did not come about as it should have.
    pub(crate) fn failed(&self) -> bool {
        self.0.failed.load(Ordering::Relaxed)
    }

    pub(crate) async fn wait(&self) {
        loop {
            let notified = self.0.waiting.notified();
            if self.0.happened.get().is_some() {
                return;
            }
            notified.await;
        }
    }
}

// === impl Cause ===

impl Cause {
    /// It does not come about as it should.
    pub(crate) fn fail(&self) {
        self.0.0.failed.store(true, Ordering::Relaxed);
    }
}

impl Drop for Cause {
    fn drop(&mut self) {
        let state = &self.0.0;
        // There is one cause only.
        let _ = state.happened.set(Instant::now());
        state.waiting.notify_waiters();
    }
}
