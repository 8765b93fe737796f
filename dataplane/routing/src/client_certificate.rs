//! What becomes of `x-forwarded-client-cert`, by which servers learn who asks (Envoy's `forward_client_cert_details`).

use api::envoy::envoy::extensions::filters::network::http_connection_manager::v3 as proto;
use proto::http_connection_manager::ForwardClientCertDetails;

/// What becomes of the field, where the caller showed a certificate of a client. From all others it is taken away, unless
/// it always passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificate {
    /// It is taken away.
    #[default]
    Sanitize,
    /// It passes as the caller wrote it.
    Forward,
    /// What the handshake proved is written behind what the caller wrote.
    Append,
    /// What the handshake proved is written in the place of what the caller wrote.
    Replace,
    /// It passes whoever wrote it.
    AlwaysForward,
}

// === impl ClientCertificate ===

impl ClientCertificate {
    pub(crate) fn parse(manager: &proto::HttpConnectionManager) -> Self {
        match manager.forward_client_cert_details() {
            ForwardClientCertDetails::Sanitize => Self::Sanitize,
            ForwardClientCertDetails::ForwardOnly => Self::Forward,
            ForwardClientCertDetails::AppendForward => Self::Append,
            ForwardClientCertDetails::SanitizeSet => Self::Replace,
            ForwardClientCertDetails::AlwaysForwardOnly => Self::AlwaysForward,
        }
    }
}
