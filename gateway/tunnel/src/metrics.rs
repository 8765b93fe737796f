//! What tunnels count: `isthmus_tunnel_*`.

use crate::refusal::Refusal;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

/// Which gateway of which peer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PathLabels {
    pub(crate) peer: String,
    pub(crate) gateway: String,
    pub(crate) transport: &'static str,
}

/// Which service, to or from which peer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StreamLabels {
    /// The other cluster.
    pub peer: String,
    /// The service's host.
    pub service: String,
    /// `egress` or `ingress`.
    pub direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    peer: String,
    reason: &'static str,
    direction: &'static str,
}

/// The counters and gauges of tunnels.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub(crate) state: Family<PathLabels, Gauge>,
    pub(crate) rtt: Family<PathLabels, Gauge<f64, AtomicU64>>,
    pub(crate) sent: Family<PathLabels, Gauge>,
    pub(crate) lost: Family<PathLabels, Gauge>,
    streams: Family<StreamLabels, Counter>,
    active: Family<StreamLabels, Gauge>,
    sent_bytes: Family<StreamLabels, Counter>,
    received_bytes: Family<StreamLabels, Counter>,
    refused: Family<RefusalLabels, Counter>,
}

/// The counters of one service and peer, looked up once a stream.
#[derive(Debug, Clone)]
pub struct StreamMetrics {
    streams: Counter,
    active: Gauge,
    pub(crate) sent: Counter,
    pub(crate) received: Counter,
}

// === impl Metrics ===

impl Metrics {
    /// Registers them all.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let tunnel = registry.sub_registry_with_prefix("isthmus_tunnel");
        tunnel.register("state", "1 while a tunnel to this gateway of the peer is up, else 0", metrics.state.clone());
        tunnel.register("rtt_seconds", "The tunnel's smoothed round-trip time", metrics.rtt.clone());
        tunnel.register("sent_packets", "Packets sent on the present tunnel", metrics.sent.clone());
        tunnel.register("lost_packets", "Packets of them deemed lost", metrics.lost.clone());
        tunnel.register("streams", "Streams opened, by peer and service", metrics.streams.clone());
        tunnel.register("active_streams", "Streams open now", metrics.active.clone());
        tunnel.register("sent_bytes", "Bytes sent to the peer", metrics.sent_bytes.clone());
        tunnel.register("received_bytes", "Bytes received from the peer", metrics.received_bytes.clone());
        tunnel.register("refused", "Streams refused, by reason", metrics.refused.clone());
        metrics
    }

    /// The counters of one service and peer.
    pub fn stream(&self, labels: &StreamLabels) -> StreamMetrics {
        StreamMetrics {
            streams: self.streams.get_or_create_owned(labels),
            active: self.active.get_or_create_owned(labels),
            sent: self.sent_bytes.get_or_create_owned(labels),
            received: self.received_bytes.get_or_create_owned(labels),
        }
    }

    /// Counts a refusal that was given (`ingress`) or met (`egress`).
    pub fn refused(&self, peer: &str, reason: Refusal, direction: &'static str) {
        let labels = RefusalLabels { peer: peer.to_owned(), reason: reason.as_str(), direction };
        self.refused.get_or_create(&labels).inc();
    }
}

// === impl StreamMetrics ===

impl StreamMetrics {
    /// Counts a stream for as long as the returned value lives.
    pub fn open(&self) -> OpenStream {
        self.streams.inc();
        self.active.inc();
        OpenStream(self.active.clone())
    }
}

/// A stream that is open.
#[derive(Debug)]
pub struct OpenStream(Gauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}
