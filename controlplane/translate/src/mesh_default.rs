//! What a rule does not say, as the MeshConfig says it.

use config::{ConnectionPool, LoadBalancer, MeshConfig, PortPolicy};

/// `policy`, completed by what `mesh` says.
pub(crate) fn complete(policy: PortPolicy, mesh: &MeshConfig) -> PortPolicy {
    let speaks_of_pools = mesh.connect_timeout.is_some() || mesh.keepalive.is_some() || mesh.h2_upgrade;
    let pool = if speaks_of_pools {
        let written = policy.pool.unwrap_or_default();
        Some(ConnectionPool {
            connect_timeout: written.connect_timeout.or(mesh.connect_timeout),
            keepalive: written.keepalive.or(mesh.keepalive),
            h2_upgrade: written.h2_upgrade.or(mesh.h2_upgrade.then_some(true)),
            ..written
        })
    } else {
        policy.pool
    };
    let load_balancer = match (policy.load_balancer, &mesh.locality) {
        (written, None) => written,
        (written, Some(locality)) => {
            let written = written.unwrap_or_default();
            Some(LoadBalancer { locality: written.locality.or_else(|| Some(locality.clone())), ..written })
        }
    };
    PortPolicy { pool, load_balancer, ..policy }
}
