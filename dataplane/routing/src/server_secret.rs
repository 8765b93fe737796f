//! What a proxy shows and trusts beside its own identity, as the control plane tells it.

use crate::Rejection;
use crate::decode::message;
use api::envoy::envoy::config::core::v3::{DataSource, data_source::Specifier};
use api::envoy::envoy::extensions::transport_sockets::tls::v3::{Secret, secret::Type};
use std::fmt;

/// A secret of the control plane's; what it holds is PEM, and never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum ServerSecret {
    /// A certificate chain and its key.
    Certificate(Vec<u8>, Vec<u8>),
    /// Roots, and what they have revoked.
    Roots(Vec<u8>, Option<Vec<u8>>),
}

// === impl ServerSecret ===

impl ServerSecret {
    pub(crate) fn parse(resource: &xds::Resource) -> Result<Self, Rejection> {
        let secret: Secret = message(resource)?;
        let bytes = |source: Option<&DataSource>, field: &str| match source.and_then(|at| at.specifier.as_ref()) {
            Some(Specifier::InlineBytes(bytes)) => Ok(bytes.clone()),
            Some(Specifier::InlineString(text)) => Ok(text.clone().into_bytes()),
            _ => Err(Rejection::new(&resource.name, format!("{field}: inline_bytes or inline_string is expected"))),
        };
        match &secret.r#type {
            Some(Type::TlsCertificate(certificate)) => Ok(Self::Certificate(
                bytes(certificate.certificate_chain.as_ref(), "certificate_chain")?,
                bytes(certificate.private_key.as_ref(), "private_key")?,
            )),
            Some(Type::ValidationContext(context)) => Ok(Self::Roots(
                bytes(context.trusted_ca.as_ref(), "trusted_ca")?,
                context.crl.as_ref().map(|crl| bytes(Some(crl), "crl")).transpose()?,
            )),
            _ => Err(Rejection::new(&resource.name, "tls_certificate or validation_context is expected")),
        }
    }
}

impl fmt::Debug for ServerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate(..) => "Certificate(not shown)",
            Self::Roots(..) => "Roots(not shown)",
        })
    }
}
