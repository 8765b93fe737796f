//! What each role's process is made of: the rooms that it needs, wired, and ended in order.

mod agent;
mod control_plane;
mod enrol;
mod gateway;
mod ingress;
mod offered;
mod proxy;
mod registry;
mod sidecar;
mod store;

pub use agent::agent;
pub use control_plane::control_plane;
pub use gateway::gateway;
pub use sidecar::sidecar;
pub use store::store;
