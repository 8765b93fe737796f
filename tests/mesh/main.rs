//! The demo's two clusters in one process: every role as a task, over real TCP, QUIC and mTLS on loopback.

mod beside;
mod echo;
mod fixture;
mod ingress;
mod protocols;
mod registered;
mod scenarios;
