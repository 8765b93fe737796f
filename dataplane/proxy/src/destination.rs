//! One endpoint as one upstream speaks to it: its TLS, and the connections that wait for their next request.

use crate::body::RequestBody;
use crate::http2::Multiplexed;
use crate::shared::Shared;
use crate::telemetry::Series;
use hyper::client::conn::http1::SendRequest;
use identity::{Expected, Identity, IdentityError, client_config};
use parking_lot::{Mutex, RwLock};
use routing::{
    Discovery, Endpoint, Life, ProxyProtocol, RoutingTable, Target, TransportOf, Upstream, UpstreamSettings,
    UpstreamTls,
};
use rustls::ClientConfig;
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// All destinations that were used and still are in the table, and what wakes those who wait for a connection to an
/// upstream.
#[derive(Default)]
pub(crate) struct Destinations {
    known: RwLock<HashMap<Key, Arc<Destination>>>,
    /// Original destinations that requests went to, by upstream; the table does not know them.
    passed_through: Mutex<HashMap<PassedThrough, Arc<Destination>>>,
    freed: Mutex<HashMap<Arc<str>, Arc<Notify>>>,
}

/// An endpoint; and between whom, where that is told to it, because a connection is then good for nobody else.
type Key = (u64, Option<Between>);

/// An upstream's name, where a request was going, and between whom, as in [`Key`].
type PassedThrough = (Arc<str>, Target, Option<Between>);

/// Who asks whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Between {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

/// One endpoint of one upstream.
pub(crate) struct Destination {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) settings: Arc<UpstreamSettings>,
    /// What it is told of who asks whom, before anything else.
    pub(crate) announced: Option<(ProxyProtocol, Between)>,
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
    pub(crate) fn of(&self, upstream: &Upstream, endpoint: Arc<Endpoint>, between: Between) -> Arc<Destination> {
        let announced = upstream.settings.announces(&endpoint.facts).map(|version| (version, between));
        let key = (endpoint.id, announced.map(|_| between));
        if let Some(known) = self.known.read().get(&key) {
            return known.clone();
        }
        let freed = self.freed.lock().entry(upstream.settings.name.clone()).or_default().clone();
        let new = Arc::new(Destination::new(endpoint, upstream.settings.clone(), announced, freed));
        if upstream.settings.discovery == Discovery::OriginalDestination {
            return new;
        }
        self.known.write().entry(key).or_insert(new).clone()
    }

    /// The same for requests: original destinations too are kept, up to `limit` of them, while connections to them are
    /// open.
    pub(crate) fn pooled(
        &self,
        upstream: &Upstream,
        endpoint: Arc<Endpoint>,
        between: Between,
        limit: usize,
    ) -> Arc<Destination> {
        if upstream.settings.discovery != Discovery::OriginalDestination {
            return self.of(upstream, endpoint, between);
        }
        let announced = upstream.settings.announces(&endpoint.facts).map(|_| between);
        let key = (upstream.settings.name.clone(), endpoint.facts.target.clone(), announced);
        let mut kept = self.passed_through.lock();
        if let Some(known) = kept.get(&key).filter(|known| Arc::ptr_eq(&known.settings, &upstream.settings)) {
            return known.clone();
        }
        let new = self.of(upstream, endpoint, between);
        if kept.len() < limit {
            kept.insert(key, new.clone());
        }
        new
    }

    /// Forgets what is neither in `table` nor among the endpoints `named` by callers, and closes what waited for longer than `idle`.
    pub(crate) fn sweep(&self, table: &RoutingTable, named: Vec<u64>, idle: Duration) {
        let endpoints = table.upstreams.values().flat_map(|upstream| &upstream.endpoints);
        let known: HashSet<u64> = endpoints.map(|endpoint| endpoint.id).chain(named).collect();
        let mut all = self.known.write();
        all.retain(|(id, _), _| known.contains(id));
        let mut passed_through = self.passed_through.lock();
        passed_through.retain(|_, destination| {
            destination.expire(idle);
            Arc::strong_count(destination) > 1 || !destination.http2.is_empty()
        });
        self.freed.lock().retain(|name, _| table.upstreams.contains_key(name));
        for destination in all.values() {
            destination.expire(idle);
        }
        // Callers go, and with them what was for them alone.
        all.retain(|(_, between), destination| between.is_none() || !destination.is_forgotten());
    }
}

// === impl Destination ===

impl Destination {
    fn new(
        endpoint: Arc<Endpoint>,
        settings: Arc<UpstreamSettings>,
        announced: Option<(ProxyProtocol, Between)>,
        freed: Arc<Notify>,
    ) -> Self {
        Self {
            endpoint,
            settings,
            announced,
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
    /// If the secrets or files of TLS that is not the mesh's cannot be used.
    pub(crate) fn client(&self, shared: &Shared) -> Result<Option<(Arc<ClientConfig>, &str)>, IdentityError> {
        Ok(match self.settings.transport(&self.endpoint.facts) {
            TransportOf::Clear => None,
            TransportOf::Mesh(tls) => {
                Some((self.tls.get_or_init(|| mesh_config(&shared.identity, tls)).clone(), &*tls.sni))
            }
            TransportOf::Outside(tls) => Some((shared.client(tls)?, &*tls.sni)),
        })
    }

    /// Whether nobody uses it, and nothing waits in it.
    fn is_forgotten(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) == 1 && self.idle.lock().is_empty() && self.http2.is_empty()
    }

    /// Whether no HTTP/1 connection is open.
    pub(crate) fn is_unopened(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }

    /// Whether more than one is.
    pub(crate) fn has_several(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 1
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
