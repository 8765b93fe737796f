//! `isthmus agent`: what an unmodified Envoy needs to be a sidecar of ours.
//!
//! ```text
//! control plane ──certificate──▶ agent ──SDS, Unix socket──▶ Envoy ──xDS, mTLS──▶ control plane
//!               ──name table───▶ agent ──DNS──▶ application
//! ```

mod bootstrap;
mod envoy;
mod sds;

pub use bootstrap::Bootstrap;
pub use envoy::{Program, keep_running};
pub use sds::serve as serve_secrets;
