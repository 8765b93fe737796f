//! One endpoint as one upstream speaks to it: its TLS, and the connections that wait for their next request.

use crate::body::RequestBody;
use crate::http2::Multiplexed;
use crate::telemetry::Series;
use hyper::client::conn::http1::SendRequest;
use identity::{Expected, Identity, IdentityError, client_config, outside_client_config};
use parking_lot::{Mutex, RwLock};
use routing::{
    Discovery, Endpoint, Life, OutsideTls, RoutingTable, TransportOf, Upstream, UpstreamSettings, UpstreamTls,
};
use rustls::ClientConfig;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// All destinations that were used and still are in the table, and what wakes those who wait for a connection to an
/// upstream.
#[derive(Default)]
pub(crate) struct Destinations(RwLock<HashMap<u64, Arc<Destination>>>, Mutex<HashMap<Arc<str>, Arc<Notify>>>);

/// One endpoint of one upstream.
pub(crate) struct Destination {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) settings: Arc<UpstreamSettings>,
    pub(crate) http2: Multiplexed,
    idle: Mutex<VecDeque<Idle>>,
    open: AtomicUsize,
    /// A connection to the upstream, this endpoint's or another's, has become free or is gone.
    pub(crate) freed: Arc<Notify>,
    is_widening: AtomicBool,
    tls: OnceLock<Arc<ClientConfig>>,
}

/// An HTTP/1 connection, and what is counted for it.
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<RequestBody>,
    pub(crate) series: Arc<Series>,
    born: Instant,
    requests: u32,
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
        let freed = self.1.lock().entry(upstream.settings.name.clone()).or_default().clone();
        let new = Arc::new(Destination::new(endpoint, upstream.settings.clone(), freed));
        if upstream.settings.discovery == Discovery::OriginalDestination {
            return new;
        }
        self.0.write().entry(new.endpoint.id).or_insert(new).clone()
    }

    /// Forgets what is neither in `table` nor among the endpoints `named` by callers, and closes what waited for longer than `idle`.
    pub(crate) fn sweep(&self, table: &RoutingTable, named: Vec<u64>, idle: Duration) {
        let endpoints = table.upstreams.values().flat_map(|upstream| &upstream.endpoints);
        let known: HashSet<u64> = endpoints.map(|endpoint| endpoint.id).chain(named).collect();
        let mut all = self.0.write();
        all.retain(|id, _| known.contains(id));
        self.1.lock().retain(|name, _| table.upstreams.contains_key(name));
        for destination in all.values() {
            destination.expire(idle);
        }
    }
}

// === impl Destination ===

impl Destination {
    fn new(endpoint: Arc<Endpoint>, settings: Arc<UpstreamSettings>, freed: Arc<Notify>) -> Self {
        Self {
            endpoint,
            settings,
            http2: Multiplexed::default(),
            idle: Mutex::default(),
            open: AtomicUsize::new(0),
            freed,
            is_widening: AtomicBool::new(false),
            tls: OnceLock::new(),
        }
    }

    /// How TLS is spoken to it, and the server name to send.
    ///
    /// # Errors
    /// If the files of TLS that is not the mesh's cannot be used.
    pub(crate) fn client(&self, identity: &Identity) -> Result<Option<(Arc<ClientConfig>, &str)>, IdentityError> {
        let (config, sni) = match self.settings.transport(&self.endpoint.facts) {
            TransportOf::Clear => return Ok(None),
            TransportOf::Mesh(tls) => (self.tls.get_or_init(|| mesh_config(identity, tls)).clone(), &tls.sni),
            TransportOf::Outside(tls) => {
                let config = if let Some(config) = self.tls.get() {
                    config.clone()
                } else {
                    let made = outside_config(tls)?;
                    self.tls.get_or_init(|| made).clone()
                };
                (config, &tls.sni)
            }
        };
        Ok(Some((config, sni)))
    }

    /// Whether no HTTP/1 connection is open.
    pub(crate) fn is_unopened(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
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
            if !next.connection.lasts(&self.settings.policy.life) {
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
    pub(crate) fn keep(&self, mut connection: Connection, limit: usize) {
        connection.requests += 1;
        let mut idle = self.idle.lock();
        if idle.len() < limit && connection.lasts(&self.settings.policy.life) {
            idle.push_back(Idle { connection, since: Instant::now() });
        }
        drop(idle);
        self.wake();
    }

    /// Wakes those who wait for a connection.
    fn wake(&self) {
        self.freed.notify_waiters();
    }

    fn expire(&self, limit: Duration) {
        let life = &self.settings.policy.life;
        let limit = life.idle.unwrap_or(limit);
        self.idle.lock().retain(|idle| idle.since.elapsed() < limit && idle.connection.lasts(life));
        self.http2.expire(limit);
    }
}

fn mesh_config(identity: &Identity, tls: &UpstreamTls) -> Arc<ClientConfig> {
    let alpn: Vec<&[u8]> = tls.alpn.iter().map(String::as_bytes).collect();
    client_config(identity, Expected::Exactly(Arc::new(tls.expected.clone())), &alpn)
}

fn outside_config(tls: &OutsideTls) -> Result<Arc<ClientConfig>, IdentityError> {
    let alpn: Vec<&[u8]> = tls.alpn.iter().map(String::as_bytes).collect();
    let certificate = tls.certificate.as_ref().map(|(chain, key)| (chain.as_path(), key.as_path()));
    outside_client_config(tls.roots.as_deref(), &tls.names, certificate, &alpn)
}

// === impl Connection ===

impl Connection {
    pub(crate) fn new(sender: SendRequest<RequestBody>, series: Arc<Series>) -> Self {
        Self { sender, series, born: Instant::now(), requests: 0 }
    }

    /// Whether it may carry another request.
    fn lasts(&self, life: &Life) -> bool {
        let young = life.longest.is_none_or(|longest| self.born.elapsed() < longest);
        young && life.requests.is_none_or(|most| self.requests < most) && !self.sender.is_closed()
    }
}

// === impl Open ===

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.wake();
    }
}

// === impl Widening ===

impl Drop for Widening {
    fn drop(&mut self) {
        self.0.is_widening.store(false, Ordering::Relaxed);
    }
}
