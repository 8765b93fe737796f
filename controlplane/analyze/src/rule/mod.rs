//! The rules: each looks at all resources, and says what it finds.

mod annotation;
mod ca;
mod credential;
mod delegate;
mod deprecated;
mod destination;
mod destination_rule;
mod envoy_filter;
mod export;
mod gateway;
mod gateway_api;
mod gateway_host;
mod host_twice;
mod mesh_host;
mod port_name;
mod service_address;
mod sidecar;
mod subset;
mod unreachable;
mod workload;

use crate::Message;
use crate::index::World;

type Rule = fn(&World<'_>, &mut Vec<Message>);

/// The names of the rules, each `NOUN.WHAT`.
pub fn rules() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|(name, _)| *name)
}

/// The rules, each with its name.
pub(crate) const RULES: &[(&str, Rule)] = &[
    ("annotation.Misplaced", annotation::check),
    ("credential.Existence", credential::check),
    ("deprecated.Fields", deprecated::check),
    ("destinationRule.CaCertificates", ca::check),
    ("destinationRule.Host", destination_rule::check),
    ("destinationRule.SubsetEndpoints", subset::check),
    ("envoyFilter.Operations", envoy_filter::check),
    ("export.Clusters", export::check),
    ("gateway.Conflicts", gateway::check),
    ("gatewayApi.References", gateway_api::check),
    ("service.PortName", port_name::check),
    ("serviceEntry.Addresses", service_address::check),
    ("serviceEntry.HostTwice", host_twice::check),
    ("sidecar.Selectors", sidecar::check),
    ("virtualService.Delegates", delegate::check),
    ("virtualService.Destinations", destination::check),
    ("virtualService.GatewayHosts", gateway_host::check),
    ("virtualService.MeshHosts", mesh_host::check),
    ("virtualService.Unreachable", unreachable::check),
    ("workload.Selectors", workload::check),
];
