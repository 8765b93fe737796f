//! Roots, and the certificates of gateways below them.

use identity::{Bundles, Identity, WorkloadCertificate};
use model::{ClusterId, TrustBundle, TrustDomain, WorkloadIdentity};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::time::{Duration, SystemTime};

/// A cluster with a root of its own, which vouches for `CLUSTER.example`.
pub struct Authority {
    pub cluster: ClusterId,
    pub domain: TrustDomain,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

// === impl Authority ===

impl Authority {
    pub fn new(cluster: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, cluster);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).expect("a root").pem();
        let domain = format!("{cluster}.example").parse().expect("a trust domain");
        Self { cluster: cluster.parse().expect("a name"), domain, issuer: Issuer::new(params, key), pem }
    }

    /// Who this cluster's gateways are.
    pub fn gateway(&self) -> WorkloadIdentity {
        self.member("isthmus-system", &format!("gateway-{}", self.cluster))
    }

    pub fn member(&self, namespace: &str, account: &str) -> WorkloadIdentity {
        let namespace = namespace.parse().expect("a namespace");
        WorkloadIdentity::new(self.domain.clone(), namespace, account).expect("an identity")
    }

    pub fn bundle(&self) -> TrustBundle {
        TrustBundle { trust_domain: self.domain.clone(), pem: self.pem.as_str().into() }
    }

    /// `who` with a certificate of this root, trusting this and the `others`' roots.
    pub fn identity(&self, who: &WorkloadIdentity, others: &[&Authority]) -> Identity {
        let bundles: Vec<TrustBundle> =
            std::iter::once(self.bundle()).chain(others.iter().map(|other| other.bundle())).collect();
        Identity::new(self.certificate(who), Bundles::new(&bundles).expect("good bundles"))
    }

    fn certificate(&self, who: &WorkloadIdentity) -> WorkloadCertificate {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(who.to_string().try_into().expect("ASCII"))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.is_ca = IsCa::ExplicitNoCa;
        params.not_before = (SystemTime::now() - Duration::from_mins(5)).into();
        params.not_after = (SystemTime::now() + Duration::from_hours(1)).into();
        let leaf = params.signed_by(&key, &self.issuer).expect("a leaf").pem();
        WorkloadCertificate::from_pem(&leaf, &key.serialize_pem()).expect("a good certificate")
    }
}
