//! What TLS is made of beside the proxy's own identity: secrets of the control plane's, and files.

use identity::IdentityError;
use routing::{Place, Roots, RoutingTable, ServerSecret};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one configuration was made of.
pub(crate) struct Material {
    /// The secrets that there were for it.
    secrets: Vec<Option<Arc<ServerSecret>>>,
    /// When its files must be read again, if there are any.
    until: Option<Instant>,
}

// === impl Material ===

impl Material {
    /// The secrets of these `names` at this moment, and perhaps files that were read now and are good for `files_last`.
    pub(crate) fn now<'a>(
        names: impl Iterator<Item = &'a Arc<str>>,
        table: &RoutingTable,
        files_last: Option<Duration>,
    ) -> Self {
        let secrets = names.map(|name| table.secrets.get(name).cloned()).collect();
        Self { secrets, until: files_last.map(|last| Instant::now() + last) }
    }

    /// Whether it would be the same again; `names` are those of before.
    pub(crate) fn is_current<'a>(&self, names: impl Iterator<Item = &'a Arc<str>>, table: &RoutingTable) -> bool {
        let is_same = |(now, then): (Option<&Arc<ServerSecret>>, &Option<Arc<ServerSecret>>)| match (now, then) {
            (Some(now), Some(then)) => Arc::ptr_eq(now, then),
            (None, None) => true,
            _ => false,
        };
        let now = names.map(|name| table.secrets.get(name));
        now.zip(&self.secrets).all(is_same) && self.until.is_none_or(|until| Instant::now() < until)
    }
}

/// A chain and its key.
pub(crate) fn certificate(place: &Place, table: &RoutingTable) -> Result<(Vec<u8>, Vec<u8>), IdentityError> {
    match place {
        Place::Files(chain, key) => Ok((file(chain)?, file(key)?)),
        Place::Secret(name) => match &**secret(name, table)? {
            ServerSecret::Certificate(chain, key) => Ok((chain.clone(), key.clone())),
            ServerSecret::Roots(..) => Err(IdentityError::Edge(format!("secret {name:?} holds no certificate"))),
        },
    }
}

/// Roots, and what they have revoked: what the file says, or else their secret.
pub(crate) fn roots(
    roots: &Roots,
    revoked: Option<&Path>,
    table: &RoutingTable,
) -> Result<(Vec<u8>, Option<Vec<u8>>), IdentityError> {
    let own = revoked.map(file).transpose()?;
    match roots {
        Roots::File(path) => Ok((file(path)?, own)),
        Roots::Pem(pem) => Ok((pem.to_vec(), own)),
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
