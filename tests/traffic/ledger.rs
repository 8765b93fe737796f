//! What the applications saw, by the number that each request carries.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;

/// The header field with a request's number. Proxies make and change `x-request-id`; this one is nobody's business.
pub const NUMBER: &str = "x-ask";

/// What an application saw of a request.
#[derive(Debug, Clone)]
pub struct Seen {
    pub instance: String,
    pub method: String,
    /// With the query.
    pub path: String,
    pub authority: String,
    pub version: String,
    /// The connection that it came over.
    pub peer: SocketAddr,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// The book that all applications write into.
#[derive(Debug, Default)]
pub struct Ledger {
    pages: Mutex<HashMap<String, Vec<Seen>>>,
}

// === impl Seen ===

impl Seen {
    /// Whether it was a copy, which proxies mark in the authority: `host-shadow:port`.
    pub fn is_copy(&self) -> bool {
        let host = self.authority.rsplit_once(':').map_or(self.authority.as_str(), |(host, _)| host);
        host.ends_with("-shadow")
    }

    /// The values of a header field, joined.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(","))
    }
}

// === impl Ledger ===

impl Ledger {
    /// Writes one down; the how manieth it is of its number, copies apart. Who has no number is not asked for later, and
    /// there may be very many of them.
    pub fn write(&self, seen: Seen) -> usize {
        let Some(number) = seen.header(NUMBER) else { return 1 };
        let mut pages = self.pages.lock().expect("nobody panics while holding it");
        let page = pages.entry(number).or_default();
        let is_copy = seen.is_copy();
        page.push(seen);
        page.iter().filter(|other| other.is_copy() == is_copy).count()
    }

    /// All that was seen of a number, copies apart, in the order of arrival.
    pub fn originals(&self, number: &str) -> Vec<Seen> {
        self.of(number).into_iter().filter(|seen| !seen.is_copy()).collect()
    }

    /// The copies of a number.
    pub fn copies(&self, number: &str) -> Vec<Seen> {
        self.of(number).into_iter().filter(Seen::is_copy).collect()
    }

    fn of(&self, number: &str) -> Vec<Seen> {
        self.pages.lock().expect("nobody panics while holding it").get(number).cloned().unwrap_or_default()
    }
}
