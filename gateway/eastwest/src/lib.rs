//! The east-west gateway: offers this cluster's exports, brings in the peers', forwards bytes.
//!
//! ```text
//! sidecar ─▶ egress ═ tunnel ═▶ ingress ─▶ sidecar        membership ─▶ store        report ─▶ control plane
//! ```

mod egress;
mod gateway;
mod ingress;
mod membership;
mod report;
mod settings;
mod sni;

pub use gateway::{Gateway, Parts};
pub use settings::Settings;
