//! A step of a case: HTTP requests that are all alike.

use crate::case::Column;
use crate::expect::Expect;
use crate::jwt::Issuer;
use crate::tls::TlsCase;
use crate::value::Texts;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Requests, and what is expected of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HttpCase {
    /// The service's short name and port; `gateway` and a port is the gateway itself, and `$CALLER` stands for the
    /// caller's name.
    pub to: Target,
    /// What is asked for, if not the service by its full name and port.
    #[serde(default)]
    pub authority: Option<String>,
    #[serde(default = "get")]
    pub method: String,
    #[serde(default = "root")]
    pub path: String,
    /// Whether HTTP/2 is spoken, without an upgrade.
    #[serde(default)]
    pub http2: bool,
    /// Speaks TLS in this way.
    #[serde(default)]
    pub tls: Option<TlsCase>,
    #[serde(default)]
    pub headers: BTreeMap<String, Texts>,
    #[serde(default)]
    pub body: String,
    /// How long the body is, where what it says does not matter.
    #[serde(default)]
    pub body_bytes: usize,
    /// How many of them.
    #[serde(default = "once")]
    pub times: usize,
    /// How many of them are under way at once.
    #[serde(default = "few")]
    pub at_once: usize,
    #[serde(default)]
    pub expect: Expect,
}

/// A service and its port, such as `reviews:9080`.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Target {
    pub service: String,
    pub port: u16,
}

fn get() -> String {
    "GET".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

fn few() -> usize {
    4
}

pub fn once() -> usize {
    1
}

/// What stands for the gateway where a service's name may stand.
const GATEWAY: &str = "gateway";

// === impl HttpCase ===

impl HttpCase {
    /// As the caller of `column` asks it.
    pub fn of_caller(&self, column: Column) -> Self {
        let mut of_caller = self.clone();
        of_caller.to.service = self.to.service.replace("$CALLER", &column.to_string());
        of_caller
    }

    /// With the authorities, asked and seen, as `fill` has them.
    pub fn filled(mut self, fill: impl Fn(&str) -> String) -> Self {
        self.authority = self.authority.as_deref().map(&fill);
        if let Some(seen) = &mut self.expect.seen {
            seen.authority = seen.authority.as_deref().map(&fill);
        }
        self
    }

    /// With the tokens of `issuer` in the path and the header fields.
    ///
    /// # Errors
    /// If what stands there for a token is none.
    pub fn with_tokens(&self, issuer: &Issuer) -> anyhow::Result<Self> {
        let mut with = self.clone();
        with.path = issuer.filled(&self.path)?;
        for values in with.headers.values_mut() {
            for value in values.iter_mut() {
                *value = issuer.filled(value)?;
            }
        }
        Ok(with)
    }
}

// === impl Target ===

impl Target {
    /// Whether the gateway is asked, and not the caller's own proxy.
    pub fn is_gateway(&self) -> bool {
        self.service == GATEWAY
    }

    /// The service's full name and its port.
    pub fn authority(&self) -> String {
        format!("{}.shop.svc.cluster.local:{}", self.service, self.port)
    }
}

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let split = text.split_once(':').and_then(|(service, port)| Some((service, port.parse().ok()?)));
        let (service, port) = split.ok_or_else(|| format!("{text:?} is not SERVICE:PORT"))?;
        Ok(Self { service: service.to_owned(), port })
    }
}
