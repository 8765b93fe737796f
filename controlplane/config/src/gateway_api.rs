//! The Kubernetes Gateway API: its resources, one file a kind, and what they come to in Istio's nouns.
//!
//! ```text
//! document ──one file a kind──▶ Gateway | Route | Grant | … ──lower_route──▶ rules in their order
//!     ──edge──▶ config's Gateway and VirtualService, one of each for a listener
//!     ──mesh──▶ VirtualServices of the services that are parents
//! ```
//!
//! What cannot be resolved does not refuse a document, as it may come later: it is a warning that names the status
//! condition which Kubernetes would show. Fields are those of the standard and the experimental channel, v1.5
//! (<https://gateway-api.sigs.k8s.io/reference/spec/>).

mod attach;
mod backend;
mod backend_tls_policy;
mod class;
mod cors;
mod edge;
mod filter;
mod gateway;
mod grpc_route;
mod http_match;
mod http_route;
mod known;
mod label_selector;
mod listener;
mod lower_route;
mod mesh;
mod object;
mod parent;
mod path_change;
mod place;
mod reference_grant;
mod route;
mod server_tls;
mod stream_route;

use crate::{Credential, Intent};
use backend_tls_policy::BackendTlsPolicy;
use class::Classes;
use gateway::Gateway;
use known::Known;
use lower_route::Lowered;
use place::Place;
use resource::{Document, Node, Resource, ResourceError, Source};
use route::{Route, RouteKind};

/// The group of all its kinds.
pub(crate) const GROUP: &str = "gateway.networking.k8s.io";

/// All resources of the Gateway API, and what they may refer to.
#[derive(Debug, Default)]
pub(crate) struct GatewayApi {
    classes: Classes,
    gateways: Vec<Gateway>,
    routes: Vec<Route>,
    policies: Vec<BackendTlsPolicy>,
    known: Known,
}

// === impl GatewayApi ===

impl GatewayApi {
    /// Takes in one document; whether it is of a kind of the Gateway API that is honoured.
    ///
    /// # Errors
    /// If it is, but says what nobody could honour.
    pub(crate) fn add(&mut self, document: &Document, spec: &Node, source: &mut Source) -> Result<bool, ResourceError> {
        if document.api_version.split_once('/').is_none_or(|(group, _)| group != GROUP) {
            return Ok(false);
        }
        match document.kind.as_str() {
            "GatewayClass" => self.classes.add(document, spec, source)?,
            "Gateway" => self.gateways.push(gateway::read(document, spec, source)?),
            "ReferenceGrant" => self.known.grants.extend(reference_grant::read(document, spec)?),
            "BackendTLSPolicy" => self.policies.push(backend_tls_policy::read(document, spec, source)?),
            kind => match RouteKind::named(kind) {
                Some(kind) => self.routes.push(route::read(kind, document, spec, source)?),
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    /// Looks at a document of another kind for what may be referred to.
    pub(crate) fn note(&mut self, document: &Document) {
        let metadata = &document.metadata;
        let key = || (metadata.namespace.clone(), metadata.name.clone());
        match &document.resource {
            Resource::ServiceEntry(entry) => self.known.add_entry(&metadata.namespace, &metadata.name, entry),
            Resource::ConfigMap(map) => {
                self.known.config_maps.insert(key(), map.clone());
            }
            Resource::Other(_) if document.kind == "Namespace" && document.api_version == "v1" => {
                if let Ok(name) = metadata.name.parse() {
                    self.known.namespaces.insert(name, metadata.labels.clone());
                }
            }
            _ => {}
        }
    }

    /// Adds to `intent` what all of it comes to.
    pub(crate) fn lower(mut self, intent: &mut Intent) {
        self.known.credentials.clone_from(&intent.credentials);
        let (known, warnings) = (&self.known, &mut intent.warnings);
        let lowered: Vec<Lowered<'_>> = self.routes.iter().map(|route| Lowered::of(route, known, warnings)).collect();
        intent.backend_tls = backend_tls_policy::backend_tls(&self.policies, known, warnings).into_iter().collect();
        let edges = edge::edges(&self.gateways, &self.classes, &lowered, known, warnings);
        intent.virtual_services.extend(mesh::virtual_services(&lowered, known, warnings));
        intent.virtual_services.extend(edges.services);
        intent.gateways.extend(edges.gateways);
        let roots: Vec<(_, Credential)> = edges.roots.into_iter().collect();
        intent.credentials.extend(roots);
    }
}
