//! One endpoint as one upstream speaks to it: its TLS, and the connections that wait for their next request.

use crate::body::RequestBody;
use crate::http2::Multiplexed;
use crate::telemetry::Series;
use hyper::client::conn::http1::SendRequest;
use identity::{Expected, Identity, client_config};
use parking_lot::{Mutex, RwLock};
use routing::{Discovery, Endpoint, RoutingTable, Upstream, UpstreamSettings};
use rustls::ClientConfig;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// All destinations that were used and still are in the table.
#[derive(Default)]
pub(crate) struct Destinations(RwLock<HashMap<u64, Arc<Destination>>>);

/// One endpoint of one upstream.
pub(crate) struct Destination {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) settings: Arc<UpstreamSettings>,
    pub(crate) http2: Multiplexed,
    idle: Mutex<VecDeque<Idle>>,
    open: AtomicUsize,
    is_widening: AtomicBool,
    tls: OnceLock<Arc<ClientConfig>>,
}

/// An HTTP/1 connection, and what is counted for it.
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<RequestBody>,
    pub(crate) series: Arc<Series>,
}

/// Counts an HTTP/1 connection as open for as long as it lives.
pub(crate) struct Open(Arc<Destination>);

/// One more connection is being opened; there is at most one of these.
pub(crate) struct Widening(Arc<Destination>);

struct Idle {
    connection: Connection,
    since: Instant,
}

/// How many waiting connections are looked at for one that is ready.
const LOOKED_AT: usize = 8;

// === impl Destinations ===

impl Destinations {
    /// The destination for an endpoint that was picked. One for an original destination is not kept: the table does
    /// not know it, so nobody would ever take it away.
    pub(crate) fn of(&self, upstream: &Upstream, endpoint: Arc<Endpoint>) -> Arc<Destination> {
        if let Some(known) = self.0.read().get(&endpoint.id) {
            return known.clone();
        }
        let new = Arc::new(Destination::new(endpoint, upstream.settings.clone()));
        if upstream.settings.discovery == Discovery::OriginalDestination {
            return new;
        }
        self.0.write().entry(new.endpoint.id).or_insert(new).clone()
    }

    /// Forgets what is not in `table`, and closes what waited for longer than `idle`.
    pub(crate) fn sweep(&self, table: &RoutingTable, idle: Duration) {
        let endpoints = table.upstreams.values().flat_map(|upstream| &upstream.endpoints);
        let known: HashSet<u64> = endpoints.map(|endpoint| endpoint.id).collect();
        let mut all = self.0.write();
        all.retain(|id, _| known.contains(id));
        for destination in all.values() {
            destination.expire(idle);
        }
    }
}

// === impl Destination ===

impl Destination {
    fn new(endpoint: Arc<Endpoint>, settings: Arc<UpstreamSettings>) -> Self {
        Self {
            endpoint,
            settings,
            http2: Multiplexed::default(),
            idle: Mutex::default(),
            open: AtomicUsize::new(0),
            is_widening: AtomicBool::new(false),
            tls: OnceLock::new(),
        }
    }

    /// How TLS is spoken to it, and the server name to send.
    pub(crate) fn client(&self, identity: &Identity) -> Option<(Arc<ClientConfig>, &str)> {
        let tls = self.settings.tls.as_ref()?;
        let config = self.tls.get_or_init(|| {
            let alpn: Vec<&[u8]> = tls.alpn.iter().map(String::as_bytes).collect();
            client_config(identity, Expected::Exactly(Arc::new(tls.expected.clone())), &alpn)
        });
        Some((config.clone(), &tls.sni))
    }

    /// Counts a connection that is about to be opened.
    pub(crate) fn open(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(self.clone())
    }

    /// Leave to open one more connection, if this is a gateway and fewer than `limit` are open.
    pub(crate) fn widening(self: &Arc<Self>, limit: usize) -> Option<Widening> {
        let wanted = self.endpoint.facts.clusters.is_some() && self.open.load(Ordering::Relaxed) < limit;
        (wanted && !self.is_widening.swap(true, Ordering::Relaxed)).then(|| Widening(self.clone()))
    }

    /// A connection that is ready for a request. Behind a gateway each connection ends at an endpoint of its own, so
    /// the one that waited longest is next; elsewhere the one that waited least, so that the others may expire.
    pub(crate) fn idle(&self) -> Option<Connection> {
        let takes_turns = self.endpoint.facts.clusters.is_some();
        let mut idle = self.idle.lock();
        let mut busy = Vec::new();
        let mut found = None;
        while busy.len() < LOOKED_AT {
            let next = if takes_turns { idle.pop_front() } else { idle.pop_back() };
            let Some(next) = next else { break };
            if next.connection.sender.is_closed() {
                continue;
            }
            if next.connection.sender.is_ready() {
                found = Some(next.connection);
                break;
            }
            busy.push(next);
        }
        for waiting in busy {
            if takes_turns { idle.push_front(waiting) } else { idle.push_back(waiting) }
        }
        found
    }

    /// Keeps a connection whose answer was read to its end; at most `limit` of them.
    pub(crate) fn keep(&self, connection: Connection, limit: usize) {
        let mut idle = self.idle.lock();
        if idle.len() < limit && !connection.sender.is_closed() {
            idle.push_back(Idle { connection, since: Instant::now() });
        }
    }

    fn expire(&self, limit: Duration) {
        self.idle.lock().retain(|idle| idle.since.elapsed() < limit && !idle.connection.sender.is_closed());
        self.http2.expire(limit);
    }
}

// === impl Open ===

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Widening ===

impl Drop for Widening {
    fn drop(&mut self) {
        self.0.is_widening.store(false, Ordering::Relaxed);
    }
}
