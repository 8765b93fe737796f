//! The sidecar's DNS server: names of the mesh from a [`Zone`], everything else from the system's resolvers.
//!
//! ```text
//! UDP, TCP -> message::decide (pure) -> drop | reply from the zone | forward -> Upstream (cache, retries) -> reply
//! ```
//! The loops are ours rather than hickory-server's: theirs starts a task for every packet, without a bound.

mod error;
mod message;
mod metrics;
mod server;
mod settings;
mod upstream;
mod zone;

pub use error::DnsError;
pub use metrics::Metrics;
pub use server::Server;
pub use settings::Settings;
pub use zone::{Entry, Zone};
