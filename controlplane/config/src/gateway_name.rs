//! The gateways that a route is for.

use model::Namespace;
use resource::{Field, ResourceError};

/// A gateway, or the sidecars of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum GatewayName {
    /// `mesh`: every sidecar.
    Mesh,
    /// A Gateway resource.
    Named {
        /// Its namespace.
        namespace: Namespace,
        /// Its name.
        name: String,
    },
}

impl GatewayName {
    /// A list of `mesh`, `NAME` and `NAMESPACE/NAME`, in a resource of the namespace `own`.
    pub(crate) fn read_all(at: &Field<'_>, own: &Namespace) -> Result<Vec<Self>, ResourceError> {
        at.items()?.iter().map(|item| Self::read(item, own)).collect()
    }

    fn read(at: &Field<'_>, own: &Namespace) -> Result<Self, ResourceError> {
        let text = at.required_text()?;
        if text == "mesh" {
            return Ok(Self::Mesh);
        }
        let refuse = || at.refuse("mesh, NAME or NAMESPACE/NAME of a Gateway");
        let (namespace, name) = match text.split_once('/') {
            Some((".", name)) => (own.clone(), name),
            Some((namespace, name)) => (namespace.parse().map_err(|_| refuse())?, name),
            None => (own.clone(), text),
        };
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        if name.is_empty() || name.len() > 253 || !name.bytes().all(legal) {
            return Err(refuse());
        }
        Ok(Self::Named { namespace, name: name.to_owned() })
    }
}
