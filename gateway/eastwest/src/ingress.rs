//! From the peers' gateways to this cluster's workloads: only what is exported to the asking cluster, and only local
//! endpoints that the published record vouches for.

use crate::settings::Settings;
use federation::export::{group_of, is_exportable};
use model::{Address, Catalog, ClusterId, Endpoint, Host, Port, Protocol, Service};
use rand::RngExt;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tunnel::{Arrival, GuardedTcp, Incoming, Metrics, Refusal, StreamHeader, StreamLabels};

/// Withdrawn services that are remembered, so that `GONE` can be told from `NOT_EXPORTED`.
const REMEMBERED: usize = 10_000;
/// Endpoints that are tried for one stream.
const ATTEMPTS: usize = 3;

/// Takes the peers' streams.
pub(crate) struct Ingress {
    pub(crate) settings: Arc<Settings>,
    pub(crate) own: ClusterId,
    pub(crate) catalog: watch::Receiver<Arc<Catalog>>,
    pub(crate) metrics: Metrics,
    pub(crate) loads: Loads,
    pub(crate) served: Served,
    /// Cancelled when the gateway begins to leave: peers go elsewhere from then on.
    pub(crate) leaving: CancellationToken,
}

/// What each endpoint carries, and which refused lately.
#[derive(Default)]
pub(crate) struct Loads(Mutex<HashMap<SocketAddr, Load>>);

#[derive(Default, Clone, Copy)]
struct Load {
    active: u32,
    ejected_until: Option<Instant>,
}

/// Which peer was ever let in to which host.
#[derive(Default)]
pub(crate) struct Served(Mutex<BTreeSet<(ClusterId, Host)>>);

/// A stream that an endpoint carries.
struct Carried<'a> {
    loads: &'a Loads,
    address: SocketAddr,
}

// === impl Ingress ===

impl Ingress {
    /// Takes streams for as long as the future is polled; they run on `tasks`.
    pub(crate) async fn run(self: Arc<Self>, mut incoming: Incoming, tasks: TaskTracker) {
        let places = Arc::new(Semaphore::new(self.settings.streams));
        while let Some(arrival) = incoming.recv().await {
            let arrival = match arrival {
                Ok(arrival) => arrival,
                Err(misfit) => {
                    self.refused(&misfit.peer, misfit.reason, "");
                    continue;
                }
            };
            let place = match places.clone().try_acquire_owned() {
                _ if self.leaving.is_cancelled() => Err(Refusal::Draining),
                place => place.map_err(|_| Refusal::Overloaded),
            };
            let place = match place {
                Ok(place) => place,
                Err(reason) => {
                    self.refused(&arrival.peer, reason, arrival.header.host.as_str());
                    arrival.stream.refuse(reason);
                    continue;
                }
            };
            let ingress = self.clone();
            tasks.spawn(async move {
                ingress.stream(arrival).await;
                drop(place);
            });
        }
    }

    async fn stream(&self, Arrival { peer, header, stream }: Arrival) {
        let started = Instant::now();
        let endpoints = match self.admit(&peer, &header) {
            Ok(endpoints) => endpoints,
            Err(reason) => {
                self.refused(&peer, reason, header.host.as_str());
                return stream.refuse(reason);
            }
        };
        let Some((carried, tcp)) = self.connect(endpoints).await else {
            self.refused(&peer, Refusal::Unreachable, header.host.as_str());
            return stream.refuse(Refusal::Unreachable);
        };
        let labels = StreamLabels { peer: peer.to_string(), service: header.host.to_string(), direction: "ingress" };
        let metrics = self.metrics.stream(&labels);
        let open = metrics.open();
        let ended = stream.copy(tcp, &metrics).await;
        drop(open);
        tracing::info!(
            target: "access", %peer, service = %header.host, port = header.port, endpoint = %carried.address,
            direction = "ingress", duration_ms = started.elapsed().as_millis(), ended = ended.err().map(tracing::field::display),
        );
    }

