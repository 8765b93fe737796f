//! What TLS is made of beside the proxy's own identity: secrets of the control plane's, and files.

use identity::IdentityError;
use routing::{Place, Roots, RoutingTable, ServerSecret};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one configuration was made of.
#[derive(Default)]
pub(crate) struct Material {
    secrets: Vec<Arc<ServerSecret>>,
    /// When the first of its files was read, if there are any.
    read: Option<Instant>,
}

/// How old what was read of files may become before they are read again.
const FILES_LAST: Duration = Duration::from_secs(10);

// === impl Material ===

impl Material {
    /// Whether it would be the same again: `now` are the secrets of the moment, in the order in which they were taken.
    pub(crate) fn is_current<'a>(&self, now: impl Iterator<Item = Option<&'a Arc<ServerSecret>>>) -> bool {
        let same = now.zip(&self.secrets).all(|(now, then)| now.is_some_and(|now| Arc::ptr_eq(now, then)));
        same && self.read.is_none_or(|read| read.elapsed() < FILES_LAST)
    }

    /// A chain and its key.
    pub(crate) fn certificate(
        &mut self,
        place: &Place,
        table: &RoutingTable,
    ) -> Result<(Vec<u8>, Vec<u8>), IdentityError> {
        match place {
            Place::Files(chain, key) => Ok((self.file(chain)?, self.file(key)?)),
            Place::Secret(name) => match &*self.secret(name, table)? {
                ServerSecret::Certificate(chain, key) => Ok((chain.clone(), key.clone())),
                ServerSecret::Roots(..) => Err(IdentityError::Outside(format!("secret {name:?} holds no certificate"))),
            },
        }
    }

    /// Roots, and what they have revoked: what the file says, or else their secret.
    pub(crate) fn roots(
        &mut self,
        roots: &Roots,
        revoked: Option<&Path>,
        table: &RoutingTable,
    ) -> Result<(Vec<u8>, Option<Vec<u8>>), IdentityError> {
        let own = revoked.map(|path| self.file(path)).transpose()?;
        match roots {
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
        self.read = Some(self.read.unwrap_or_else(Instant::now));
        std::fs::read(path).map_err(|error| IdentityError::Outside(format!("{}: {error}", path.display())))
    }
}
