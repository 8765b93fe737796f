//! `isthmus agent`: what an unmodified Envoy needs to be a sidecar of ours.
//!
//! ```text
//! control plane ──certificate──▶ agent ──SDS, Unix socket──▶ Envoy ──xDS, mTLS──▶ control plane
//!               ──name table───▶ agent ──DNS──▶ application
//!               ──ProxyConfig──▶ agent ──start, drain──▶ Envoy
//! ```

mod bootstrap;
mod drain;
mod envoy;
mod sds;
mod start;

pub use bootstrap::Bootstrap;
pub use drain::Admin;
pub use envoy::{Program, keep_running};
pub use sds::serve as serve_secrets;
pub use start::{Start, told};
