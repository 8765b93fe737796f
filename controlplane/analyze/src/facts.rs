//! What is known beside the resources.

use model::{ClusterId, Host};
use std::collections::BTreeSet;

/// What is known beside the resources.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The clusters of the mesh, the own one among them; whether a cluster exists is not asked if there are none.
    pub clusters: BTreeSet<ClusterId>,
    /// Hosts that are declared elsewhere, such as those that peers offer; perhaps wildcards.
    pub hosts: BTreeSet<Host>,
}
