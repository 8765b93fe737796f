//! Istio's `cacerts` layout: a root of our own, an intermediate, and what does not fit together.

mod support;

use isthmus_ca::{Authority, AuthorityError, CA_CERTIFICATE, CA_KEY, CERTIFICATE_CHAIN, ROOT_CERTIFICATE, SelfSigned};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::fs;
use std::time::{Duration, SystemTime};
use support::{REVIEWS, bundle, domain, name};

const DAY: Duration = Duration::from_hours(24);

/// A root, and an intermediate below it that lives for `life`: certificate, key.
fn intermediate(root: &SelfSigned, life: Duration, change: impl FnOnce(&mut CertificateParams)) -> SelfSigned {
    let issuer = KeyPair::from_pem(&root.key).expect("our own key");
    let issuer = Issuer::from_ca_cert_pem(&root.certificate, issuer).expect("our own root");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "intermediate");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = (SystemTime::now() - Duration::from_mins(10)).into();
    params.not_after = (SystemTime::now() + life).into();
    change(&mut params);
    let certificate = params.signed_by(&key, &issuer).expect("an intermediate").pem();
    SelfSigned { certificate, key: key.serialize_pem() }
}

#[test]
fn an_intermediate_signs_and_its_leaves_verify_by_the_root() {
    let root = SelfSigned::generate(&domain("east.example")).expect("a root");
    let below = intermediate(&root, DAY * 30, |_| ());
    let directory = tempfile::tempdir().expect("a directory");
    let write = |file: &str, text: &str| fs::write(directory.path().join(file), text).expect("a file");
    write(CA_CERTIFICATE, &below.certificate);
    write(CA_KEY, &below.key);
    write(ROOT_CERTIFICATE, &root.certificate);
    // Istio's own chains begin with the authority and may end with the root.
    let whole = format!("{}{}", below.certificate, root.certificate);
    for chain in [None, Some(below.certificate.as_str()), Some(whole.as_str())] {
        if let Some(chain) = chain {
            write(CERTIFICATE_CHAIN, chain);
        }
        let authority = Authority::load(directory.path(), DAY).expect("it fits");
        let (pem, key) = authority.issue_own(&name(REVIEWS), DAY).expect("a certificate");
        assert_eq!(pem.matches("BEGIN").count(), 3, "leaf, intermediate, root");
        assert!(pem.trim_end().ends_with(root.certificate.trim_end()), "the root is last");
        let certificate = identity::WorkloadCertificate::from_pem(&pem, &key).expect("it fits");
        assert_eq!(certificate.chain.len(), 2, "the root is not sent to peers");
        identity::Bundles::new([&bundle("east.example", &authority)]).expect("a root");
    }
}

#[test]
fn leaves_never_outlive_their_issuer_and_one_about_to_expire_signs_nothing() {
    let root = SelfSigned::generate(&domain("east.example")).expect("a root");
    let load = |life| {
        let below = intermediate(&root, life, |_| ());
        Authority::from_pem(&below.certificate, &below.key, &root.certificate, "", DAY).expect("it fits")
    };
    let short = load(Duration::from_hours(2));
    let (pem, key) = short.issue_own(&name(REVIEWS), DAY).expect("a certificate");
    let certificate = identity::WorkloadCertificate::from_pem(&pem, &key).expect("it fits");
    assert_eq!(certificate.not_after, short.not_after());
    assert!(short.root_not_after() > short.not_after());
    let expiring = load(Duration::from_mins(30)).issue_own(&name(REVIEWS), DAY);
    assert!(matches!(expiring, Err(AuthorityError::Expiring)));
}

#[test]
fn files_that_do_not_fit_together_are_refused() {
    let root = SelfSigned::generate(&domain("east.example")).expect("a root");
    let other = SelfSigned::generate(&domain("east.example")).expect("a root");
    let below = intermediate(&root, DAY, |_| ());
    let no_authority = intermediate(&root, DAY, |params| params.is_ca = IsCa::ExplicitNoCa);
    let no_signer = intermediate(&root, DAY, |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
    let cases = [
        ("another key", &below.certificate, &other.key, &root.certificate, "does not belong"),
        ("another root of the same name", &below.certificate, &below.key, &other.certificate, "does not lead"),
        ("no root", &below.certificate, &below.key, &String::new(), "at least one is expected"),
        ("no certificate", &String::new(), &below.key, &root.certificate, "one is expected"),
        ("no key", &below.certificate, &root.certificate, &root.certificate, "ca-key.pem"),
        ("not an authority", &no_authority.certificate, &no_authority.key, &root.certificate, "may not sign"),
        ("may not sign", &no_signer.certificate, &no_signer.key, &root.certificate, "may not sign"),
    ];
    for (case, certificate, key, root, reason) in cases {
        let error = Authority::from_pem(certificate, key, root, "", DAY).err().expect(case).to_string();
        assert!(error.contains(reason), "{case}: {error}");
        assert!(!error.contains("PRIVATE"), "{case}: {error}");
    }
    let missing = Authority::load(std::path::Path::new("/nonexistent"), DAY).err().expect("missing").to_string();
    assert!(missing.contains("/nonexistent/ca-cert.pem"), "{missing}");
}
