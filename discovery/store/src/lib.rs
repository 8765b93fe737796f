//! The replicated store: typed, signed records over etcd's v3 API, and the embedded single-node server of that API.
//!
//! The store is transport, never authority: what it says is believed only after [`Record::decode`] and
//! [`HighWater::admit`]. Every reader and writer speaks etcd's API through [`Store`]; whether an etcd cluster answers or
//! [`embedded`] is a matter of the address.

mod backoff;
mod client;
pub mod embedded;
mod error;
mod key;
mod leadership;
mod lease;
mod members;
mod record;
mod watch;

pub use client::{ClientSettings, Creation, Entry, Listing, Store, StoreTls};
pub use error::StoreError;
pub use federation::high_water::Position;
pub use key::{Key, KeyKind, ROOT, cluster_prefix};
pub use leadership::Leadership;
pub use lease::Lease;
pub use record::{Payload, RECORD_BYTES, Record, RecordError, Workload, WorkloadHealth};
pub use watch::{Change, Changes, Loss};

/// The greatest position seen of every key of the store.
pub type HighWater = federation::high_water::HighWater<Key>;
/// Why a verified record is not to be applied.
pub type Stale = federation::high_water::Stale<Key>;
