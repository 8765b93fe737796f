//! Odd names in certificates: what is not exactly one URI in Istio's form shows nobody.

use isthmus_identity::identity_of;
use model::WorkloadIdentity;
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, CustomExtension, KeyPair, SanType};

const REVIEWS: &str = "spiffe://east.example/ns/bookinfo/sa/reviews";
/// The object identifier of subject alternative names (RFC 5280, section 4.2.1.6).
const ALTERNATIVE_NAMES: &[u64] = &[2, 5, 29, 17];

fn shown(params: &CertificateParams) -> Result<WorkloadIdentity, String> {
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    identity_of(certificate.der()).map_err(|error| error.to_string())
}

fn of(names: Vec<SanType>) -> Result<WorkloadIdentity, String> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    shown(&params)
}

fn ascii(text: &str) -> Ia5String {
    Ia5String::try_from(text).expect("ASCII")
}

/// A certificate with one name of the kind `tag`, whose bytes nobody has looked at.
fn raw(tag: u8, name: &[u8]) -> Result<WorkloadIdentity, String> {
    let length = u8::try_from(name.len()).expect("a short name");
    let content = [&[0x30, length + 2, tag, length], name].concat();
    let extension = CustomExtension::from_oid_content(ALTERNATIVE_NAMES, content);
    let mut params = CertificateParams::default();
    params.custom_extensions = vec![extension];
    shown(&params)
}

#[test]
fn sec_b4_only_one_whole_name_of_the_right_kind_counts() {
    const URI: u8 = 0x86;
    assert_eq!(of(vec![SanType::URI(ascii(REVIEWS))]).expect("it is right").to_string(), REVIEWS);
    assert_eq!(raw(URI, REVIEWS.as_bytes()).expect("it is right").to_string(), REVIEWS);
    for odd in [
        format!("{REVIEWS}\0"),
        format!("{REVIEWS}\0.example"),
        format!("\0{REVIEWS}"),
        format!("{REVIEWS}\n"),
        format!(" {REVIEWS}"),
        format!("{REVIEWS}/"),
        format!("{REVIEWS}?a=b"),
        format!("{REVIEWS}#a"),
        REVIEWS.to_uppercase(),
        REVIEWS.replace("reviews", "%72eviews"),
        REVIEWS.replace("//", "//user@"),
        REVIEWS.replace(".example", ".example:80"),
        String::new(),
    ] {
        assert!(of(vec![SanType::URI(ascii(&odd))]).is_err(), "{odd:?}");
    }
    // Bytes that no text of this kind has, and another letter that looks the same.
    for odd in [
        &b"spiffe://east.example/ns/bookinfo/sa/review\xff"[..],
        "spiffe://east.example/ns/bookinfo/sa/rеviews".as_bytes(),
    ] {
        assert!(raw(URI, odd).is_err(), "{odd:?}");
    }
    // The same text as a name of another kind: mail, DNS, a registered identifier.
    for tag in [0x81, 0x82, 0x88] {
        assert!(raw(tag, REVIEWS.as_bytes()).is_err(), "{tag:#x}");
    }
    assert!(of(vec![SanType::Rfc822Name(ascii("reviews@east.example"))]).is_err());
    let two = vec![SanType::URI(ascii(REVIEWS)), SanType::URI(ascii(REVIEWS))];
    assert!(of(two).is_err(), "even if both are the same");
    assert!(of(Vec::new()).is_err());
}
