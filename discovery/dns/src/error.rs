//! Why the server does not start.

use std::net::SocketAddr;

/// An error at start; while it runs, the server answers with DNS's own codes.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// An address could not be bound.
    #[error("DNS: cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// An upstream is this server.
    #[error("DNS: upstream {upstream} is this server itself ({listen}): name another resolver in `upstreams`")]
    Circle {
        /// The upstream.
        upstream: SocketAddr,
        /// The address that it reaches.
        listen: SocketAddr,
    },
    /// No upstreams are known.
    #[error("DNS: no resolvers in /etc/resolv.conf ({0}): name them in `upstreams`")]
    NoUpstreams(String),
    /// The resolver cannot be made.
    #[error("DNS: cannot make a resolver: {0}")]
    Resolver(String),
}
