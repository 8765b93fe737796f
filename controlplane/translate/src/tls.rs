//! Mutual TLS on both sides: Istio's ALPN and names, TLS 1.3 only.

use crate::any::any;
use crate::secret::ROOTS;
use crate::server_tls;
use crate::value::{ads, ads_for_a_moment, agent, file, flag};
use api::envoy::envoy::config::core::v3::{
    DataSource, TransportSocket, data_source::Specifier, transport_socket::ConfigType,
};
use api::envoy::envoy::extensions::transport_sockets::tls::v3 as tls;
use api::envoy::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use config::{ClientTls, TlsMode};
use model::{Protocol, Service};
use std::collections::BTreeSet;
use tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
use tls::subject_alt_name_matcher::SanType;

/// What tells the mesh's mTLS from an application's own TLS.
pub(crate) const MESH_ALPN: [&str; 5] =
    ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

/// Where Debian, and most containers, keep the roots of the Web.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The secret that holds the proxy's own certificate.
const CERTIFICATE: &str = "default";

/// The client's side: who may answer is `expected`, never "anybody".
pub(crate) fn upstream(sni: String, protocol: Protocol, expected: &BTreeSet<String>) -> TransportSocket {
    let validation = ValidationContextType::CombinedValidationContext(named(expected.iter()));
    let context = tls::UpstreamTlsContext {
        common_tls_context: Some(common(upstream_alpn(protocol), validation)),
        sni,
        ..Default::default()
    };
    transport_socket(ConfigType::TypedConfig(any(&context)))
}

/// The client's side towards a server outside of the mesh, as `tls` says.
pub(crate) fn to_server(tls: &ClientTls, service: &Service, protocol: Protocol) -> TransportSocket {
    let names: Vec<String> = match &tls.subject_alt_names[..] {
        [] => service.subject_alt_names.iter().cloned().collect(),
        own => own.to_vec(),
    };
    let validation = tls::CertificateValidationContext {
        trusted_ca: tls.credential.is_none().then(|| roots_of(tls)),
        crl: tls.revoked.as_deref().map(file),
        match_typed_subject_alt_names: names.iter().map(|name| name_matcher(name)).collect(),
        ..Default::default()
    };
    let validation = match &tls.credential {
        None => ValidationContextType::ValidationContext(validation),
        Some(name) => ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
            default_validation_context: Some(validation),
            validation_context_sds_secret_config: Some(secret(server_tls::roots_name(name))),
            ..Default::default()
        }),
    };
    let shown = tls.credential.as_deref().filter(|_| matches!(tls.mode, TlsMode::Mutual(_)));
    let certificates = match &tls.mode {
        TlsMode::Mutual(Some((certificate, key))) => vec![tls::TlsCertificate {
            certificate_chain: Some(file(certificate)),
            private_key: Some(file(key)),
            ..Default::default()
        }],
        _ => Vec::new(),
    };
    let alpn: &[&str] = match protocol {
        Protocol::Http2 | Protocol::Grpc => &["h2"],
        Protocol::Http => &["http/1.1"],
        _ => &[],
    };
    let common = tls::CommonTlsContext {
        tls_certificates: certificates,
        tls_certificate_sds_secret_configs: shown
            .map(|name| secret(server_tls::secret_name(name)))
            .into_iter()
            .collect(),
        alpn_protocols: alpn.iter().map(ToString::to_string).collect(),
        validation_context_type: (!tls.insecure).then_some(validation),
        ..Default::default()
    };
    let host = Some(&service.key.host).filter(|host| !host.is_wildcard()).map(ToString::to_string);
    let context = tls::UpstreamTlsContext {
        common_tls_context: Some(common),
        sni: tls.sni.clone().or(host).unwrap_or_default(),
        ..Default::default()
    };
    transport_socket(ConfigType::TypedConfig(any(&context)))
}

/// A secret without which the upstream is there all the same: it would hold up all others.
fn secret(name: String) -> tls::SdsSecretConfig {
    tls::SdsSecretConfig { name, sds_config: ads_for_a_moment() }
}

