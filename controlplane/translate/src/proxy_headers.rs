//! What proxies say of themselves in header fields, as the MeshConfig's `proxyHeaders` has it.

use crate::value::flag;
use api::envoy::envoy::extensions::filters::http::router::v3::Router;
use api::envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use api::envoy::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    ForwardClientCertDetails, ServerHeaderTransformation,
};
use config::{ClientCertificateDetails, ProxyHeaders, ServerHeader};

/// The last filter of all requests.
pub(crate) fn router(headers: &ProxyHeaders) -> Router {
    Router { suppress_envoy_headers: headers.no_debug, ..Router::default() }
}

/// Has `manager` say what `headers` tell, and otherwise what it says already.
pub(crate) fn tell(mut manager: HttpConnectionManager, headers: &ProxyHeaders) -> HttpConnectionManager {
    match &headers.server {
        ServerHeader::Proxy => {}
        ServerHeader::Named(name) => manager.server_name.clone_from(name),
        ServerHeader::Upstream => {
            manager.server_name.clear();
            manager.server_header_transformation = ServerHeaderTransformation::PassThrough.into();
        }
    }
    if headers.no_request_id {
        manager.generate_request_id = flag(false);
    }
    manager
}

/// Envoy's form of `details`; `otherwise` where nothing is said.
pub(crate) fn certificate(details: Option<ClientCertificateDetails>, otherwise: ForwardClientCertDetails) -> i32 {
    let details = match details {
        None => otherwise,
        Some(ClientCertificateDetails::Sanitize) => ForwardClientCertDetails::Sanitize,
        Some(ClientCertificateDetails::ForwardOnly) => ForwardClientCertDetails::ForwardOnly,
        Some(ClientCertificateDetails::AppendForward) => ForwardClientCertDetails::AppendForward,
        Some(ClientCertificateDetails::SanitizeSet) => ForwardClientCertDetails::SanitizeSet,
        Some(ClientCertificateDetails::AlwaysForwardOnly) => ForwardClientCertDetails::AlwaysForwardOnly,
    };
    details.into()
}
