//! What to export, who leads, who is alive: pure functions of state, event, time and chance.