fn roots_of(tls: &ClientTls) -> DataSource {
    match &tls.roots {
        Some(pem) => DataSource { specifier: Some(Specifier::InlineString(pem.clone())), ..Default::default() },
        None => file(tls.ca_certificates.as_deref().unwrap_or(SYSTEM_ROOTS)),
    }
}

/// The server's side: any identity of a known trust domain, or one of `names` if there are any.
pub(crate) fn downstream(protocol: Protocol, names: &[String]) -> TransportSocket {
    let validation = if names.is_empty() {
        ValidationContextType::ValidationContextSdsSecretConfig(roots())
    } else {
        ValidationContextType::CombinedValidationContext(named(names.iter()))
    };
    let context = tls::DownstreamTlsContext {
        common_tls_context: Some(common(downstream_alpn(protocol), validation)),
        require_client_certificate: flag(true),
        disable_stateful_session_resumption: true,
        session_ticket_keys_type: Some(
            tls::downstream_tls_context::SessionTicketKeysType::DisableStatelessSessionResumption(true),
        ),
        ..Default::default()
    };
    transport_socket(ConfigType::TypedConfig(any(&context)))
}

/// The mesh's name first, by which the server chooses its filter chain; then the plain one, which it negotiates,
/// because Envoy takes HTTP/2 from an ALPN of `h2` only.
fn upstream_alpn(protocol: Protocol) -> &'static [&'static str] {
    match protocol {
        Protocol::Http => &["istio-http/1.1", "http/1.1"],
        Protocol::Http2 | Protocol::Grpc => &["istio-h2", "h2"],
        _ => &["istio"],
    }
}

/// In the server's order of preference.
fn downstream_alpn(protocol: Protocol) -> &'static [&'static str] {
    if protocol.is_http() {
        &["h2", "http/1.1", "istio-h2", "istio-http/1.1", "istio-http/1.0", "istio"]
    } else {
        &["istio", "istio-peer-exchange", "istio-http/1.1", "istio-http/1.0", "istio-h2", "h2", "http/1.1"]
    }
}

fn common(alpn: &[&str], validation: ValidationContextType) -> tls::CommonTlsContext {
    let version = tls::tls_parameters::TlsProtocol::TlSv13.into();
    let certificate = tls::SdsSecretConfig { name: CERTIFICATE.to_owned(), sds_config: agent() };
    tls::CommonTlsContext {
        tls_params: Some(tls::TlsParameters {
            tls_minimum_protocol_version: version,
            tls_maximum_protocol_version: version,
            ..Default::default()
        }),
        tls_certificate_sds_secret_configs: vec![certificate],
        alpn_protocols: alpn.iter().map(ToString::to_string).collect(),
        validation_context_type: Some(validation),
        ..Default::default()
    }
}

/// The mesh's roots, and the names of which one must be shown.
fn named<'a>(names: impl Iterator<Item = &'a String>) -> CombinedCertificateValidationContext {
    let names = tls::CertificateValidationContext {
        match_typed_subject_alt_names: names.map(|name| name_matcher(name)).collect(),
        ..Default::default()
    };
    CombinedCertificateValidationContext {
        default_validation_context: Some(names),
        validation_context_sds_secret_config: Some(roots()),
        ..Default::default()
    }
}

fn roots() -> tls::SdsSecretConfig {
    tls::SdsSecretConfig { name: ROOTS.to_owned(), sds_config: ads() }
}

/// A certificate that bears `name`, an identity or a name of DNS.
pub(crate) fn name_matcher(name: &str) -> tls::SubjectAltNameMatcher {
    let san_type = if name.contains("://") { SanType::Uri } else { SanType::Dns };
    let exact = StringMatcher { match_pattern: Some(MatchPattern::Exact(name.to_owned())), ..Default::default() };
    tls::SubjectAltNameMatcher { san_type: san_type.into(), matcher: Some(exact), oid: String::new() }
}

/// TLS, configured so.
pub(crate) fn transport_socket(config: ConfigType) -> TransportSocket {
    TransportSocket { name: "envoy.transport_sockets.tls".to_owned(), config_type: Some(config) }
}
