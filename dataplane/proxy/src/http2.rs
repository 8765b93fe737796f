//! HTTP/2 connections to one endpoint: few, shared, and more of them as load asks for it.

use crate::body::RequestBody;
use crate::telemetry::Series;
use hyper::client::conn::http2::SendRequest;
use parking_lot::Mutex;
use routing::Life;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The connections to one endpoint.
#[derive(Default)]
pub(crate) struct Multiplexed {
    open: Mutex<Vec<Shared>>,
    /// Held by whoever opens one, so that a burst opens one and not one each.
    pub(crate) opening: tokio::sync::Mutex<()>,
}

struct Shared {
    sender: SendRequest<RequestBody>,
    series: Arc<Series>,
    active: Arc<AtomicUsize>,
    used: Instant,
    born: Instant,
    requests: u32,
}

/// A share of a connection for one request.
pub(crate) struct Share {
    pub(crate) sender: SendRequest<RequestBody>,
    pub(crate) series: Arc<Series>,
    pub(crate) place: Place,
}

/// Counts a request on its connection for as long as it lives.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

/// What [`Multiplexed::share`] found.
pub(crate) enum Found {
    /// A connection with room.
    Room(Share),
    /// The least busy one, and all are busy: another one may be opened.
    Busy(Share),
    /// None at all.
    Nothing,
}

// === impl Multiplexed ===

impl Multiplexed {
    /// The least busy connection; it has room if it carries fewer than `requests`, or no more than `connections` may be.
    pub(crate) fn share(&self, requests: usize, connections: usize, life: &Life) -> Found {
        let mut open = self.open.lock();
        open.retain(|shared| shared.lasts(life));
        let count = open.len();
        let Some(least) = open.iter_mut().min_by_key(|shared| shared.active.load(Ordering::Relaxed)) else {
            return Found::Nothing;
        };
        let has_room = least.active.load(Ordering::Relaxed) < requests || count >= connections;
        least.used = Instant::now();
        least.requests += 1;
        let share = least.share();
        if has_room { Found::Room(share) } else { Found::Busy(share) }
    }

    /// Adds a connection, and takes the first share of it.
    pub(crate) fn add(&self, sender: SendRequest<RequestBody>, series: Arc<Series>) -> Share {
        let now = Instant::now();
        let shared = Shared { sender, series, active: Arc::default(), used: now, born: now, requests: 1 };
        let share = shared.share();
        self.open.lock().push(shared);
        share
    }

    /// Whether there is any.
    pub(crate) fn is_open(&self) -> bool {
        !self.open.lock().is_empty()
    }

    /// Drops what carried nothing for longer than `limit`.
    pub(crate) fn expire(&self, limit: Duration) {
        let is_used = |shared: &Shared| shared.active.load(Ordering::Relaxed) > 0 || shared.used.elapsed() < limit;
        self.open.lock().retain(|shared| is_used(shared) && !shared.sender.is_closed());
    }
}

// === impl Shared ===

impl Shared {
    /// Whether it may carry another request.
    fn lasts(&self, life: &Life) -> bool {
        let young = life.longest.is_none_or(|longest| self.born.elapsed() < longest);
        young && life.requests.is_none_or(|most| self.requests < most) && !self.sender.is_closed()
    }

    fn share(&self) -> Share {
        self.active.fetch_add(1, Ordering::Relaxed);
        Share { sender: self.sender.clone(), series: self.series.clone(), place: Place(self.active.clone()) }
    }
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
