//! What is expected of requests.

use crate::value::{Statuses, Time};
use serde::Deserialize;
use std::collections::BTreeMap;

/// What is expected of all requests of a step.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Expect {
    /// The status of all, or the share of each.
    pub status: Option<Statuses>,
    /// Where all of them went.
    pub instance: Option<String>,
    /// The share of each instance.
    pub instances: BTreeMap<String, f64>,
    /// Whether all went to the same instance, whichever it is.
    pub same_instance: bool,
    /// Over how many connections the applications got them.
    pub connections: Option<usize>,
    /// What the application saw of each.
    pub seen: Option<SeenAs>,
    /// Header fields of the response; absent where null.
    pub headers: BTreeMap<String, Option<String>>,
    /// Parts of header fields of the response.
    pub header_contains: BTreeMap<String, String>,
    /// The response's body.
    pub body: Option<String>,
    /// Part of the response's body.
    pub body_contains: Option<String>,
    /// The status of gRPC, from header fields or trailers.
    pub grpc_status: Option<u32>,
    /// How long each may take.
    pub took: Option<Took>,
    /// Whether the connection ends without a response.
    pub reset: bool,
    /// The share of requests of which an instance saw a copy; no other instance may have seen one.
    pub mirrored: Option<BTreeMap<String, f64>>,
}

/// What the application saw.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SeenAs {
    pub method: Option<String>,
    pub path: Option<String>,
    pub authority: Option<String>,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: Option<String>,
    /// Header fields, those of one name joined with a comma; absent where null.
    pub headers: BTreeMap<String, Option<String>>,
    /// Parts of header fields.
    pub header_contains: BTreeMap<String, String>,
    pub body: Option<String>,
    /// How often it reached any instance.
    pub attempts: Option<usize>,
    /// How many instances it reached.
    pub instances: Option<usize>,
}

/// The least and the most time.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Took {
    #[serde(default)]
    pub least: Option<Time>,
    #[serde(default)]
    pub most: Option<Time>,
}
