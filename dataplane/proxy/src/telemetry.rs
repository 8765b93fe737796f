//! Istio's standard metrics and the access log.
//!
//! A series is resolved when a connection is made, and its counters once for each outcome, so that a request costs a
//! read lock and not twenty labels.

use crate::decisions::Decisions;
use model::WorkloadIdentity;
use parking_lot::{Mutex, RwLock};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use routing::{Endpoint, UpstreamSettings};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The metrics of a sidecar, registered under Istio's names
/// (<https://istio.io/latest/docs/reference/config/metrics/>).
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<RequestLabels, Histogram>,
    request_bytes: Family<RequestLabels, Histogram>,
    response_bytes: Family<RequestLabels, Histogram>,
    opened: Family<TcpLabels, Counter>,
    closed: Family<TcpLabels, Counter>,
    sent: Family<TcpLabels, Counter>,
    received: Family<TcpLabels, Counter>,
    decisions: Decisions,
    unbound: Gauge,
}

/// Whose sidecar this is, as metrics name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The workload.
    pub workload: String,
    /// Its namespace.
    pub namespace: String,
    /// Its label `app`.
    pub app: String,
    /// Its label `version`.
    pub version: String,
    /// Its cluster.
    pub cluster: String,
    /// Its identity.
    pub principal: String,
}

/// Why a request or connection did not go as it should; Envoy's response flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Flag {
    None,
    NoRoute,
    NoUpstream,
    NoEndpoint,
    ConnectFailure,
    UpstreamReset,
    DownstreamReset,
    Timeout,
    Overflow,
    RetryLimit,
    Fault,
    UpstreamProtocol,
    DownstreamProtocol,
    RateLimited,
    Unauthorized,
}

/// What a request is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Outcome {
    pub(crate) status: u16,
    pub(crate) flag: Flag,
    /// The gRPC status, if it is gRPC.
    pub(crate) grpc: Option<u16>,
}

/// The sides of a request or connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Sides {
    reporter: &'static str,
    source_workload: String,
    source_workload_namespace: String,
    source_principal: String,
    source_app: String,
    source_version: String,
    source_cluster: String,
    source_canonical_service: String,
    source_canonical_revision: String,
    destination_workload: String,
    destination_workload_namespace: String,
    destination_principal: String,
    destination_app: String,
    destination_version: String,
    destination_cluster: String,
    destination_service: String,
    destination_service_name: String,
    destination_service_namespace: String,
    destination_canonical_service: String,
    destination_canonical_revision: String,
    connection_security_policy: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    #[prometheus(flatten)]
    sides: Sides,
    request_protocol: &'static str,
    response_code: u16,
    grpc_response_status: Option<u16>,
    response_flags: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TcpLabels {
    #[prometheus(flatten)]
    sides: Sides,
    request_protocol: &'static str,
    response_flags: &'static str,
}

/// Everything that is counted.
pub(crate) struct Telemetry {
    metrics: Metrics,
    owner: Owner,
    series: Mutex<HashMap<Sides, Arc<Series>>>,
}

/// What is counted between two sides.
#[derive(Debug)]
pub(crate) struct Series {
    sides: Sides,
    metrics: Metrics,
    requests: RwLock<HashMap<Outcome, Arc<Requests>>>,
    bytes: OnceLock<Bytes>,
}

/// Requests of one outcome.
#[derive(Debug)]
pub(crate) struct Requests {
    count: Counter,
    durations: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
}

/// Connections and bytes of TCP.
#[derive(Debug, Clone)]
pub(crate) struct Bytes {
    pub(crate) opened: Counter,
    pub(crate) closed: Counter,
    pub(crate) sent: Counter,
    pub(crate) received: Counter,
}

/// Istio's buckets, for milliseconds and bytes alike.
const BUCKETS: [f64; 19] =
    [0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5, 6e5, 1.8e6, 3.6e6];

/// Sides beyond this many are counted together, as unknown.
const MAX_SERIES: usize = 10_000;

const UNKNOWN: &str = "unknown";

// === impl Metrics ===

