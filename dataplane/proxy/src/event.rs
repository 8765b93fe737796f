//! Something that happens once, and that others wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Waits for it.
#[derive(Clone, Default)]
pub(crate) struct Event(Arc<State>);

/// It happens when this goes away.
pub(crate) struct Cause(Event);

#[derive(Default)]
struct State {
    happened: AtomicBool,
    waiting: Notify,
}

// === impl Event ===

impl Event {
    /// An event, and what causes it.
    pub(crate) fn new() -> (Self, Cause) {
        let event = Self::default();
        (event.clone(), Cause(event))
    }

    pub(crate) async fn wait(&self) {
        loop {
            let notified = self.0.waiting.notified();
            if self.0.happened.load(Ordering::Acquire) {
                return;
            }
            notified.await;
        }
    }
}

// === impl Cause ===

impl Drop for Cause {
    fn drop(&mut self) {
        let state = &self.0.0;
        state.happened.store(true, Ordering::Release);
        state.waiting.notify_waiters();
    }
}
