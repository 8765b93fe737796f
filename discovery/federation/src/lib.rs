//! What to export, who leads, who is alive: pure functions of state, event and time.

pub mod election;
pub mod export;
pub mod health;
pub mod high_water;
pub mod liveness;
pub mod offers;
pub mod peer;
pub mod publisher;
