//! Names that are resolved when somebody asks for them: a bounded memory of the endpoints that they stand for, and of the
//! addresses that they had.

use crate::shared::Shared;
use http::uri::Authority;
use parking_lot::Mutex;
use routing::{Discovery, Endpoint, Transport, Upstream, UpstreamSettings};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The names that are known.
pub(crate) struct Dynamic {
    most: usize,
    known: Mutex<BTreeMap<Key, Known>>,
    addresses: Mutex<BTreeMap<Arc<str>, Resolved>>,
}

/// A host and a port that a request or a connection asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked {
    pub(crate) host: Arc<str>,
    /// The port; that of the scheme if absent.
    pub(crate) port: Option<u16>,
}

type Key = (Arc<str>, Arc<str>, u16);

struct Known {
    endpoint: Arc<Endpoint>,
    settings: Arc<UpstreamSettings>,
    used: Instant,
}

struct Resolved {
    addresses: Arc<[IpAddr]>,
    at: Instant,
}

/// How long an endpoint is remembered that nobody asks for (Envoy's time to live of a host).
const UNUSED: Duration = Duration::from_mins(5);
/// How long addresses count (Envoy's refresh rate).
const FRESH: Duration = Duration::from_mins(1);

// === impl Dynamic ===

impl Dynamic {
    /// Knows up to `most` names.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, known: Mutex::default(), addresses: Mutex::default() }
    }

    /// The endpoint of `upstream` that `asked` stands for. None if as many are known as may be, and all are in use.
    pub(crate) fn endpoint(&self, upstream: &Upstream, asked: &Asked) -> Option<Arc<Endpoint>> {
        let settings = &upstream.settings;
        let usual = if settings.otherwise == Transport::Clear { 80 } else { 443 };
        let port = asked.port.unwrap_or(usual);
        let key = (settings.name.clone(), asked.host.clone(), port);
        let now = Instant::now();
        let mut known = self.known.lock();
        if let Some(one) = known.get_mut(&key).filter(|one| one.settings == *settings) {
            one.used = now;
            return Some(one.endpoint.clone());
        }
        if known.len() >= self.most && !known.contains_key(&key) {
            known.retain(|_, one| now.duration_since(one.used) < UNUSED);
            if known.len() >= self.most {
                return None;
            }
        }
        let endpoint = upstream.named(asked.host.clone(), port);
        known.insert(key, Known { endpoint: endpoint.clone(), settings: settings.clone(), used: now });
        Some(endpoint)
    }

    /// Forgets what nobody asked for lately; the ids of the endpoints that are left.
    pub(crate) fn sweep(&self) -> Vec<u64> {
        let now = Instant::now();
        self.addresses.lock().retain(|_, resolved| now.duration_since(resolved.at) < FRESH);
        let mut known = self.known.lock();
        known.retain(|_, one| now.duration_since(one.used) < UNUSED);
        known.values().map(|one| one.endpoint.id).collect()
    }

    /// Where `host` is.
    ///
    /// # Errors
    /// If the system's resolver does not know it.
    pub(crate) async fn resolve(&self, host: &Arc<str>, port: u16) -> io::Result<Vec<SocketAddr>> {
        let with_port = |addresses: &[IpAddr]| addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        if is_local(host) {
            return Ok(with_port(&[Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]));
        }
        let now = Instant::now();
        if let Some(resolved) = self.addresses.lock().get(host).filter(|one| now.duration_since(one.at) < FRESH) {
            return Ok(with_port(&resolved.addresses));
        }
        let addresses: Arc<[IpAddr]> = tokio::net::lookup_host((&**host, port)).await?.map(|at| at.ip()).collect();
        let mut all = self.addresses.lock();
        if all.len() < self.most || all.contains_key(host) {
            all.insert(host.clone(), Resolved { addresses: addresses.clone(), at: now });
        }
        Ok(with_port(&addresses))
    }
}

/// `localhost`, and names under it, are this machine (RFC 6761, section 6.3).
fn is_local(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

// === impl Asked ===

impl Asked {
    /// What the authority of a request asks for.
    pub(crate) fn of(authority: &Authority) -> Self {
        Self { host: authority.host().to_ascii_lowercase().into(), port: authority.port_u16() }
    }
}

// === impl Shared ===

impl Shared {
    /// The endpoint that `asked` stands for, if `upstream` is one whose names are resolved when they are asked for.
    #[expect(clippy::option_option, reason = "none is for upstreams whose endpoints the table knows")]
    pub(crate) fn named(&self, upstream: &Upstream, asked: Option<&Asked>) -> Option<Option<Arc<Endpoint>>> {
        let is_dynamic = upstream.settings.discovery == Discovery::Dynamic;
        is_dynamic.then(|| self.dynamic.endpoint(upstream, asked?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_says_host_and_port() {
        let asked = |text: &str| Asked::of(&text.parse().expect("an authority"));
        assert_eq!(asked("A.Example:8080"), Asked { host: "a.example".into(), port: Some(8080) });
        assert_eq!(asked("a.example").port, None);
    }

    #[tokio::test]
    async fn names_of_this_machine_ask_nobody() {
        let dynamic = Dynamic::new(1);
        let all = dynamic.resolve(&"x.y.localhost".into(), 1).await.expect("known");
        assert!(all.iter().all(|at| at.ip().is_loopback()) && !all.is_empty());
        assert!(!is_local("localhost.example") && !is_local("notlocalhost"));
    }
}
