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
#[derive(Default)]
pub(crate) struct Acceptors(Mutex<HashMap<DownstreamTls, Made>>);

struct Made {
    config: Arc<ServerConfig>,
    /// The secrets that it was made of.
    secrets: Vec<Arc<ServerSecret>>,
    /// When its files were read, if there are any.
    read: Option<Instant>,
}

/// What a configuration is made of.
#[derive(Default)]
struct Material {
    secrets: Vec<Arc<ServerSecret>>,
    reads_files: bool,
}

/// How old what was read of files may become before they are read again.
const FILES_LAST: Duration = Duration::from_secs(10);
/// Ways that are kept; no proxy has nearly as many, but tables come and go.
const MOST: usize = 1024;

// === impl Acceptors ===

impl Acceptors {
    /// How `tls` is taken at this moment.
    ///
    /// # Errors
    /// If a secret has not come, or a certificate or roots cannot be used.
    pub(crate) fn of(
        &self,
        tls: &DownstreamTls,
        identity: &Identity,
        table: &RoutingTable,
    ) -> Result<Arc<ServerConfig>, IdentityError> {
        let mut made = self.0.lock();
        if let Some(known) = made.get(tls).filter(|known| known.is_current(tls, table)) {
            return Ok(known.config.clone());
        }
        let new = make(tls, identity, table);
        match (new, made.get(tls)) {
            (Ok(new), _) => {
                if made.len() >= MOST {
                    made.clear();
                }
                let config = new.config.clone();
                made.insert(tls.clone(), new);
                Ok(config)
            }
            // What was good before is better than nothing.
            (Err(error), Some(known)) => {
                tracing::warn!(%error, "what a listener shows cannot be used; that of before stays");
                Ok(known.config.clone())
            }
            (Err(error), None) => Err(error),
        }
    }
}

// === impl Made ===

impl Made {
    fn is_current(&self, tls: &DownstreamTls, table: &RoutingTable) -> bool {
        let now = tls.secrets().map(|name| table.secrets.get(name));
        let same = now.zip(&self.secrets).all(|(now, then)| now.is_some_and(|now| Arc::ptr_eq(now, then)));
        same && self.read.is_none_or(|read| read.elapsed() < FILES_LAST)
    }
}

fn make(tls: &DownstreamTls, identity: &Identity, table: &RoutingTable) -> Result<Made, IdentityError> {
    let mut material = Material::default();
    let config = match (&tls.shows, &tls.admits) {
        (Shows::Identity, _) => {
            let auth = if tls.requires_certificate { ClientAuth::Required } else { ClientAuth::Optional };
            let alpn: Vec<&[u8]> = tls.alpn.iter().map(String::as_bytes).collect();
            server_config(identity, auth, Expected::Any, &alpn)
        }
        (Shows::Certificates(_), Admits::Mesh) => {
            let why = "a certificate from elsewhere with clients of the mesh is not accepted".to_owned();
            return Err(IdentityError::Outside(why));
        }
        (Shows::Certificates(places), admits) => {
            let pairs = places.iter().map(|place| material.certificate(place, table));
            let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
            let trusted = match admits {
                Admits::Clients(clients) => Some((clients, material.roots(clients, table)?)),
                Admits::Anyone | Admits::Mesh => None,
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
            })?
        }
    };
    let read = material.reads_files.then(Instant::now);
    Ok(Made { config, secrets: material.secrets, read })
}

// === impl Material ===

impl Material {
    fn certificate(&mut self, place: &Place, table: &RoutingTable) -> Result<(Vec<u8>, Vec<u8>), IdentityError> {
        match place {
            Place::Files(chain, key) => Ok((self.file(chain)?, self.file(key)?)),
            Place::Secret(name) => match &*self.secret(name, table)? {
                ServerSecret::Certificate(chain, key) => Ok((chain.clone(), key.clone())),
                ServerSecret::Roots(..) => Err(IdentityError::Outside(format!("secret {name:?} holds no certificate"))),
            },
        }
    }

    fn roots(&mut self, clients: &Clients, table: &RoutingTable) -> Result<(Vec<u8>, Option<Vec<u8>>), IdentityError> {
        let own = clients.revoked.as_deref().map(|path| self.file(path)).transpose()?;
        match &clients.roots {
            Roots::File(path) => Ok((self.file(path)?, own)),
            Roots::Secret(name) => match &*self.secret(name, table)? {
                ServerSecret::Roots(roots, revoked) => Ok((roots.clone(), own.or_else(|| revoked.clone()))),
                ServerSecret::Certificate(..) => Err(IdentityError::Outside(format!("secret {name:?} holds no roots"))),
            },
        }
    }

    fn secret(&mut self, name: &Arc<str>, table: &RoutingTable) -> Result<Arc<ServerSecret>, IdentityError> {
        let secret = table.secrets.get(name);
        let secret = secret.ok_or_else(|| IdentityError::Outside(format!("secret {name:?} has not come")))?;
        self.secrets.push(secret.clone());
        Ok(secret.clone())
    }

    /// A few kilobytes, once in a while: not worth a thread of its own.
    fn file(&mut self, path: &Path) -> Result<Vec<u8>, IdentityError> {
        self.reads_files = true;
        std::fs::read(path).map_err(|error| IdentityError::Outside(format!("{}: {error}", path.display())))
    }
}
