//! How TLS is taken from clients: one configuration for each way, made again when what it shows or trusts has changed.

use crate::material::{self, Material};
use identity::{
    ClientAuth, EdgeClients, EdgeTls, Expected, Identity, IdentityError, edge_server_config, server_config,
};
use parking_lot::Mutex;
use routing::{Admits, DownstreamTls, RoutingTable, Shows};
use rustls::ServerConfig;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The configurations that were made.
pub(crate) struct Acceptors {
    made: Mutex<HashMap<DownstreamTls, Made>>,
    /// How old what was read of files may become before they are read again.
    files_last: Duration,
}

struct Made {
    /// The configuration, or why there is none.
    config: Result<Arc<ServerConfig>, String>,
    material: Material,
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
        let material = Material::now(tls.secrets(), table, tls.has_files().then_some(self.files_last));
        let new = Made { config, material };
        let config = new.config();
        made.insert(tls.clone(), new);
        config
    }
}

// === impl Made ===

impl Made {
    fn is_current(&self, tls: &DownstreamTls, table: &RoutingTable) -> bool {
        self.material.is_current(tls.secrets(), table)
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
            let pairs = places.iter().map(|place| material::certificate(place, table));
            let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
            let trusted = match admits {
                Admits::Clients(clients) => {
                    Some((clients, material::roots(&clients.roots, clients.revoked.as_deref(), table)?))
                }
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
                    insecure: clients.insecure,
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
