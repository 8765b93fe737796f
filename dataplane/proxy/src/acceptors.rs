//! How TLS is taken from clients: one configuration for each way, made again when what it shows or trusts has changed.

use crate::material::Material;
use identity::{
    ClientAuth, EdgeClients, EdgeTls, Expected, Identity, IdentityError, edge_server_config, server_config,
};
use parking_lot::Mutex;
use routing::{Admits, DownstreamTls, RoutingTable, Shows};
use rustls::ServerConfig;
use std::collections::HashMap;
use std::sync::Arc;

/// The configurations that were made.
#[derive(Default)]
pub(crate) struct Acceptors(Mutex<HashMap<DownstreamTls, Made>>);

struct Made {
    config: Arc<ServerConfig>,
    material: Material,
}

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
        self.material.is_current(now)
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
                Admits::Clients(clients) => {
                    Some((clients, material.roots(&clients.roots, clients.revoked.as_deref(), table)?))
                }
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
    Ok(Made { config, material })
}
