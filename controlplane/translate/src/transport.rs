//! Which transport each endpoint of an upstream wants, by its metadata: mTLS only if it is known who should answer.

use crate::any::any;
use crate::scope::Scope;
use crate::value::one_field;
use crate::{endpoint, tls};
use api::envoy::envoy::config::cluster::v3::cluster::TransportSocketMatch;
use api::envoy::envoy::config::core::v3::{
    ProxyProtocolConfig, TransportSocket, proxy_protocol_config::Version, transport_socket::ConfigType,
};
use api::envoy::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use api::envoy::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use api::envoy::google::protobuf::Struct;
use config::{ClientTls, PortPolicy, ProxyProtocol, Subset, TlsMode};
use model::{Catalog, Port, Service, Sni};
use std::collections::BTreeSet;

/// Who is expected where it is not known who should answer: an identity that nobody can bear (RFC 2606, section 2).
const NOBODY: &str = "spiffe://unknown.invalid/ns/unknown/sa/unknown";

pub(crate) fn matches(
    scope: &Scope<'_>,
    service: &Service,
    port: &Port,
    subset: Option<&Subset>,
    policy: &PortPolicy,
) -> Vec<TransportSocketMatch> {
    let plain = |socket| TransportSocketMatch {
        name: "tlsMode-disabled".to_owned(),
        r#match: Some(Struct::default()),
        transport_socket: Some(socket),
    };
    // Who speaks the mesh's mTLS knows the caller from it, and would take this for a broken hello.
    let outside = |socket| match policy.proxy_protocol {
        None => plain(socket),
        Some(version) => plain(announced(version, socket)),
    };
    let expected = expected(scope.catalog, service, policy.tls.as_ref());
    let mutual = |expected: &BTreeSet<String>| {
        let groups = subset.map(|subset| endpoint::groups(service, subset)).unwrap_or_default();
        let sni = Sni { port: port.number, groups, host: service.key.host.clone() };
        // Gateways lead to other clusters by our own form of name only.
        let told = policy.tls.as_ref().and_then(|tls| tls.sni.clone()).filter(|_| service.imports.is_empty());
        let sni = told.unwrap_or_else(|| sni.to_string());
        tls::upstream(sni, port.protocol, expected)
    };
    let by_mode = |socket| TransportSocketMatch {
        name: "tlsMode-istio".to_owned(),
        r#match: Some(one_field("tlsMode", "istio")),
        transport_socket: Some(socket),
    };
    match policy.tls.as_ref().map(|tls| &tls.mode) {
        None if expected.is_empty() => vec![outside(clear())],
        None => vec![by_mode(mutual(&expected)), outside(clear())],
        Some(TlsMode::Disable) => vec![outside(clear())],
        // Endpoints that nobody knows to speak mTLS are spoken to so all the same, and never in the clear.
        Some(TlsMode::IstioMutual) => {
            let nobody = || BTreeSet::from([NOBODY.to_owned()]);
            let socket = mutual(&if expected.is_empty() { nobody() } else { expected });
            vec![by_mode(socket.clone()), plain(socket)]
        }
        Some(TlsMode::Simple | TlsMode::Mutual(_)) => {
            let own = policy.tls.as_ref().map(|tls| tls::to_server(tls, service, port.protocol));
            own.map(outside).into_iter().collect()
        }
    }
}

fn clear() -> TransportSocket {
    TransportSocket {
        name: "envoy.transport_sockets.raw_buffer".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&RawBuffer::default()))),
    }
}

/// The same, begun with who asks whom (PROXY protocol).
fn announced(version: ProxyProtocol, inside: TransportSocket) -> TransportSocket {
    let version = match version {
        ProxyProtocol::V1 => Version::V1,
        ProxyProtocol::V2 => Version::V2,
    };
    let config = ProxyProtocolConfig { version: version.into(), ..Default::default() };
    let socket =
        ProxyProtocolUpstreamTransport { config: Some(config), transport_socket: Some(inside), ..Default::default() };
    TransportSocket {
        name: "envoy.transport_sockets.upstream_proxy_protocol".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&socket))),
    }
}

/// Who may answer for `service`: the identities of its own endpoints, and those that each peer claims, each
/// speaking for its own trust domain only; or those that the rule names.
fn expected(catalog: &Catalog, service: &Service, tls: Option<&ClientTls>) -> BTreeSet<String> {
    if let Some(tls) = tls.filter(|tls| !tls.subject_alt_names.is_empty()) {
        return tls.subject_alt_names.iter().cloned().collect();
    }
    let local = service.endpoints.iter().filter(|endpoint| endpoint.mtls).filter_map(|e| e.identity.as_ref());
    let remote = service.imports.values().flat_map(|import| {
        let domain = catalog.peers.get(&import.cluster).map(|peer| &peer.cluster.trust_domain);
        let identities = import.export.groups.iter().flat_map(|group| &group.identities);
        identities.filter(move |identity| Some(&identity.trust_domain) == domain)
    });
    let shown: BTreeSet<_> = local.chain(remote).collect();
    shown.iter().map(ToString::to_string).chain(service.subject_alt_names.iter().cloned()).collect()
}
