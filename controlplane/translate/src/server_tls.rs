//! TLS that ends at the edge of the mesh, as a Gateway's server says.

use crate::any::any;
use crate::tls::{self, name_matcher, transport_socket};
use crate::value::{ads_for_a_moment, file, flag};
use api::envoy::envoy::config::core::v3::{TransportSocket, transport_socket::ConfigType};
use api::envoy::envoy::extensions::transport_sockets::tls::v3 as envoy;
use config::{ROOTS_SUFFIX, ServerTls, ServerTlsMode, Shown, TlsVersion};
use envoy::certificate_validation_context::TrustChainVerification::{AcceptUntrusted, VerifyTrustChain};
use envoy::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
use envoy::tls_parameters::TlsProtocol;
use model::{Namespace, Protocol};

/// The name under which a gateway asks for the certificate in the secret `name` (Istio's).
pub(crate) fn secret_name(name: &str) -> String {
    format!("kubernetes://{name}")
}

/// The name under which it asks for the certificate in a secret of another namespace (Istio's).
pub(crate) fn granted_name(namespace: &Namespace, name: &str) -> String {
    format!("kubernetes-gateway://{namespace}/{name}")
}

/// The name under which it asks for the roots that go with it.
pub(crate) fn roots_name(name: &str) -> String {
    format!("kubernetes://{name}{ROOTS_SUFFIX}")
}

/// The name under which it asks for a certificate in files (Istio's). A secret that names files is one that Envoy watches,
/// and that may be missing for itself.
pub(crate) fn file_certificate_name(chain: &str, key: &str) -> String {
    format!("file-cert:{chain}~{key}")
}

/// The name under which it asks for roots in a file.
pub(crate) fn file_roots_name(path: &str) -> String {
    format!("file-root:{path}")
}

/// How a server of a Gateway takes TLS; `is_http` says whether it carries requests.
pub(crate) fn downstream(server: &ServerTls, is_http: bool) -> TransportSocket {
    if server.mode == ServerTlsMode::IstioMutual {
        let protocol = if is_http { Protocol::Http } else { Protocol::Tcp };
        return tls::downstream(protocol, &server.subject_alt_names);
    }
    let secrets = server.shown.iter().map(|shown| match shown {
        Shown::Files(chain, key) => secret(file_certificate_name(chain, key)),
        Shown::Secret(name) => secret(secret_name(name)),
        Shown::Granted(namespace, name) => secret(granted_name(namespace, name)),
    });
    let alpn: &[&str] = if is_http { &["h2", "http/1.1"] } else { &[] };
    let common = envoy::CommonTlsContext {
        tls_params: Some(parameters(server)),
        tls_certificate_sds_secret_configs: secrets.collect(),
        alpn_protocols: alpn.iter().map(ToString::to_string).collect(),
        validation_context_type: validation(server),
        ..Default::default()
    };
    let context = envoy::DownstreamTlsContext {
        common_tls_context: Some(common),
        require_client_certificate: flag(server.mode == ServerTlsMode::Mutual),
        ..Default::default()
    };
    transport_socket(ConfigType::TypedConfig(any(&context)))
}

fn parameters(server: &ServerTls) -> envoy::TlsParameters {
    let version = |version: TlsVersion| match version {
        TlsVersion::V12 => TlsProtocol::TlSv12,
        TlsVersion::V13 => TlsProtocol::TlSv13,
    };
    envoy::TlsParameters {
        tls_minimum_protocol_version: version(server.least.unwrap_or(TlsVersion::V12)).into(),
        tls_maximum_protocol_version: server.greatest.map_or(TlsProtocol::TlsAuto, version).into(),
        cipher_suites: server.ciphers.clone(),
        ecdh_curves: server.curves.clone(),
        ..Default::default()
    }
}

/// By what a client is verified, if one may show something.
fn validation(server: &ServerTls) -> Option<ValidationContextType> {
    if !matches!(server.mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual) {
        return None;
    }
    let own = envoy::CertificateValidationContext {
        crl: server.revoked.as_deref().map(file),
        match_typed_subject_alt_names: server.subject_alt_names.iter().map(|name| name_matcher(name)).collect(),
        verify_certificate_spki: server.public_keys.clone(),
        verify_certificate_hash: server.certificates.clone(),
        trust_chain_verification: if server.insecure { AcceptUntrusted } else { VerifyTrustChain }.into(),
        ..Default::default()
    };
    let in_secret = server.roots_secret.as_deref().map(roots_name);
    let in_file = server.roots.as_deref().map(file_roots_name);
    let beside = || server.shown.first().and_then(Shown::secret).map(roots_name);
    Some(ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(own),
        validation_context_sds_secret_config: in_secret.or(in_file).or_else(beside).map(secret),
        ..Default::default()
    }))
}

fn secret(name: String) -> envoy::SdsSecretConfig {
    envoy::SdsSecretConfig { name, sds_config: ads_for_a_moment() }
}
