//! What is signed, for how long, and which requests are refused.

mod support;

use isthmus_ca::{AuthorityError, TokenKey};
use rcgen::{
    CertificateParams, CertificateSigningRequest, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, RsaKeySize, SanType,
};
use std::time::{Duration, SystemTime};
use support::{RATINGS, REVIEWS, authority, name, plain_csr};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

fn request(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> CertificateSigningRequest {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    change(&mut params);
    params.serialize_request(key).expect("a request")
}

fn asking(change: impl FnOnce(&mut CertificateParams)) -> String {
    request(&KeyPair::generate().expect("a key"), change).pem().expect("PEM")
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

#[test]
fn a_leaf_has_one_name_both_uses_and_no_more_power() {
    let authority = authority("east.example", Duration::from_hours(24));
    let key = KeyPair::generate().expect("a key");
    let csr = request(&key, |params| params.subject_alt_names = vec![uri(REVIEWS)]).pem().expect("PEM");
    let chain = authority.issue(&name(REVIEWS), &csr, Duration::from_hours(1)).expect("a good request");
    assert_eq!(chain.len(), 2, "the leaf, then the root");
    assert_eq!(chain[1].trim(), authority.root().trim());
    let pem = Pem::iter_from_buffer(chain[0].as_bytes()).next().expect("a block").expect("PEM");
    let leaf = pem.parse_x509().expect("a certificate");
    let names = leaf.subject_alternative_name().expect("names").expect("names");
    assert_eq!(names.value.general_names, [GeneralName::URI(REVIEWS)]);
    assert!(names.critical, "the subject is empty");
    let usage = leaf.extended_key_usage().expect("uses").expect("uses").value;
    assert!(usage.server_auth && usage.client_auth && !usage.any);
    let usage = leaf.key_usage().expect("usage").expect("usage").value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    assert!(!leaf.is_ca());
    assert_eq!(leaf.public_key().raw, rcgen::PublicKeyData::subject_public_key_info(&key));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs().cast_signed();
    assert!((leaf.validity().not_after.timestamp() - now - 3600).abs() < 60);
    // The root is as old as this test: before it, nothing is valid.
    assert!((290..=310).contains(&(now - leaf.validity().not_before.timestamp())));
}

#[test]
fn a_life_is_what_was_asked_for_within_what_is_allowed() {
    let authority = authority("east.example", Duration::from_hours(24));
    let csr = plain_csr(&KeyPair::generate().expect("a key"));
    for (asked, granted) in [(60, 60), (0, 86_400), (86_400, 86_400), (100 * 365 * 86_400, 86_400), (u64::MAX, 86_400)]
    {
        let chain = authority.issue(&name(REVIEWS), &csr, Duration::from_secs(asked)).expect("a good request");
        let pem = Pem::iter_from_buffer(chain[0].as_bytes()).next().expect("a block").expect("PEM");
        let end = pem.parse_x509().expect("a certificate").validity().not_after.timestamp();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        assert!(end.abs_diff((now + granted).cast_signed()) < 60, "{asked}");
    }
}

#[test]
fn keys_that_every_proxy_can_use_are_signed_and_others_are_not() {
    let authority = authority("east.example", Duration::from_hours(24));
    let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size).expect("a key");
    let of = |algorithm| KeyPair::generate_for(algorithm).expect("a key");
    for (case, key, good) in [
        ("P-256", of(&rcgen::PKCS_ECDSA_P256_SHA256), true),
        ("P-384", of(&rcgen::PKCS_ECDSA_P384_SHA384), true),
        ("RSA 2048", rsa(RsaKeySize::_2048), true),
        ("P-521", of(&rcgen::PKCS_ECDSA_P521_SHA512), false),
        ("Ed25519", of(&rcgen::PKCS_ED25519), false),
    ] {
        let answer = authority.issue(&name(REVIEWS), &plain_csr(&key), Duration::from_hours(1));
        assert_eq!(answer.is_ok(), good, "{case}: {answer:?}");
        if let Ok(chain) = answer {
            let certificate = identity::WorkloadCertificate::from_pem(&chain.concat(), &key.serialize_pem());
            certificate.expect("the key fits");
        }
    }
}

#[test]
fn malformed_requests_are_refused() {
    let authority = authority("east.example", Duration::from_hours(24));
    let key = KeyPair::generate().expect("a key");
    let good = request(&key, |_| ());
    let pem = good.pem().expect("PEM");
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut der = good.der().to_vec();
        change(&mut der);
        identity::pem("CERTIFICATE REQUEST", &der)
    };
    let cases = [
        ("empty", String::new(), "exactly one PEM block"),
        ("garbage", "\0\u{1}garbage".to_owned(), "exactly one PEM block"),
        ("two blocks", format!("{pem}{pem}"), "exactly one PEM block"),
        ("too long", format!("{}{pem}", "#".repeat(16 << 10)), "at most 16384"),
        ("a megabyte", "A".repeat(1 << 20), "at most 16384"),
        ("another kind of PEM", key.serialize_pem(), "CERTIFICATE REQUEST is expected"),
        ("a truncated block", pem[..pem.len() / 2].to_owned(), "CERTIFICATE REQUEST is expected"),
        ("bytes after its end", changed(&|der| der.push(0)), "bytes follow"),
        ("cut short", changed(&|der| der.truncate(der.len() - 5)), "certificate request"),
        ("no DER", identity::pem("CERTIFICATE REQUEST", b"nothing"), "certificate request"),
        ("a bad signature", changed(&|der| *der.last_mut().expect("bytes") ^= 1), "not signed by its own key"),
        ("another's name", asking(|p| p.subject_alt_names = vec![uri(RATINGS)]), "names somebody else"),
        ("two names", asking(|p| p.subject_alt_names = vec![uri(REVIEWS), uri(RATINGS)]), "names somebody else"),
        (
            "a DNS name too",
            asking(|p| {
                let dns = SanType::DnsName("reviews.example".try_into().expect("ASCII"));
                p.subject_alt_names = vec![uri(REVIEWS), dns];
            }),
            "names somebody else",
        ),
        (
            "a NUL in its name",
            asking(|p| p.subject_alt_names = vec![uri(&format!("{REVIEWS}\0x"))]),
            "names somebody else",
        ),
        (
            "to be an authority",
            asking(|p| {
                let yes = CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 3, 1, 1, 0xff]);
                p.custom_extensions = vec![yes];
            }),
            "asks to be a certificate authority",
        ),
        ("to sign", asking(|p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign]), "asks to sign"),
        ("to sign code", asking(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]), "uses beyond"),
    ];
    for (case, csr, reason) in cases {
        let error = authority.issue(&name(REVIEWS), &csr, Duration::from_hours(1)).expect_err(case);
        assert!(matches!(error, AuthorityError::Request(_)), "{case}: {error:?}");
        assert!(error.to_string().contains(reason), "{case}: {error}");
    }
    authority.issue(&name(REVIEWS), &pem, Duration::from_hours(1)).expect("the good one");
}

#[test]
fn a_token_key_of_another_kind_is_refused() {
    for algorithm in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let pem = KeyPair::generate_for(algorithm).expect("a key").serialize_pem();
        assert!(TokenKey::from_pem(support::domain("east.example"), &pem).is_err());
    }
    assert!(TokenKey::from_pem(support::domain("east.example"), "no key").is_err());
}
