//! Two sidecars and an application over loopback, with real mTLS: what crosses, what does not, and what is told of it.

mod app;
mod authorization;
mod change;
mod drain;
mod edge;
mod framing;
mod grpc;
mod headers;
mod mesh;
mod metrics;
mod requests;
mod retries;
mod streams;
mod trust;
mod websocket;
