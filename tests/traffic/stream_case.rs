//! A step of a case: connections that carry bytes.

use crate::http_case::{Target, once};
use crate::tls::TlsCase;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Connections, and what is expected of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StreamCase {
    /// The service's short name and port.
    pub to: Target,
    /// Speaks TLS, and names this server.
    #[serde(default)]
    pub server_name: Option<String>,
    /// Speaks TLS in this way.
    #[serde(default)]
    pub tls: Option<TlsCase>,
    /// What is sent, and must come back.
    #[serde(default)]
    pub send: String,
    /// How many of them.
    #[serde(default = "once")]
    pub times: usize,
    #[serde(default)]
    pub expect: StreamExpect,
}

/// What is expected of all connections of a step.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StreamExpect {
    /// Where all of them went.
    pub instance: Option<String>,
    /// The share of each instance.
    pub instances: BTreeMap<String, f64>,
    /// Whether all went to the same instance, whichever it is.
    pub same_instance: bool,
    /// Whether the connection ends before the server said anything.
    pub refused: bool,
    /// Whether the connection is ended by the proxy, when nothing is said on it any more.
    pub let_go: bool,
}
