//! Roots by trust domain: what one domain's roots vouch for, and never a union of them.

use model::{TrustBundle, TrustDomain};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use std::collections::BTreeMap;

/// Why a bundle was refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A root cannot be parsed.
    #[error("trust bundle of {0}: {1}")]
    Malformed(TrustDomain, String),
    /// There is no root in it.
    #[error("trust bundle of {0}: no certificate in it, at least one root is expected")]
    Empty(TrustDomain),
}

/// The parsed roots of every trust domain that is known.
#[derive(Debug, Clone, Default)]
pub struct Bundles(BTreeMap<TrustDomain, Vec<TrustAnchor<'static>>>);

impl Bundles {
    /// Parses bundles; a second one of the same domain adds to the first.
    ///
    /// # Errors
    /// If one is empty or holds what is not a certificate; then none is taken.
    pub fn new<'a>(bundles: impl IntoIterator<Item = &'a TrustBundle>) -> Result<Self, BundleError> {
        let mut parsed: BTreeMap<TrustDomain, Vec<TrustAnchor<'static>>> = BTreeMap::new();
        for bundle in bundles {
            parsed.entry(bundle.trust_domain.clone()).or_default().extend(anchors(bundle)?);
        }
        Ok(Self(parsed))
    }

    /// The roots that may vouch for `domain`; none if it is not known.
    pub fn roots(&self, domain: &TrustDomain) -> &[TrustAnchor<'static>] {
        self.0.get(domain).map(Vec::as_slice).unwrap_or_default()
    }

    /// The domains that are known.
    pub fn domains(&self) -> impl Iterator<Item = &TrustDomain> {
        self.0.keys()
    }
}

fn anchors(bundle: &TrustBundle) -> Result<Vec<TrustAnchor<'static>>, BundleError> {
    let malformed =
        |error: &dyn std::fmt::Display| BundleError::Malformed(bundle.trust_domain.clone(), error.to_string());
    let roots = CertificateDer::pem_slice_iter(bundle.pem.as_bytes())
        .map(|root| {
            let root = root.map_err(|error| malformed(&error))?;
            let anchor = webpki::anchor_from_trusted_cert(&root).map_err(|error| malformed(&error))?;
            Ok(anchor.to_owned())
        })
        .collect::<Result<Vec<_>, BundleError>>()?;
    if roots.is_empty() { Err(BundleError::Empty(bundle.trust_domain.clone())) } else { Ok(roots) }
}
