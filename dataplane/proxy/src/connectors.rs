//! How TLS is spoken to servers outside of the mesh: one configuration for each way, made again when what it shows or
//! trusts has changed.

use crate::material::{self, Material};
use identity::{IdentityError, OutsideServer, outside_client_config};
use parking_lot::Mutex;
use routing::{OutsideTls, RoutingTable};
use rustls::ClientConfig;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The configurations that were made.
pub(crate) struct Connectors {
    made: Mutex<HashMap<OutsideTls, Made>>,
    /// How old what was read of files may become before they are read again.
    files_last: Duration,
}

struct Made {
    config: Arc<ClientConfig>,
    material: Material,
}

/// Ways that are kept; no proxy has nearly as many, but tables come and go.
const MOST: usize = 1024;

// === impl Connectors ===

impl Connectors {
    pub(crate) fn new(files_last: Duration) -> Self {
        Self { made: Mutex::default(), files_last }
    }

    /// How `tls` is spoken at this moment.
    ///
    /// # Errors
    /// If a secret has not come, or a certificate or roots cannot be used.
    pub(crate) fn of(&self, tls: &OutsideTls, table: &RoutingTable) -> Result<Arc<ClientConfig>, IdentityError> {
        let mut made = self.made.lock();
        if let Some(known) = made.get(tls).filter(|known| known.is_current(tls, table)) {
            return Ok(known.config.clone());
        }
        match (make(tls, table, self.files_last), made.get(tls)) {
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
                tracing::warn!(%error, "what a server is shown, or verified by, cannot be used; that of before stays");
                Ok(known.config.clone())
            }
            (Err(error), None) => Err(error),
        }
    }
}

// === impl Made ===

impl Made {
    fn is_current(&self, tls: &OutsideTls, table: &RoutingTable) -> bool {
        self.material.is_current(tls.secrets(), table)
    }
}

fn make(tls: &OutsideTls, table: &RoutingTable, files_last: Duration) -> Result<Made, IdentityError> {
    let roots = tls.roots.as_ref().map(|roots| material::roots(roots, tls.revoked.as_deref(), table)).transpose()?;
    let certificate = tls.certificate.as_ref().map(|place| material::certificate(place, table)).transpose()?;
    let config = outside_client_config(&OutsideServer {
        roots: roots.as_ref().map(|(roots, revoked)| (&roots[..], revoked.as_deref())),
        names: &tls.names,
        certificate: certificate.as_ref().map(|(chain, key)| (&chain[..], &key[..])),
        alpn: &tls.alpn,
    })?;
    let material = Material::now(tls.secrets(), table, tls.has_files().then_some(files_last));
    Ok(Made { config, material })
}