impl Metrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let histogram = || Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        let metrics = Self {
            requests: Family::default(),
            durations: histogram(),
            request_bytes: histogram(),
            response_bytes: histogram(),
            opened: Family::default(),
            closed: Family::default(),
            sent: Family::default(),
            received: Family::default(),
            decisions: Decisions::register(registry),
            unbound: Gauge::default(),
        };
        registry.register("istio_requests", "Requests", metrics.requests.clone());
        registry.register(
            "istio_request_duration_milliseconds",
            "How long requests took, in milliseconds",
            metrics.durations.clone(),
        );
        registry.register("istio_request_bytes", "Bytes of request bodies", metrics.request_bytes.clone());
        registry.register("istio_response_bytes", "Bytes of response bodies", metrics.response_bytes.clone());
        registry.register("istio_tcp_connections_opened", "Connections opened", metrics.opened.clone());
        registry.register("istio_tcp_connections_closed", "Connections closed", metrics.closed.clone());
        registry.register("istio_tcp_sent_bytes", "Bytes sent as answers", metrics.sent.clone());
        registry.register("istio_tcp_received_bytes", "Bytes received from callers", metrics.received.clone());
        let help = "Sockets that the configuration names and that cannot be bound";
        registry.register("isthmus_listeners_unbound", help, metrics.unbound.clone());
        metrics
    }
}

// === impl Telemetry ===

impl Telemetry {
    pub(crate) fn new(metrics: Metrics, owner: Owner) -> Self {
        Self { metrics, owner, series: Mutex::new(HashMap::new()) }
    }

    /// Requests of the workload to `endpoint`, which proved to be `peer`.
    pub(crate) fn outbound(
        &self,
        upstream: &UpstreamSettings,
        endpoint: Option<&Endpoint>,
        peer: Option<&WorkloadIdentity>,
    ) -> Arc<Series> {
        let workload = endpoint.map(|endpoint| &*endpoint.facts.workload);
        let part = |of: fn(&routing::Workload) -> &Arc<str>| known(workload.map(|workload| &**of(workload)));
        let behind = endpoint.and_then(|endpoint| endpoint.facts.clusters.as_deref());
        let mut sides = Sides {
            destination_workload: part(|workload| &workload.name),
            destination_workload_namespace: part(|workload| &workload.namespace),
            destination_principal: known(peer.map(ToString::to_string).as_deref()),
            destination_app: part(|workload| &workload.app),
            destination_version: part(|workload| &workload.version),
            destination_cluster: known(behind.or(workload.map(|workload| &*workload.cluster))),
            destination_canonical_service: part(|workload| &workload.app),
            destination_canonical_revision: part(|workload| &workload.version),
            ..Sides::unknown("source")
        };
        sides.is_from(&self.owner);
        sides.is_for(&upstream.host);
        self.series(sides)
    }

    /// Requests to the workload, from whoever proved to be `peer`.
    pub(crate) fn inbound(&self, service: &str, peer: Option<&WorkloadIdentity>) -> Arc<Series> {
        let owner = &self.owner;
        let mut sides = Sides {
            source_principal: known(peer.map(ToString::to_string).as_deref()),
            source_workload_namespace: known(peer.map(|peer| peer.namespace.as_str())),
            destination_workload: known(Some(&owner.workload)),
            destination_workload_namespace: known(Some(&owner.namespace)),
            destination_principal: if peer.is_some() { owner.principal.clone() } else { UNKNOWN.to_owned() },
            destination_app: known(Some(&owner.app)),
            destination_version: known(Some(&owner.version)),
            destination_cluster: known(Some(&owner.cluster)),
            destination_canonical_service: known(Some(&owner.app)),
            destination_canonical_revision: known(Some(&owner.version)),
            connection_security_policy: if peer.is_some() { "mutual_tls" } else { "none" },
            ..Sides::unknown("destination")
        };
        sides.is_for(service);
        self.series(sides)
    }

    /// Requests that no upstream was found for.
    pub(crate) fn nowhere(&self) -> Arc<Series> {
        let mut sides = Sides::unknown("source");
        sides.is_from(&self.owner);
        self.series(sides)
    }

    /// What policies decided.
    pub(crate) fn decisions(&self) -> &Decisions {
        &self.metrics.decisions
    }

    /// How many sockets cannot be bound.
    pub(crate) fn unbound(&self) -> &Gauge {
        &self.metrics.unbound
    }

    /// Who the workload is.
    pub(crate) fn principal(&self) -> &str {
        &self.owner.principal
    }

    fn series(&self, sides: Sides) -> Arc<Series> {
        let mut all = self.series.lock();
        if let Some(known) = all.get(&sides) {
            return known.clone();
        }
        let sides = if all.len() < MAX_SERIES { sides } else { Sides::unknown(sides.reporter) };
        let new = || {
            Arc::new(Series {
                sides: sides.clone(),
                metrics: self.metrics.clone(),
                requests: RwLock::default(),
                bytes: OnceLock::new(),
            })
        };
        all.entry(sides.clone()).or_insert_with(new).clone()
    }
}

// === impl Series ===

