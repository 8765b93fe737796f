//! Catalog and Intent in, one proxy's xDS snapshot out.
//!
//! ```text
//! Catalog + Intent + Node -> Scope -> cluster | endpoint | listener (inbound) | route | secret | names -> Snapshot
//! ```
//!
//! Pure: equal inputs give equal bytes, so that a resource is sent again only when it means something else. What
//! Envoy's messages keep in hash maps holds one entry at most; where more are needed, [`assignment`] and [`table`] have ordered
//! ones.

mod any;
mod assignment;
mod authorization;
mod captured;
mod change;
mod cluster;
mod dynamic;
mod edge;
mod edge_route;
mod endpoint;
mod filter;
mod filter_config;
mod hash;
mod headers;
mod http_route;
mod inbound;
mod listener;
mod locality;
mod matches;
mod mesh_default;
mod names;
mod patch;
mod permission;
mod policy;
mod principal;
mod proxy_headers;
mod proxy_start;
mod rate_limit;
mod rbac;
mod retry;
mod route;
mod scope;
mod secret;
mod server_tls;
mod stream;
mod table;
mod text;
mod tls;
mod tokens;
mod transport;
mod value;
mod zone;

pub use change::Change;
pub use patch::patch;

use config::Intent;
use model::{Catalog, WorkloadIdentity};
use scope::Scope;
use xds::{Node, Resource, Snapshot, type_url};

/// All the resources of the proxy `node`, whose certificate shows `identity`.
///
/// The proxy sees the services that its Sidecar resource lets it see, or all; it takes requests for the ports that its
/// Sidecar lists, or else for those of the services that it is an endpoint of.
pub fn translate(catalog: &Catalog, intent: &Intent, node: &Node, identity: &WorkloadIdentity) -> Snapshot {
    let scope = Scope::new(catalog, intent, node, identity);
    let mut snapshot = Snapshot::default();
    let mut add = |type_url: &'static str, resources: Vec<Resource>| {
        for resource in resources {
            snapshot.insert(type_url, resource);
        }
    };
    add(type_url::CLUSTER, cluster::resources(&scope));
    add(type_url::ENDPOINT, endpoint::resources(&scope));
    add(type_url::LISTENER, listener::resources(&scope));
    add(type_url::ROUTE, route::resources(&scope));
    add(type_url::SECRET, secret::resources(&scope));
    add(type_url::NAME_TABLE, vec![names::resource(&scope.services)]);
    add(type_url::PROXY_CONFIG, vec![proxy_start::resource(intent, node)]);
    patch(intent, node, &mut snapshot);
    snapshot
}

/// The same as [`translate`] of `catalog`, made of `before`, which is what the proxy was told of the catalog before
/// `change`. Where only endpoints of some services are different, what it costs depends on those services alone.
pub fn retranslate(
    before: &Snapshot,
    change: &Change,
    catalog: &Catalog,
    intent: &Intent,
    node: &Node,
    identity: &WorkloadIdentity,
) -> Snapshot {
    match change.for_proxy(node, identity, intent) {
        // What is made anew is not patched: patches of upstreams are for all of them.
        Some(touched) if !(change::renews(touched) && patch::is_of_upstreams(intent)) => {
            change::told(before, touched, catalog, intent, node, identity)
        }
        _ => translate(catalog, intent, node, identity),
    }
}
