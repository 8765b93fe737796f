//! A control plane on loopback: a directory of YAML, an authority, real TLS, and those who connect.
#![allow(clippy::expect_used)]

mod envoy;
mod pushes;
mod registrations;
mod reports;
mod rig;
