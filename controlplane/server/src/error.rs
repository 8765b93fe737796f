//! Why a control plane does not start.

use ca::AuthorityError;
use identity::IdentityError;
use model::Invalid;

/// Why a control plane does not start. All are the operator's to mend; none is worth a retry.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// The listening socket has no address.
    #[error("listen: {0}")]
    Listen(#[from] std::io::Error),
    /// The cluster's names do not make an identity.
    #[error(transparent)]
    Name(#[from] Invalid),
    /// The authority does not give the control plane its own certificate.
    #[error("the control plane's own certificate: {0}")]
    Certificate(#[from] AuthorityError),
    /// The authority's root, or what it issued, is not usable.
    #[error("the control plane's own identity: {0}")]
    Identity(#[from] IdentityError),
}
