//! What the user wants: Istio's configuration resources, validated and indexed as [`Intent`].

mod intent;
mod selector;
mod sidecar;

pub use intent::{Intent, ROOT_NAMESPACE};
pub use selector::{EgressHost, HostPattern, NamespacePattern, Selector};
pub use sidecar::{CaptureMode, DefaultEndpoint, EgressListener, IngressListener, OutboundPolicy, Sidecar};
