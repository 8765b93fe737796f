//! The package that wires the rooms of the house into one binary.

pub mod admin;
pub mod agent;
pub mod bookshop;
pub mod command;
pub mod demo;
pub mod http_client;
pub mod http_server;
pub mod probe;
pub mod role;
pub mod settings;
pub mod telemetry;
