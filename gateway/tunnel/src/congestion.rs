//! Which congestion control a path gets.
//!
//! CUBIC costs little CPU and fills a clean, near link; on a lossy or far one it collapses, where BBR keeps going. A
//! path is known only once its round-trip time was measured, so `auto` begins with CUBIC and decides after a few samples.

use quinn::congestion::{BbrConfig, Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The congestion control of tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Congestion {
    /// BBR where the round trip takes more than three milliseconds, else CUBIC.
    #[default]
    Auto,
    /// CUBIC (RFC 9438).
    Cubic,
    /// BBR, version 1.
    Bbr,
}

/// Paths with a longer round trip than this leave the data centre.
const FAR: Duration = Duration::from_millis(3);
/// Round trips that are measured before `auto` decides.
const SAMPLES: u32 = 3;

struct AutoFactory;

/// CUBIC until it is known better.
struct Auto {
    mtu: u16,
    samples: u32,
    controller: Box<dyn Controller>,
}

// === impl Congestion ===

impl Congestion {
    /// The factory of controllers for quinn's transport configuration.
    pub(crate) fn factory(self) -> Arc<dyn ControllerFactory + Send + Sync> {
        match self {
            Self::Auto => Arc::new(AutoFactory),
            Self::Cubic => Arc::new(CubicConfig::default()),
            Self::Bbr => Arc::new(BbrConfig::default()),
        }
    }
}

// === impl AutoFactory ===

impl ControllerFactory for AutoFactory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let controller = Arc::new(CubicConfig::default()).build(now, current_mtu);
        Box::new(Auto { mtu: current_mtu, samples: 0, controller })
    }
}

// === impl Auto ===

impl Auto {
    /// Counts a sample; with the last one the path is known, and decided upon once and for all.
    fn measure(&mut self, now: Instant, shortest: Duration) {
        if self.samples >= SAMPLES {
            return;
        }
        self.samples += 1;
        if self.samples == SAMPLES && shortest > FAR {
            self.controller = Arc::new(BbrConfig::default()).build(now, self.mtu);
        }
    }
}

impl Controller for Auto {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.controller.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.controller.on_ack(now, sent, bytes, app_limited, rtt);
        self.measure(now, rtt.min());
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_packet_num_acked: Option<u64>) {
        self.controller.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        self.controller.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu;
        self.controller.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.controller.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.controller.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { mtu: self.mtu, samples: self.samples, controller: self.controller.clone_box() })
    }

    fn initial_window(&self) -> u64 {
        self.controller.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
