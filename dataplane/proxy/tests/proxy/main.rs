//! Two sidecars and an application over loopback, with real mTLS: what crosses, what does not, and what is told of it.

mod app;
mod headers;
mod mesh;
mod requests;
