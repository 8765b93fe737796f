//! The one secret that is none, the roots, each bound to its own trust domain; and what Gateways show and trust.

use crate::any::any;
use crate::scope::Scope;
use crate::server_tls;
use crate::value::file;
use api::envoy::envoy::config::core::v3::{DataSource, TypedExtensionConfig, data_source::Specifier};
use api::envoy::envoy::extensions::transport_sockets::tls::v3 as tls;
use config::{Credential, ROOTS_SUFFIX, ServerTlsMode, Shown};
use model::{Catalog, Namespace, TrustBundle};
use std::collections::BTreeMap;
use tls::secret::Type;
use tls::spiffe_cert_validator_config::TrustDomain;
use xds::Resource;

/// The name under which proxies ask for the roots (Istio's).
pub(crate) const ROOTS: &str = "ROOTCA";

pub(crate) fn resources(scope: &Scope<'_>) -> Vec<Resource> {
    let secrets = roots(scope.catalog).into_iter().chain(shown(scope));
    secrets.map(|secret| Resource::new(secret.name.as_str(), &secret)).collect()
}

/// The roots for Envoy's SPIFFE validator, which takes a certificate of a domain from that domain's roots only.
fn roots(catalog: &Catalog) -> Option<tls::Secret> {
    if catalog.bundles.is_empty() {
        // The validator refuses an empty list; without the secret, listeners and upstreams wait.
        return None;
    }
    let validator = tls::SpiffeCertValidatorConfig {
        trust_domains: catalog.bundles.values().map(domain).collect(),
        ..Default::default()
    };
    let context = tls::CertificateValidationContext {
        custom_validator_config: Some(TypedExtensionConfig {
            name: "envoy.tls.cert_validator.spiffe".to_owned(),
            typed_config: Some(any(&validator)),
        }),
        ..Default::default()
    };
    Some(tls::Secret { name: ROOTS.to_owned(), r#type: Some(Type::ValidationContext(context)) })
}

/// What the proxy's own Gateways, its Sidecar and the rules by which it speaks name, from the secrets of its own namespace,
/// and from others that have granted it. A key goes only to where it is shown. Of files only the names go: the proxy reads
/// them.
fn shown(scope: &Scope<'_>) -> Vec<tls::Secret> {
    let mut secrets = BTreeMap::new();
    for tls in scope.served_tls() {
        let certificates = tls.shown.iter().filter_map(|shown| match shown {
            Shown::Secret(name) => certificate(scope, name),
            Shown::Granted(namespace, name) => granted(scope, namespace, name),
            Shown::Files(chain, key) => Some(files(chain, key)),
        });
        let verifies = matches!(tls.mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual);
        let roots = match (&tls.roots_secret, &tls.roots) {
            _ if !verifies => None,
            (Some(name), _) => roots_beside(scope, name),
            (None, Some(path)) => Some(roots_in_file(path)),
            (None, None) => tls.shown.first().and_then(Shown::secret).and_then(|name| roots_beside(scope, name)),
        };
        secrets.extend(certificates.chain(roots).map(|secret| (secret.name.clone(), secret)));
    }
    let towards = scope.credentials();
    let towards = towards.iter().flat_map(|name| [certificate(scope, name), roots_beside(scope, name)]).flatten();
    secrets.extend(towards.map(|secret| (secret.name.clone(), secret)));
    secrets.into_values().collect()
}

fn files(chain: &str, key: &str) -> tls::Secret {
    let certificate = tls::TlsCertificate {
        certificate_chain: Some(file(chain)),
        private_key: Some(file(key)),
        ..Default::default()
    };
    let name = server_tls::file_certificate_name(chain, key);
    tls::Secret { name, r#type: Some(Type::TlsCertificate(certificate)) }
}

fn roots_in_file(path: &str) -> tls::Secret {
    let context = tls::CertificateValidationContext { trusted_ca: Some(file(path)), ..Default::default() };
    tls::Secret { name: server_tls::file_roots_name(path), r#type: Some(Type::ValidationContext(context)) }
}

fn credential<'a>(scope: &Scope<'a>, name: &str) -> Option<&'a Credential> {
    // What the certificate proves, not what the proxy says of itself.
    scope.intent.credentials.get(&(scope.identity.namespace.clone(), name.to_owned()))
}

/// The certificate of a secret.
fn certificate(scope: &Scope<'_>, name: &str) -> Option<tls::Secret> {
    let certificate = shown_certificate(credential(scope, name)?)?;
    Some(tls::Secret { name: server_tls::secret_name(name), r#type: Some(certificate) })
}

/// A certificate of another namespace. Who may ask for it was settled when the Gateway that names it was read.
fn granted(scope: &Scope<'_>, namespace: &Namespace, name: &str) -> Option<tls::Secret> {
    let credential = scope.intent.credentials.get(&(namespace.clone(), name.to_owned()))?;
    let name = server_tls::granted_name(namespace, name);
    Some(tls::Secret { name, r#type: Some(shown_certificate(credential)?) })
}

fn shown_certificate(credential: &Credential) -> Option<Type> {
    let (chain, key) = credential.certificate.as_ref()?;
    Some(Type::TlsCertificate(tls::TlsCertificate {
        certificate_chain: Some(inline(chain)),
        private_key: Some(inline(key)),
        ..Default::default()
    }))
}

/// The roots that go with a certificate: of a secret of their own, or of the same.
fn roots_beside(scope: &Scope<'_>, name: &str) -> Option<tls::Secret> {
    let own = credential(scope, &format!("{name}{ROOTS_SUFFIX}")).filter(|own| own.roots.is_some());
    let credential = own.or_else(|| credential(scope, name))?;
    let context = validation(credential.roots.as_ref()?, credential);
    Some(tls::Secret { name: server_tls::roots_name(name), r#type: Some(Type::ValidationContext(context)) })
}

fn validation(roots: &[u8], credential: &Credential) -> tls::CertificateValidationContext {
    tls::CertificateValidationContext {
        trusted_ca: Some(inline(roots)),
        crl: credential.revoked.as_deref().map(inline),
        ..Default::default()
    }
}

fn inline(pem: &[u8]) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(pem.to_vec())), ..Default::default() }
}

fn domain(bundle: &TrustBundle) -> TrustDomain {
    let pem = DataSource { specifier: Some(Specifier::InlineString(bundle.pem.to_string())), ..Default::default() };
    TrustDomain { name: bundle.trust_domain.to_string(), trust_bundle: Some(pem), ..Default::default() }
}
