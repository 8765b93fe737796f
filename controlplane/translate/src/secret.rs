//! The one secret that is none: the roots, each bound to its own trust domain.

use crate::any::any;
use api::envoy::envoy::config::core::v3::{DataSource, TypedExtensionConfig, data_source::Specifier};
use api::envoy::envoy::extensions::transport_sockets::tls::v3 as tls;
use model::{Catalog, TrustBundle};
use tls::spiffe_cert_validator_config::TrustDomain;
use xds::Resource;

/// The name under which proxies ask for the roots (Istio's).
pub(crate) const ROOTS: &str = "ROOTCA";

/// The roots for Envoy's SPIFFE validator, which takes a certificate of a domain from that domain's roots only.
pub(crate) fn resources(catalog: &Catalog) -> Vec<Resource> {
    if catalog.bundles.is_empty() {
        // The validator refuses an empty list; without the secret, listeners and upstreams wait.
        return Vec::new();
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
    let secret = tls::Secret { name: ROOTS.to_owned(), r#type: Some(tls::secret::Type::ValidationContext(context)) };
    vec![Resource::new(ROOTS, &secret)]
}

fn domain(bundle: &TrustBundle) -> TrustDomain {
    let pem = DataSource { specifier: Some(Specifier::InlineString(bundle.pem.to_string())), ..Default::default() };
    TrustDomain { name: bundle.trust_domain.to_string(), trust_bundle: Some(pem), ..Default::default() }
}
