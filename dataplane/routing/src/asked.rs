//! A request as far as its head is known.

use crate::Metadata;
use http::{HeaderMap, Method};

/// What a route is chosen by.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a Method,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The host, perhaps with a port.
    pub authority: &'a str,
    /// The path with the query.
    pub target: &'a str,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// What filters before found out, such as the claims of its token.
    pub metadata: Option<&'a Metadata>,
}

// === impl Asked ===

impl<'a> Asked<'a> {
    /// The path without the query.
    pub fn path(&self) -> &'a str {
        self.target.split(['?', '#']).next().unwrap_or_default()
    }

    /// The query; empty if there is none.
    pub fn query(&self) -> &'a str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}
