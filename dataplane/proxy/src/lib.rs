//! The sidecar: takes connections, finds out what they carry, and brings them where the routing table says.
//!
//! ```text
//! listen -> connection (detect, chain, TLS) -> http (route) -> sending (retry) -> attempt -> destination (pool) -> connect
//!                                           -> tcp (copy) -> connect
//! xDS -> state (Resources) -> RoutingTable, roots, names
//! ```

mod acceptors;
mod announcement;
mod attempt;
mod authorize;
mod body;
mod canonical;
mod connect;
mod connection;
mod connectors;
mod decision;
mod decisions;
mod destination;
mod detect;
mod dynamic;
mod error;
mod event;
mod exchange;
mod framing;
mod guard;
mod headers;
mod hello;
mod http;
mod http2;
mod limit;
mod listen;
mod material;
mod open;
mod outside;
mod overrides;
mod requests;
mod screen;
mod sending;
mod settings;
mod shadow;
mod shared;
mod sidecar;
mod state;
mod stream;
mod taken;
mod tcp;
mod telemetry;
mod tokens;
mod tunnel;
mod upgrade;

pub use error::ProxyError;
pub use settings::Settings;
pub use sidecar::{Parts, Sidecar};
pub use telemetry::{Metrics, Owner};
