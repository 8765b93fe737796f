//! Decides where connections and requests go. Pure: no sockets, no clock, no randomness of its own.
//!
//! ```text
//! xDS resources -> Resources (parse, keep, all or nothing) -> RoutingTable
//! connection: listener -> chain -> TCP upstream | HTTP -> route -> upstream -> balance -> endpoint
//! ```

mod balance;
mod decode;
mod endpoint;
mod error;
mod listener;
mod load;
mod names;
mod resources;
mod route;
mod table;
mod trust;
mod upstream;

pub use endpoint::{Endpoint, Facts, Target, Workload};
pub use error::Rejection;
pub use listener::{Beginning, Chain, Direction, DownstreamTls, Handler, HttpHandler, Listener, RouteSource};
pub use load::Load;
pub use names::Name;
pub use resources::Resources;
pub use route::{Action, Forward, RetryPolicy, RouteTable};
pub use table::RoutingTable;
pub use upstream::{Discovery, HttpVersion, Upstream, UpstreamSettings, UpstreamTls};
