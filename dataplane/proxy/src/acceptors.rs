//! How TLS is taken from clients: one configuration for each way, made again when what it shows or trusts has changed.

use identity::{
    ClientAuth, EdgeClients, EdgeTls, Expected, Identity, IdentityError, edge_server_config, server_config,
};
use parking_lot::Mutex;
use routing::{Admits, Clients, DownstreamTls, Place, Roots, RoutingTable, ServerSecret, Shows};
use rustls::ServerConfig;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The configurations that were made.
pub(crate) struct Acceptors {
    made: Mutex<HashMap<DownstreamTls, Made>>,
    /// How old what was read of files may become before they are read again.
    files_last: Duration,
}

struct Made {
    /// The configuration, or why there is none.
    config: Result<Arc<ServerConfig>, String>,
    /// The secrets that there were for it.
    secrets: Vec<Option<Arc<ServerSecret>>>,
    /// When its files must be read again, if there are any.
    until: Option<Instant>,
}

/// Ways that are kept; no proxy has nearly as many, but tables come and go.
const MOST: usize = 1024;

// === impl Acceptors ===

impl Acceptors {
    pub(crate) fn new(files_last: Duration) -> Self {
        Self { made: Mutex::default(), files_last }
    }

    /// How `tls` is taken at this moment. What cannot be used is looked at again when a secret of it has changed, or its
    /// files may have; till then what was good before is better than nothing.
    ///
    /// # Errors
    /// If a secret has not come, or a certificate or roots cannot be used.
    pub(crate) fn of(
        &self,
        tls: &DownstreamTls,
        identity: &Identity,
        table: &RoutingTable,
    ) -> Result<Arc<ServerConfig>, IdentityError> {
        let mut made = self.made.lock();
        let known = made.get(tls);
        if let Some(current) = known.filter(|known| known.is_current(tls, table)) {
            return current.config();
        }
        let config = make(tls, identity, table).or_else(|error| {
            let before = known.and_then(|known| known.config.clone().ok());
            let stays = before.is_some();
            tracing::warn!(%error, stays, "what a listener shows or trusts cannot be used; that of before stays if there is any");
            before.ok_or_else(|| match error {
                IdentityError::Edge(reason) => reason,
                other => other.to_string(),
            })
        });
        if made.len() >= MOST {
            made.clear();
        }
        let secrets = tls.secrets().map(|name| table.secrets.get(name).cloned()).collect();
        let new = Made { config, secrets, until: tls.has_files().then(|| Instant::now() + self.files_last) };
        let config = new.config();
        made.insert(tls.clone(), new);
        config
    }
}

// === impl Made ===

impl Made {
    fn is_current(&self, tls: &DownstreamTls, table: &RoutingTable) -> bool {
        let is_same = |(now, then): (Option<&Arc<ServerSecret>>, &Option<Arc<ServerSecret>>)| match (now, then) {
            (Some(now), Some(then)) => Arc::ptr_eq(now, then),
            (None, None) => true,
            _ => false,
        };
        let now = tls.secrets().map(|name| table.secrets.get(name));
        now.zip(&self.secrets).all(is_same) && self.until.is_none_or(|until| Instant::now() < until)
    }

    fn config(&self) -> Result<Arc<ServerConfig>, IdentityError> {
        self.config.clone().map_err(IdentityError::Edge)
    }
}

fn make(tls: &DownstreamTls, identity: &Identity, table: &RoutingTable) -> Result<Arc<ServerConfig>, IdentityError> {
    match (&tls.shows, &tls.admits) {
        (Shows::Identity, _) => {
            let auth = if tls.requires_certificate { ClientAuth::Required } else { ClientAuth::Optional };
            let alpn: Vec<&[u8]> = tls.alpn.iter().map(String::as_bytes).collect();
            Ok(server_config(identity, auth, expected(&tls.admits), &alpn))
        }
        (Shows::Certificates(_), Admits::Mesh(_)) => {
            Err(IdentityError::Edge("a certificate from elsewhere with clients of the mesh is not accepted".to_owned()))
        }
        (Shows::Certificates(places), admits) => {
            let pairs = places.iter().map(|place| certificate(place, table));
            let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
            let trusted = match admits {
                Admits::Clients(clients) => Some((clients, roots(clients, table)?)),
                Admits::Anyone | Admits::Mesh(_) => None,
            };
            edge_server_config(&EdgeTls {
                certificates: pairs.iter().map(|(chain, key)| (&chain[..], &key[..])).collect(),
                clients: trusted.as_ref().map(|(clients, (roots, revoked))| EdgeClients {
                    roots,
                    revoked: revoked.as_deref(),
                    required: tls.requires_certificate,
                    names: &clients.names,
                    public_keys: &clients.public_keys,
                    certificates: &clients.certificates,
                }),
                alpn: &tls.alpn,
                tls12: tls.tls12,
                tls13: tls.tls13,
                ciphers: &tls.ciphers,
                curves: &tls.curves,
            })
        }
    }
}

/// The workloads that are let in. Names that are no identities are nobody's in the mesh.
fn expected(admits: &Admits) -> Expected {
    match admits {
        Admits::Mesh(names) if !names.is_empty() => {
            Expected::Exactly(Arc::new(names.iter().filter_map(|name| name.parse().ok()).collect()))
        }
        _ => Expected::Any,
    }
}

fn certificate(place: &Place, table: &RoutingTable) -> Result<(Vec<u8>, Vec<u8>), IdentityError> {
    match place {
        Place::Files(chain, key) => Ok((file(chain)?, file(key)?)),
        Place::Secret(name) => match &**secret(name, table)? {
            ServerSecret::Certificate(chain, key) => Ok((chain.clone(), key.clone())),
            ServerSecret::Roots(..) => Err(IdentityError::Edge(format!("secret {name:?} holds no certificate"))),
        },
    }
}

fn roots(clients: &Clients, table: &RoutingTable) -> Result<(Vec<u8>, Option<Vec<u8>>), IdentityError> {
    let own = clients.revoked.as_deref().map(file).transpose()?;
    match &clients.roots {
        Roots::File(path) => Ok((file(path)?, own)),
        Roots::Secret(name) => match &**secret(name, table)? {
            ServerSecret::Roots(roots, revoked) => Ok((roots.clone(), own.or_else(|| revoked.clone()))),
            ServerSecret::Certificate(..) => Err(IdentityError::Edge(format!("secret {name:?} holds no roots"))),
        },
    }
}

fn secret<'a>(name: &Arc<str>, table: &'a RoutingTable) -> Result<&'a Arc<ServerSecret>, IdentityError> {
    table.secrets.get(name).ok_or_else(|| IdentityError::Edge(format!("secret {name:?} has not come")))
}

/// A few kilobytes, once in a while: not worth a thread of its own.
fn file(path: &Path) -> Result<Vec<u8>, IdentityError> {
    std::fs::read(path).map_err(|error| IdentityError::Edge(format!("{}: {error}", path.display())))
}
