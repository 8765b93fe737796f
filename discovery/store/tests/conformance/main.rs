//! The conformance suite against the embedded server, and what only it promises.

mod embedded;
#[path = "../suite/mod.rs"]
mod suite;

conformance!(suite::embedded);
