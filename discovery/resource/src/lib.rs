//! Istio documents with their positions, and the kinds that say what exists.
//!
//! ```text
//! text ──node──▶ tree with positions ──document──▶ metadata + spec ──one file a kind──▶ validated resource
//! ```
//!
//! A file is taken whole or not at all: the first mistake in any of its documents refuses the file. What is valid but
//! not honoured yet comes back as a [`Warning`], never silently.

mod config_map;
mod document;
mod duration;
mod embedded;
mod error;
mod export;
mod field;
mod node;
mod probe;
mod secret;
mod service_entry;
mod tree;
mod workload_entry;
mod workload_group;

pub use config_map::ConfigMap;
pub use document::{Document, Metadata, Parsed, Resource, parse, parse_with};
pub use embedded::embedded;
pub use error::{Position, ResourceError, Warning};
pub use field::{Field, Fields, Source};
pub use node::{Limits, Node, Value};
pub use probe::{Probe, ProbeMethod, parse as parse_probe};
pub use secret::Secret;
pub use service_entry::ServiceEntry;
pub use tree::{Tree, trees};
pub use workload_entry::{HEALTH_CHECKED, WorkloadEntry};
pub use workload_group::WorkloadGroup;