impl Series {
    /// What requests of this outcome are counted in.
    pub(crate) fn requests(&self, outcome: Outcome) -> Arc<Requests> {
        if let Some(known) = self.requests.read().get(&outcome) {
            return known.clone();
        }
        let labels = RequestLabels {
            sides: self.sides.clone(),
            request_protocol: if outcome.grpc.is_some() { "grpc" } else { "http" },
            response_code: outcome.status,
            grpc_response_status: outcome.grpc,
            response_flags: outcome.flag.as_str(),
        };
        let requests = Arc::new(Requests {
            count: self.metrics.requests.get_or_create(&labels).clone(),
            durations: self.metrics.durations.get_or_create(&labels).clone(),
            request_bytes: self.metrics.request_bytes.get_or_create(&labels).clone(),
            response_bytes: self.metrics.response_bytes.get_or_create(&labels).clone(),
        });
        self.requests.write().entry(outcome).or_insert(requests).clone()
    }

    /// What connections are counted in.
    pub(crate) fn bytes(&self) -> &Bytes {
        self.bytes.get_or_init(|| self.flagged(Flag::None))
    }

    /// What connections that are turned away are counted in.
    pub(crate) fn flagged(&self, flag: Flag) -> Bytes {
        let response_flags = flag.as_str();
        let labels = TcpLabels { sides: self.sides.clone(), request_protocol: "tcp", response_flags };
        Bytes {
            opened: self.metrics.opened.get_or_create(&labels).clone(),
            closed: self.metrics.closed.get_or_create(&labels).clone(),
            sent: self.metrics.sent.get_or_create(&labels).clone(),
            received: self.metrics.received.get_or_create(&labels).clone(),
        }
    }

    /// Who asks.
    pub(crate) fn source(&self) -> &str {
        &self.sides.source_principal
    }

    /// Who answers.
    pub(crate) fn destination(&self) -> &str {
        &self.sides.destination_principal
    }
}

// === impl Requests ===

impl Requests {
    pub(crate) fn record(&self, took: Duration, request_bytes: u64, response_bytes: u64) {
        self.count.inc();
        self.durations.observe(took.as_secs_f64() * 1e3);
        self.request_bytes.observe(request_bytes as f64);
        self.response_bytes.observe(response_bytes as f64);
    }
}

// === impl Sides ===

impl Sides {
    fn unknown(reporter: &'static str) -> Self {
        let unknown = || UNKNOWN.to_owned();
        Self {
            reporter,
            source_workload: unknown(),
            source_workload_namespace: unknown(),
            source_principal: unknown(),
            source_app: unknown(),
            source_version: unknown(),
            source_cluster: unknown(),
            source_canonical_service: unknown(),
            source_canonical_revision: unknown(),
            destination_workload: unknown(),
            destination_workload_namespace: unknown(),
            destination_principal: unknown(),
            destination_app: unknown(),
            destination_version: unknown(),
            destination_cluster: unknown(),
            destination_service: unknown(),
            destination_service_name: unknown(),
            destination_service_namespace: unknown(),
            destination_canonical_service: unknown(),
            destination_canonical_revision: unknown(),
            connection_security_policy: UNKNOWN,
        }
    }

    fn is_from(&mut self, owner: &Owner) {
        self.source_workload = known(Some(&owner.workload));
        self.source_workload_namespace = known(Some(&owner.namespace));
        self.source_principal.clone_from(&owner.principal);
        self.source_app = known(Some(&owner.app));
        self.source_version = known(Some(&owner.version));
        self.source_cluster = known(Some(&owner.cluster));
        self.source_canonical_service = known(Some(&owner.app));
        self.source_canonical_revision = known(Some(&owner.version));
    }

    fn is_for(&mut self, host: &str) {
        let mut labels = host.split('.');
        let (name, namespace) = (labels.next(), labels.next());
        let is_service = labels.next() == Some("svc");
        self.destination_service = known(Some(host));
        self.destination_service_name = known(if is_service { name } else { Some(host) });
        self.destination_service_namespace = known(namespace.filter(|_| is_service));
    }
}

fn known(value: Option<&str>) -> String {
    value.filter(|value| !value.is_empty()).unwrap_or(UNKNOWN).to_owned()
}

// === impl Flag ===

impl Flag {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::NoRoute => "NR",
            Self::NoUpstream => "NC",
            Self::NoEndpoint => "UH",
            Self::ConnectFailure => "UF",
            Self::UpstreamReset => "UC",
            Self::DownstreamReset => "DC",
            Self::Timeout => "UT",
            Self::Overflow => "UO",
            Self::RetryLimit => "URX",
            Self::Fault => "FI",
            Self::UpstreamProtocol => "UPE",
            Self::DownstreamProtocol => "DPE",
            Self::RateLimited => "RL",
            Self::Unauthorized => "UAEX",
        }
    }
}
