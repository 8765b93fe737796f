//! The roots of every trust domain, as the control plane tells them.

use crate::Rejection;
use crate::decode::{message, unpack};
use api::envoy::envoy::config::core::v3::data_source::Specifier;
use api::envoy::envoy::extensions::transport_sockets::tls::v3::{Secret, SpiffeCertValidatorConfig, secret::Type};
use model::TrustBundle;

/// The name of the secret that holds the roots.
pub(crate) const ROOTS: &str = "ROOTCA";

/// The bundles in a secret with Envoy's SPIFFE validator.
pub(crate) fn parse(resource: &xds::Resource) -> Result<Vec<TrustBundle>, Rejection> {
    let reject = |reason: String| Rejection::new(&resource.name, reason);
    let secret: Secret = message(resource)?;
    let Some(Type::ValidationContext(context)) = secret.r#type else {
        return Err(reject("validation_context is expected".into()));
    };
    let any = context.custom_validator_config.and_then(|config| config.typed_config);
    let validator = any.as_ref().and_then(unpack::<SpiffeCertValidatorConfig>);
    let validator = validator
        .ok_or_else(|| reject("custom_validator_config: SPIFFECertValidatorConfig is expected".into()))?
        .map_err(|error| reject(error.to_string()))?;
    let bundle = |domain: &api::envoy::envoy::extensions::transport_sockets::tls::v3::spiffe_cert_validator_config::TrustDomain| {
        let Some(Specifier::InlineString(pem)) = domain.trust_bundle.as_ref().and_then(|source| source.specifier.as_ref())
        else {
            return Err(reject(format!("trust domain {:?}: inline_string is expected", domain.name)));
        };
        let trust_domain = domain.name.parse().map_err(|error| reject(format!("{error}")))?;
        Ok(TrustBundle { trust_domain, pem: pem.as_str().into() })
    };
    validator.trust_domains.iter().map(bundle).collect()
}
