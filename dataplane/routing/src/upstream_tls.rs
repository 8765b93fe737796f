//! How upstreams are spoken to: in the clear, with the mesh's mTLS, with other TLS; perhaps told who asks.

use crate::decode::unpack;
use crate::downstream_tls::{Place, Roots, file};
use crate::trust::ROOTS;
use api::envoy::envoy::config::core::v3::{
    ProxyProtocolConfig, TransportSocket, proxy_protocol_config::Version, transport_socket::ConfigType,
};
use api::envoy::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use api::envoy::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use api::envoy::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, UpstreamTlsContext, common_tls_context::ValidationContextType,
};
use api::envoy::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use model::WorkloadIdentity;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// How TLS is spoken to an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The server name that is sent.
    pub sni: Arc<str>,
    /// What is offered in ALPN.
    pub alpn: Vec<String>,
    /// Who may answer.
    pub expected: BTreeSet<WorkloadIdentity>,
}

/// How endpoints are spoken to that do not say so themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// In the clear.
    Clear,
    /// With the mesh's mTLS.
    Mesh(UpstreamTls),
    /// With TLS that is not the mesh's.
    Outside(OutsideTls),
}

/// How one endpoint is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportOf<'a> {
    /// In the clear.
    Clear,
    /// With the mesh's mTLS.
    Mesh(&'a UpstreamTls),
    /// With TLS that is not the mesh's.
    Outside(&'a OutsideTls),
}

/// TLS towards a server outside of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OutsideTls {
    /// The server name that is sent; that of the endpoint if empty.
    pub sni: Arc<str>,
    /// What is offered in ALPN.
    pub alpn: Vec<String>,
    /// Where the roots are; any certificate will do if absent.
    pub roots: Option<Roots>,
    /// A file of what the roots have revoked.
    pub revoked: Option<PathBuf>,
    /// The names of which the server must show one; the server name if empty.
    pub names: Vec<String>,
    /// A certificate of our own.
    pub certificate: Option<Place>,
}

/// Who asks whom is told before anything else (<https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// As text.
    V1,
    /// As bytes.
    V2,
}

// === impl Transport ===

impl Transport {
    pub(crate) fn parse(socket: &TransportSocket) -> Result<Self, String> {
        let Some(ConfigType::TypedConfig(any)) = &socket.config_type else {
            return Err("transport_socket: typed_config is expected".into());
        };
        if unpack::<RawBuffer>(any).is_some() {
            return Ok(Self::Clear);
        }
        let common = context(socket)?.common_tls_context.unwrap_or_default();
        match &common.validation_context_type {
            Some(ValidationContextType::CombinedValidationContext(combined))
                if combined.validation_context_sds_secret_config.as_ref().is_some_and(|one| one.name == ROOTS) =>
            {
                Ok(Self::Mesh(UpstreamTls::parse(socket)?))
            }
            _ => Ok(Self::Outside(OutsideTls::parse(socket)?)),
        }
    }
}

fn context(socket: &TransportSocket) -> Result<UpstreamTlsContext, String> {
    let Some(ConfigType::TypedConfig(any)) = &socket.config_type else {
        return Err("transport_socket: typed_config is expected".into());
    };
    unpack::<UpstreamTlsContext>(any)
        .ok_or_else(|| format!("transport_socket: {:?}: UpstreamTlsContext is accepted", any.type_url))?
        .map_err(|error| error.to_string())
}

// === impl OutsideTls ===

