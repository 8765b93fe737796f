//! Roots by trust domain: what one domain's roots vouch for, and never a union of them.

use crate::IdentityError;
use model::{TrustBundle, TrustDomain};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use std::collections::BTreeMap;

/// The parsed roots of every trust domain that is known.
#[derive(Debug, Clone, Default)]
pub struct Bundles(BTreeMap<TrustDomain, Roots>);

#[derive(Debug, Clone, Default)]
struct Roots {
    anchors: Vec<TrustAnchor<'static>>,
    pem: String,
}

// === impl Bundles ===

impl Bundles {
    /// Parses bundles; a second one of the same domain adds to the first. An error if one is empty or holds what is not
    /// a certificate; then none is taken.
    pub fn new<'a>(bundles: impl IntoIterator<Item = &'a TrustBundle>) -> Result<Self, IdentityError> {
        let mut parsed: BTreeMap<TrustDomain, Roots> = BTreeMap::new();
        for bundle in bundles {
            let roots = parsed.entry(bundle.trust_domain.clone()).or_default();
            roots.anchors.extend(anchors(bundle)?);
            roots.pem.push_str(&bundle.pem);
            roots.pem.push('\n');
        }
        Ok(Self(parsed))
    }

    /// The roots that may vouch for `domain`; none if it is not known.
    pub fn roots(&self, domain: &TrustDomain) -> &[TrustAnchor<'static>] {
        self.0.get(domain).map(|roots| roots.anchors.as_slice()).unwrap_or_default()
    }

    /// The domains that are known.
    pub fn domains(&self) -> impl Iterator<Item = &TrustDomain> {
        self.0.keys()
    }

    /// The bundles again, one a domain, as PEM.
    pub fn to_pem(&self) -> impl Iterator<Item = TrustBundle> {
        self.0
            .iter()
            .map(|(domain, roots)| TrustBundle { trust_domain: domain.clone(), pem: roots.pem.as_str().into() })
    }
}

fn anchors(bundle: &TrustBundle) -> Result<Vec<TrustAnchor<'static>>, IdentityError> {
    let malformed = |error: &dyn std::fmt::Display| IdentityError::MalformedBundle {
        domain: bundle.trust_domain.clone(),
        reason: error.to_string(),
    };
    let roots = CertificateDer::pem_slice_iter(bundle.pem.as_bytes())
        .map(|root| {
            let root = root.map_err(|error| malformed(&error))?;
            let anchor = webpki::anchor_from_trusted_cert(&root).map_err(|error| malformed(&error))?;
            Ok(anchor.to_owned())
        })
        .collect::<Result<Vec<_>, IdentityError>>()?;
    if roots.is_empty() { Err(IdentityError::EmptyBundle(bundle.trust_domain.clone())) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(pem: &str) -> TrustBundle {
        TrustBundle { trust_domain: "east.example".parse().expect("a trust domain"), pem: pem.into() }
    }

    fn root() -> String {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).expect("a root").pem()
    }

    #[test]
    fn a_bundle_without_a_certificate_is_refused() {
        for text in ["", "nothing", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"] {
            assert!(Bundles::new([&bundle(text)]).is_err(), "{text:?}");
        }
    }

    #[test]
    fn one_bad_root_refuses_all() {
        let text = format!("{}-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", root());
        assert!(Bundles::new([&bundle(&text)]).is_err());
    }

    #[test]
    fn the_roots_of_a_domain_add_up_and_other_domains_have_none() {
        let bundles = Bundles::new([&bundle(&root()), &bundle(&root())]).expect("two roots");
        let west = "west.example".parse().expect("a trust domain");
        assert_eq!(bundles.roots(&bundle("").trust_domain).len(), 2);
        assert!(bundles.roots(&west).is_empty());
        let again: Vec<TrustBundle> = bundles.to_pem().collect();
        assert_eq!(Bundles::new(&again).expect("the same").roots(&again[0].trust_domain).len(), 2);
    }
}
