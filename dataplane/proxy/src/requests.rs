//! The requests of one connection: how many came, and whether any is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// Counts them.
#[derive(Default)]
pub(crate) struct Requests {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// One that is under way for as long as this lives.
pub(crate) struct UnderWay(Arc<Requests>);

// === impl Requests ===

impl Requests {
    /// One more.
    pub(crate) fn begin(self: &Arc<Self>) -> UnderWay {
        self.begun.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    /// Returns once there was none for `limit` to twice that; never if it is 0.
    pub(crate) async fn stillness(&self, limit: Duration) {
        if limit.is_zero() {
            std::future::pending::<()>().await;
        }
        let mut before = None;
        loop {
            let begun = self.begun.load(Ordering::Relaxed);
            let is_busy = begun != self.ended.load(Ordering::Relaxed);
            if !is_busy && before == Some(begun) {
                return;
            }
            before = (!is_busy).then_some(begun);
            sleep(limit).await;
        }
    }
}

// === impl UnderWay ===

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}
