//! EnvoyFilter: patches of what Envoy is told, read with their positions and applied to a snapshot.
//!
//! ```text
//! document -> EnvoyFilter -> [Patch] --those for a node, in order--> Snapshot -> Snapshot
//! ```
//!
//! Patches name fields of any of Envoy's messages, which are known here by their descriptors. Pure: equal inputs give
//! equal bytes.

mod any;
mod apply;
mod cluster;
mod encode;
mod filter;
mod http_filter;
mod json;
mod list;
mod listener;
mod matches;
mod merge;
mod own;
mod patch;
mod pool;
mod route;
mod well_known;

pub use apply::apply;
pub use filter::{EnvoyFilter, selected};
pub use matches::Context;
pub use patch::{ApplyTo, Operation, Patch};
pub use route::GUARD;
