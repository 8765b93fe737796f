//! Why keys could not be fetched.

use std::net::IpAddr;

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It is no URI of `http://` or `https://`.
    #[error("{0:?} is not accepted: http://HOST/PATH or https://HOST/PATH")]
    Uri(String),
    /// The name has no address.
    #[error("{host}: {reason}")]
    Name {
        /// The name.
        host: String,
        /// Why not.
        reason: String,
    },
    /// It is at an address at which no issuer is.
    #[error("{host} is at {address}, which is not asked: `keys.allow` may name it")]
    Forbidden {
        /// The name.
        host: String,
        /// Its address.
        address: IpAddr,
    },
    /// It did not answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The connection, TLS or HTTP failed.
    #[error("{0}")]
    Connection(String),
    /// It answered with another status than 200. Redirections are not followed.
    #[error("status {0}")]
    Status(u16),
    /// The answer is longer than is read.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// The answer is no set of keys, or no configuration of an issuer.
    #[error("the answer is {0}")]
    Answer(&'static str),
}
