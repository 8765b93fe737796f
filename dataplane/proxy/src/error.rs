//! Why a connection or a request came to nothing.

use routing::Target;
use std::io;
use std::net::SocketAddr;

/// Errors of the proxy.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// A listener's address cannot be bound.
    #[error("bind {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
    /// An endpoint could not be connected to.
    #[error("connect to {target}: {source}")]
    Connect {
        /// Where it is.
        target: Target,
        /// Why not.
        source: io::Error,
    },
    /// A connection did not come about in time.
    #[error("connect to {target}: not within the time that connecting may take")]
    Late {
        /// Where it is.
        target: Target,
    },
    /// HTTP could not be begun on a connection.
    #[error("begin HTTP: {0}")]
    Http(#[from] hyper::Error),
}
