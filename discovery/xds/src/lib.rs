//! Both ends of Envoy's aggregated discovery service (ADS), delta and state of the world, knowing nothing of Istio.
//!
//! ```text
//! Source -> watch<Arc<Snapshot>> -> Subscription (pure) -> server: delta | state of the world -> wire
//! wire -> client: delta | state of the world -> Sink -> ACK or NACK
//! ```

mod client;
mod dialect;
mod exchange;
mod node;
mod resource;
mod server;
mod snapshot;
mod stream;
mod subscription;
mod topic;
mod version;
mod wire;

pub use client::{ClientSettings, Health, Mode, Rejection, Sink, run, run_with_health};
pub use node::{Interception, Node, NodeKind, Software};
pub use resource::{Resource, type_url};
pub use server::{Event, Server, ServerSettings, Source};
pub use snapshot::{Resources, Snapshot};