impl OutsideTls {
    fn parse(socket: &TransportSocket) -> Result<Self, String> {
        let context = context(socket)?;
        let common = context.common_tls_context.unwrap_or_default();
        let (validation, secret) = match &common.validation_context_type {
            None => (None, None),
            Some(ValidationContextType::ValidationContext(validation)) => (Some(validation), None),
            Some(ValidationContextType::CombinedValidationContext(combined)) => {
                (combined.default_validation_context.as_ref(), combined.validation_context_sds_secret_config.as_ref())
            }
            Some(_) => return Err("common_tls_context: validation_context, or a secret, is accepted".into()),
        };
        let roots = match (secret, validation) {
            (Some(secret), _) => Some(Roots::Secret(secret.name.as_str().into())),
            (None, Some(validation)) => Some(Roots::parse(validation.trusted_ca.as_ref())?),
            (None, None) => None,
        };
        let revoked = validation.and_then(|validation| validation.crl.as_ref());
        let certificate = match (&common.tls_certificate_sds_secret_configs[..], &common.tls_certificates[..]) {
            ([secret, ..], _) => Some(Place::Secret(secret.name.as_str().into())),
            ([], [own, ..]) => Some(Place::Files(
                file(own.certificate_chain.as_ref(), "certificate_chain")?,
                file(own.private_key.as_ref(), "private_key")?,
            )),
            ([], []) => None,
        };
        Ok(Self {
            sni: context.sni.into(),
            alpn: common.alpn_protocols,
            roots,
            revoked: revoked.map(|revoked| file(Some(revoked), "crl")).transpose()?,
            names: validation.map(|validation| exact(validation).cloned().collect()).unwrap_or_default(),
            certificate,
        })
    }

    /// Whether it is made of files.
    pub fn has_files(&self) -> bool {
        self.revoked.is_some()
            || matches!(self.roots, Some(Roots::File(_)))
            || matches!(self.certificate, Some(Place::Files(..)))
    }

    /// The names of the secrets that it needs: that of the roots first.
    pub fn secrets(&self) -> impl Iterator<Item = &Arc<str>> {
        let roots = match &self.roots {
            Some(Roots::Secret(name)) => Some(name),
            Some(Roots::File(_) | Roots::Pem(_)) | None => None,
        };
        let own = match &self.certificate {
            Some(Place::Secret(name)) => Some(name),
            Some(Place::Files(..)) | None => None,
        };
        roots.into_iter().chain(own)
    }
}

/// The names that stand in full.
fn exact(validation: &CertificateValidationContext) -> impl Iterator<Item = &String> {
    let names = validation.match_typed_subject_alt_names.iter();
    names.filter_map(|name| match name.matcher.as_ref()?.match_pattern.as_ref()? {
        MatchPattern::Exact(name) => Some(name),
        _ => None,
    })
}

// === impl UpstreamTls ===

impl UpstreamTls {
    pub(crate) fn parse(socket: &TransportSocket) -> Result<Self, String> {
        let context = context(socket)?;
        let common = context.common_tls_context.unwrap_or_default();
        let Some(ValidationContextType::CombinedValidationContext(validation)) = common.validation_context_type else {
            return Err("common_tls_context: combined_validation_context is expected".into());
        };
        let validation = validation.default_validation_context.unwrap_or_default();
        // A name that is no SPIFFE identity can never be shown by a peer of the mesh.
        let expected: BTreeSet<WorkloadIdentity> = exact(&validation).filter_map(|name| name.parse().ok()).collect();
        if expected.is_empty() {
            return Err("match_typed_subject_alt_names: at least one SPIFFE identity is expected".into());
        }
        Ok(Self { sni: context.sni.into(), alpn: common.alpn_protocols, expected })
    }
}

// === impl ProxyProtocol ===

impl ProxyProtocol {
    /// The version, if `socket` begins with one, and what is inside.
    pub(crate) fn unwrap(socket: &TransportSocket) -> Result<(Option<Self>, Option<TransportSocket>), String> {
        let announced = match &socket.config_type {
            Some(ConfigType::TypedConfig(any)) => unpack::<ProxyProtocolUpstreamTransport>(any),
            _ => None,
        };
        let Some(announced) = announced else { return Ok((None, Some(socket.clone()))) };
        let announced = announced.map_err(|error| error.to_string())?;
        let version = match announced.config.as_ref().map(ProxyProtocolConfig::version) {
            Some(Version::V2) => Self::V2,
            _ => Self::V1,
        };
        Ok((Some(version), announced.transport_socket))
    }
}
