//! ConfigMap (Kubernetes `v1`): texts by name, such as the roots that TLS is verified by.

use crate::{Field, Position, ResourceError};
use std::collections::BTreeMap;

/// A ConfigMap's texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigMap {
    /// The texts by name; what is binary is left out.
    pub texts: BTreeMap<String, String>,
    /// Where each stands.
    pub positions: BTreeMap<String, Position>,
}

/// The ConfigMap in `object`.
///
/// # Errors
/// If `data` is no mapping from text to text.
pub(crate) fn read(object: &Field<'_>) -> Result<ConfigMap, ResourceError> {
    let data = object.any_field("data");
    let positions = data.members()?.into_iter().map(|(name, member)| (name.to_owned(), member.position())).collect();
    Ok(ConfigMap { texts: data.texts()?, positions })
}
