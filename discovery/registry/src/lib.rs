//! Many sources in, one Catalog out.
//!
//! [`Registry::start`] watches a directory of resources and the peers' records in the store, and merges all of them, in
//! one writer, into the [`model::Catalog`]. Loss of information is not information: a file that fails keeps what it last
//! said, a store that is away takes nothing with it.

mod address;
mod declared;
mod error;
mod event;
mod merge;
mod metrics;
mod offers;
mod registrations;
mod registry;
mod settings;
mod source;
mod status;
mod writer;

pub use declared::declared;
pub use error::RegistryError;
pub use event::GatewayEvent;
pub use metrics::Metrics;
pub use registrations::{Registrations, TooMany};
pub use registry::Registry;
pub use settings::{Check, Controller, Limits, PeerSettings, Settings};
pub use status::{Conflict, Origin, PeerStatus, Status, WorkloadStatus};
/// What a workload says of itself when it registers.
pub use store::{Workload, WorkloadHealth};
