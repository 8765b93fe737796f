//! Server and client over loopback.

mod mesh;
mod refusals;
mod scenarios;
