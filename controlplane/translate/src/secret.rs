//! The one secret that is none, the roots, each bound to its own trust domain; and what Gateways show and trust.

use crate::any::any;
use crate::scope::Scope;
use crate::server_tls;
use api::envoy::envoy::config::core::v3::{DataSource, TypedExtensionConfig, data_source::Specifier};
use api::envoy::envoy::extensions::transport_sockets::tls::v3 as tls;
use config::{Credential, ROOTS_SUFFIX, Shown};
use model::{Catalog, Namespace, TrustBundle};
use std::collections::BTreeSet;
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

/// What the proxy's own Gateways, its Sidecar and the rules by which it speaks name, from the secrets of its own
/// namespace and no other.
fn shown(scope: &Scope<'_>) -> Vec<tls::Secret> {
    let mut granted: BTreeSet<(&Namespace, &str)> = BTreeSet::new();
    for tls in scope.edges().values().flatten().filter_map(|edge| edge.server.tls.as_ref()) {
        granted.extend(tls.shown.iter().filter_map(|shown| match shown {
            Shown::Granted(namespace, name) => Some((namespace, name.as_str())),
            Shown::Files(..) | Shown::Secret(_) => None,
        }));
    }
    let names = scope.credentials();
    let own = names.into_iter().flat_map(|name| [certificate(scope, name), roots_beside(scope, name)]).flatten();
    own.chain(granted.into_iter().filter_map(|(namespace, name)| of_namespace(scope, namespace, name))).collect()
}

/// A certificate of another namespace. Who may ask for it was settled when the Gateway that names it was read.
fn of_namespace(scope: &Scope<'_>, namespace: &Namespace, name: &str) -> Option<tls::Secret> {
    let credential = scope.intent.credentials.get(&(namespace.clone(), name.to_owned()))?;
    let (chain, key) = credential.certificate.as_ref()?;
    let name = server_tls::granted_name(namespace, name);
    Some(tls::Secret { name, r#type: Some(shown_certificate(chain, key)) })
}

fn shown_certificate(chain: &[u8], key: &[u8]) -> Type {
    Type::TlsCertificate(tls::TlsCertificate {
        certificate_chain: Some(inline(chain)),
        private_key: Some(inline(key)),
        ..Default::default()
    })
}

fn credential<'a>(scope: &Scope<'a>, name: &str) -> Option<&'a Credential> {
    // What the certificate proves, not what the proxy says of itself.
    scope.intent.credentials.get(&(scope.identity.namespace.clone(), name.to_owned()))
}

/// The certificate of a secret, or its roots if it holds nothing else.
fn certificate(scope: &Scope<'_>, name: &str) -> Option<tls::Secret> {
    let credential = credential(scope, name)?;
    let r#type = match (&credential.certificate, &credential.roots) {
        (Some((chain, key)), _) => shown_certificate(chain, key),
        (None, Some(roots)) => Type::ValidationContext(validation(roots, credential)),
        (None, None) => return None,
    };
    Some(tls::Secret { name: server_tls::secret_name(name), r#type: Some(r#type) })
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
