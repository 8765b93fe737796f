//! Tunnels to the peers' gateways over QUIC; quinn's only door.
//!
//! ```text
//! PeerSet::open ─▶ header + first bytes ═▶ accept ─▶ Arrival ─▶ TunnelStream::copy
//! ```

mod congestion;
mod header;
mod incoming;
mod metrics;
mod peers;
mod quic;
mod refusal;
mod settings;
mod stream;
mod tunnel;

pub use congestion::Congestion;
pub use header::{HeaderError, LIMIT, MAX_HOPS, StreamHeader, VERSION};
pub use incoming::{Arrival, Incoming, Misfit, accept};
pub use metrics::{Metrics, OpenStream, StreamLabels, StreamMetrics};
pub use peers::{OpenError, PeerPath, PeerSet, gateway_identity};
pub use quic::{ALPN, QuicEndpoint};
pub use refusal::Refusal;
pub use settings::Settings;
pub use stream::{CopyError, GuardedTcp, TunnelStream};
pub use tunnel::Tunnel;
