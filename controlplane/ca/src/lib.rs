//! The certificate authority: the only holder of its key.
//!
//! ```text
//! token or certificate ─▶ caller ─▶ identity ─┐
//! CSR ─▶ public key, and nothing else ────────┴─▶ authority ─▶ leaf, …, root
//! ```

mod authority;
mod caller;
mod chain;
mod csr;
mod limit;
mod metrics;
mod service;
mod token;

pub use authority::{
    Authority, AuthorityError, CA_CERTIFICATE, CA_KEY, CERTIFICATE_CHAIN, ROOT_CERTIFICATE, SelfSigned,
};
pub use metrics::Metrics;
pub use service::{CertificateService, ServiceSettings};
pub use token::{AUDIENCE, TokenError, TokenKey};
