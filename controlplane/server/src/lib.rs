//! The control plane: watch, debounce, translate and push; certificates; the gateways' reports. One port for all.
//!
//! ```text
//! registry -> Catalog ─┐                            ┌─ xDS: proxies (client certificate)
//! documents -> Intent ─┴─ debounce -> translate ────┤
//!                                                   ├─ CreateCertificate: token or certificate
//! registry <- GatewayEvent <────────────────────────┴─ Report: own gateways (client certificate)
//! ```

mod certificate;
mod debounce;
mod error;
mod metrics;
mod proxies;
mod push;
mod registration;
mod report;
mod server;
mod settings;
mod state;
mod views;
mod world;

pub use certificate::{ACCOUNT, SYSTEM_NAMESPACE};
pub use error::ControlPlaneError;
pub use metrics::Metrics;
pub use server::{ControlPlane, Parts};
pub use settings::{DebounceSettings, RegistrationSettings, ReportSettings, Settings};
pub use state::{ProxySummary, State};
