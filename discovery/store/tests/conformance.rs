//! The conformance suite against the embedded server, and what only it promises.

mod suite;

conformance!(suite::embedded);
