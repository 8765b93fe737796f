//! How a proxy is started: what its agent asks for before it runs it.

use api::istio::mesh::ProxyConfig;
use config::Intent;
use xds::{Node, Resource, type_url};

/// What the agent of `node` is told.
pub(crate) fn resource(intent: &Intent, node: &Node) -> Resource {
    let start = intent.start_of(&node.namespace, &node.labels);
    let config = ProxyConfig {
        drain_duration: start.drain.and_then(|time| time.try_into().ok()),
        concurrency: start.workers.map(u32::cast_signed),
        proxy_metadata: start.environment,
        termination_drain_duration: start.last_drain.and_then(|time| time.try_into().ok()),
    };
    Resource::new(type_url::PROXY_CONFIG_NAME, &config)
}
