//! What to export, who leads, who is alive: pure functions of state, event and time.

pub mod election;
pub mod export;
pub mod health;
