//! What a cluster's documents say by themselves: for who has files and no registry that runs.

use crate::merge;
use model::{Catalog, Cluster};
use resource::Document;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The catalog of `cluster` that `documents` come to: without peers, gateways, roots and addresses that are allocated.
pub fn declared(cluster: Cluster, documents: &[Document]) -> Catalog {
    let (services, _) = merge::services(&cluster, documents, &[], &BTreeMap::new());
    let services = services.into_iter().map(|(key, service)| (key, Arc::new(service))).collect();
    Catalog { services, ..Catalog::new(cluster) }
}
