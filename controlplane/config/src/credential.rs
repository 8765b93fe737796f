//! What a gateway shows and trusts: the certificates and roots of a Kubernetes Secret.

use resource::{Position, ResourceError, Secret};
use std::fmt;

/// A certificate with its key, roots, or both, as PEM. What they hold is never printed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Credential {
    /// The certificate chain and its key.
    pub certificate: Option<(Vec<u8>, Vec<u8>)>,
    /// The roots that clients are verified by.
    pub roots: Option<Vec<u8>>,
    /// What the roots' authorities have revoked.
    pub revoked: Option<Vec<u8>>,
}

/// What ends the name of a secret that holds roots only (Istio's).
pub const ROOTS_SUFFIX: &str = "-cacert";

/// The names of a secret's entries, in Istio's order of preference.
const CERTIFICATE: [&str; 2] = ["tls.crt", "cert"];
const KEY: [&str; 2] = ["tls.key", "key"];
const ROOTS: [&str; 2] = ["ca.crt", "cacert"];
const REVOKED: [&str; 2] = ["ca.crl", "crl"];

// === impl Credential ===

impl Credential {
    /// What `secret`, which stands at `position`, holds for TLS; nothing if it is about something else.
    ///
    /// # Errors
    /// If there is a certificate without its key, or the other way round.
    pub(crate) fn read(secret: &Secret, position: &Position) -> Result<Option<Self>, ResourceError> {
        let entry = |names: [&str; 2]| {
            let full = |name: &&str| secret.entries.get(*name).filter(|bytes| !bytes.is_empty()).cloned();
            names.iter().find_map(full)
        };
        let certificate = match (entry(CERTIFICATE), entry(KEY)) {
            (Some(chain), Some(key)) => Some((chain, key)),
            // A key alone is any application's.
            (None, _) => None,
            (Some(_), None) => {
                return Err(ResourceError {
                    position: position.clone(),
                    path: "data".to_owned(),
                    value: "a certificate without a key".to_owned(),
                    expected: "tls.key beside tls.crt, or key beside cert".to_owned(),
                });
            }
        };
        let credential = Self { certificate, roots: entry(ROOTS), revoked: entry(REVOKED) };
        Ok(Some(credential).filter(|credential| credential.certificate.is_some() || credential.roots.is_some()))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |is_there: bool| if is_there { "(not shown)" } else { "none" };
        f.debug_struct("Credential")
            .field("certificate", &shown(self.certificate.is_some()))
            .field("roots", &shown(self.roots.is_some()))
            .field("revoked", &shown(self.revoked.is_some()))
            .finish()
    }
}
