//! `gatewayTopology`: what stands before the gateways (Istio's `ProxyConfig.gatewayTopology`).

use resource::{Field, ResourceError, Source};

/// What stands before the gateways.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProxyTopology {
    /// How many proxies before a gateway are believed what they say in `x-forwarded-for`.
    pub trusted_proxies: u32,
    /// What becomes of `x-forwarded-client-cert` at a gateway.
    pub client_certificate: Option<ClientCertificateDetails>,
}

/// What becomes of `x-forwarded-client-cert`, by Envoy's `forward_client_cert_details`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificateDetails {
    /// It is taken away.
    Sanitize,
    /// It passes, if the caller showed a certificate.
    ForwardOnly,
    /// If the caller showed a certificate, what it proves is added.
    AppendForward,
    /// If the caller showed a certificate, what it proves stands alone.
    SanitizeSet,
    /// It passes.
    AlwaysForwardOnly,
}

/// More proxies are before no gateway; what would name more addresses is no header.
const MOST_PROXIES: u32 = 100;

// === impl ProxyTopology ===

impl ProxyTopology {
    pub(crate) fn read(at: &Field<'_>, source: &mut Source) -> Result<Self, ResourceError> {
        let fields = at.fields(&["forwardClientCertDetails", "numTrustedProxies", "proxyProtocol"])?;
        let protocol = fields.get("proxyProtocol");
        if protocol.is_present() {
            source.warn(&protocol, "not honoured: gateways do not read the PROXY protocol");
        }
        let proxies = fields.get("numTrustedProxies").integer(0..=MOST_PROXIES, "a number of proxies")?;
        Ok(Self {
            trusted_proxies: proxies.unwrap_or_default(),
            client_certificate: certificate_details(&fields.get("forwardClientCertDetails"))?,
        })
    }
}

/// What becomes of `x-forwarded-client-cert`, if `at` says it.
pub(crate) fn certificate_details(at: &Field<'_>) -> Result<Option<ClientCertificateDetails>, ResourceError> {
    Ok(Some(match at.text()? {
        None | Some("UNDEFINED") => return Ok(None),
        Some("SANITIZE") => ClientCertificateDetails::Sanitize,
        Some("FORWARD_ONLY") => ClientCertificateDetails::ForwardOnly,
        Some("APPEND_FORWARD") => ClientCertificateDetails::AppendForward,
        Some("SANITIZE_SET") => ClientCertificateDetails::SanitizeSet,
        Some("ALWAYS_FORWARD_ONLY") => ClientCertificateDetails::AlwaysForwardOnly,
        Some(_) => {
            return Err(at.refuse("SANITIZE, FORWARD_ONLY, APPEND_FORWARD, SANITIZE_SET or ALWAYS_FORWARD_ONLY"));
        }
    }))
}