    /// Where the stream may go: nowhere unless the service is exported to this very peer.
    fn admit(&self, peer: &ClusterId, header: &StreamHeader) -> Result<Vec<SocketAddr>, Refusal> {
        if header.loops(&self.own) {
            return Err(Refusal::Loop);
        }
        let catalog = self.catalog.borrow().clone();
        let exported =
            |service: &&Arc<Service>| service.audience.includes(peer) && exported_port(service, header.port).is_some();
        let Some(service) = catalog.by_host(&header.host).find(exported) else {
            return Err(if self.served.knows(peer, &header.host) { Refusal::Gone } else { Refusal::NotExported });
        };
        self.served.note(peer, &header.host);
        let port = exported_port(service, header.port).ok_or(Refusal::NotExported)?;
        let wanted = |endpoint: &&Endpoint| {
            is_exportable(endpoint)
                && header.group.as_ref().is_none_or(|group| *group == group_of(endpoint, &self.settings.export_labels))
        };
        let endpoints: Vec<SocketAddr> = service
            .endpoints
            .iter()
            .filter(wanted)
            .filter_map(|endpoint| Some(SocketAddr::new(address(endpoint)?, port.on(endpoint))))
            .collect();
        if endpoints.is_empty() { Err(Refusal::Unreachable) } else { Ok(endpoints) }
    }

    /// Connects to the least used endpoint; one that refuses is passed over for a while.
    async fn connect(&self, mut endpoints: Vec<SocketAddr>) -> Option<(Carried<'_>, GuardedTcp)> {
        for _ in 0..ATTEMPTS {
            let carried = self.loads.take(&endpoints)?;
            match tokio::time::timeout(self.settings.connect(), TcpStream::connect(carried.address)).await {
                Ok(Ok(stream)) => {
                    // Where it fails, the connection has ended.
                    let _ = stream.set_nodelay(true);
                    return Some((carried, GuardedTcp::new(stream)));
                }
                _ => self.loads.eject(carried.address, Instant::now() + self.settings.ejection()),
            }
            endpoints.retain(|endpoint| *endpoint != carried.address);
        }
        None
    }

    fn refused(&self, peer: &ClusterId, reason: Refusal, service: &str) {
        self.metrics.refused(peer.as_str(), reason, "ingress");
        tracing::info!(target: "access", %peer, service, direction = "ingress", refused = %reason);
    }
}

fn exported_port(service: &Service, number: u16) -> Option<&Port> {
    service.port(number).filter(|port| port.protocol != Protocol::Udp)
}

fn address(endpoint: &Endpoint) -> Option<IpAddr> {
    match &endpoint.address {
        Address::Ip(ip) => Some(*ip),
        Address::Name(_) | Address::Unix(_) => None,
    }
}

// === impl Loads ===

impl Loads {
    /// The least used endpoint that did not refuse lately; any of those that did when no other is left.
    fn take(&self, endpoints: &[SocketAddr]) -> Option<Carried<'_>> {
        let now = Instant::now();
        let mut loads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let load = |address: &SocketAddr| loads.get(address).copied().unwrap_or_default();
        let offset = if endpoints.is_empty() { return None } else { rand::rng().random_range(0..endpoints.len()) };
        let turned = endpoints.iter().cycle().skip(offset).take(endpoints.len());
        let address = *turned.min_by_key(|address| {
            let load = load(address);
            (load.ejected_until.is_some_and(|until| until > now), load.active)
        })?;
        loads.entry(address).or_default().active += 1;
        Some(Carried { loads: self, address })
    }

    fn eject(&self, address: SocketAddr, until: Instant) {
        let mut loads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        // Those whose time is over, and that nobody asked for since, would stay for ever.
        loads.retain(|_, load| load.active > 0 || load.ejected_until.is_some_and(|until| until > now));
        loads.entry(address).or_default().ejected_until = Some(until);
    }
}

impl Drop for Carried<'_> {
    fn drop(&mut self) {
        let mut loads = self.loads.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(load) = loads.get_mut(&self.address) else { return };
        load.active = load.active.saturating_sub(1);
        if load.active == 0 && load.ejected_until.is_none_or(|until| until <= Instant::now()) {
            loads.remove(&self.address);
        }
    }
}

// === impl Served ===

impl Served {
    fn note(&self, peer: &ClusterId, host: &Host) {
        let mut served = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if served.len() < REMEMBERED {
            served.insert((peer.clone(), host.clone()));
        }
    }

    fn knows(&self, peer: &ClusterId, host: &Host) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&(peer.clone(), host.clone()))
    }
}
