//! Decides where connections and requests go. Pure: no sockets, no clock, no randomness of its own.
//!
//! ```text
//! xDS resources -> Resources (parse, keep, all or nothing) -> RoutingTable
//! connection: listener -> chain -> TCP upstream | HTTP -> route -> upstream -> balance -> endpoint
//! ```

mod asked;
mod authorization;
mod balance;
mod bucket;
mod canonical;
mod chain_index;
mod client_certificate;
mod condition;
mod cors;
mod decode;
mod descriptor;
mod downstream_tls;
mod endpoint;
mod error;
mod fault;
mod forward;
mod hash;
mod limiter;
mod limits;
mod listener;
mod load;
mod mutation;
mod names;
mod policy;
mod proxy_start;
mod recent;
mod redirect;
mod resources;
mod retry;
mod rewrite;
mod ring;
mod route;
mod server_secret;
mod stream_handler;
mod suffixes;
mod table;
mod text_match;
mod tokens;
mod trust;
mod upstream;
mod upstream_tls;
mod usage;

pub use asked::Asked;
pub use authorization::{Datum, DryRun, Metadata, Policies, Subject, Verdict, authorize};
pub use balance::Wanted;
pub use bucket::Level;
pub use canonical::{EscapedSlash, PathRule};
pub use client_certificate::ClientCertificate;
pub use cors::{Cors, Crossing};
pub use descriptor::{Limited, PRINCIPAL, ROUTE};
pub use downstream_tls::{Admits, Clients, DownstreamTls, Place, Roots, Shows};
pub use endpoint::{Endpoint, Facts, Target, Workload};
pub use error::Rejection;
pub use fault::{Abort, Fault};
pub use forward::{Forward, Target as RouteTarget};
pub use hash::{Alike, source_hash};
pub use limiter::{Limiter, Ruling};
pub use listener::{Beginning, Chain, Direction, Handler, HttpHandler, Listener, RouteSource, ServerName};
pub use load::{Load, Report};
pub use mutation::{Context, Mutation};
pub use names::Name;
pub use policy::{Keepalive, Life, Limits, Policy};
pub use proxy_start::said_of_start;
pub use redirect::Redirect;
pub use resources::Resources;
pub use retry::{Failure, RetryPolicy};
pub use route::{Action, Answer, Route, RouteTable};
pub use server_secret::ServerSecret;
pub use stream_handler::{StreamHandler, Tunnel};
pub use table::RoutingTable;
pub use tokens::{Claims, TokenRefusal, Tokens};
pub use upstream::{Discovery, HttpVersion, Upstream, UpstreamSettings};
pub use upstream_tls::{OutsideTls, ProxyProtocol, Transport, TransportOf, UpstreamTls};
pub use usage::{Kind as UseKind, Usage, Use};
