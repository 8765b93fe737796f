//! TLS that ends at the edge of the mesh, as a Gateway's server says.

use crate::any::any;
use crate::tls::{self, name_matcher, transport_socket};
use crate::value::{ads, file, flag};
use api::envoy::envoy::config::core::v3::{TransportSocket, transport_socket::ConfigType};
use api::envoy::envoy::extensions::transport_sockets::tls::v3 as envoy;
use config::{ROOTS_SUFFIX, ServerTls, ServerTlsMode, Shown, TlsVersion};
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

/// How a server of a Gateway takes TLS; `is_http` says whether it carries requests.
pub(crate) fn downstream(server: &ServerTls, is_http: bool) -> TransportSocket {
    if server.mode == ServerTlsMode::IstioMutual {
        return tls::downstream(if is_http { Protocol::Http } else { Protocol::Tcp });
    }
    let mut certificates = Vec::new();
    let mut secrets = Vec::new();
    for shown in &server.shown {
        match shown {
            Shown::Files(chain, key) => certificates.push(envoy::TlsCertificate {
                certificate_chain: Some(file(chain)),
                private_key: Some(file(key)),
                ..Default::default()
            }),
            Shown::Secret(name) => secrets.push(secret(secret_name(name))),
            Shown::Granted(namespace, name) => secrets.push(secret(granted_name(namespace, name))),
        }
    }
    let alpn: &[&str] = if is_http { &["h2", "http/1.1"] } else { &[] };
    let common = envoy::CommonTlsContext {
        tls_params: Some(parameters(server)),
        tls_certificates: certificates,
        tls_certificate_sds_secret_configs: secrets,
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
        trusted_ca: server.roots.as_deref().map(file),
        crl: server.revoked.as_deref().map(file),
        match_typed_subject_alt_names: server.subject_alt_names.iter().map(|name| name_matcher(name)).collect(),
        verify_certificate_spki: server.public_keys.clone(),
        verify_certificate_hash: server.certificates.clone(),
        ..Default::default()
    };
    let named = server.roots_secret.as_deref().map(secret_name);
    let beside = || match server.shown.first() {
        Some(Shown::Secret(name)) if server.roots.is_none() => Some(roots_name(name)),
        _ => None,
    };
    Some(match named.or_else(beside) {
        None => ValidationContextType::ValidationContext(own),
        Some(name) => ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
            default_validation_context: Some(own),
            validation_context_sds_secret_config: Some(secret(name)),
            ..Default::default()
        }),
    })
}

fn secret(name: String) -> envoy::SdsSecretConfig {
    envoy::SdsSecretConfig { name, sds_config: ads() }
}
