//! The service over real sockets: enrolment, renewal, and who is refused.

mod support;

use api::istio::ca::IstioCertificateRequest;
use api::istio::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use identity::{
    ClientAuth, Expected, Identity, Renewal, RenewalSettings, anonymous_client_config, client_config, enroll, grpc,
    peer_identity, renew, server_config, server_name,
};
use isthmus_ca::ServiceSettings;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::KeyPair;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};
use support::{East, RATINGS, REVIEWS, name, plain_csr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status};

const DAY: Duration = Duration::from_hours(24);

async fn start() -> East {
    East::start(DAY, &ServiceSettings { requests_per_minute: 1000 }).await
}

fn ca_name() -> ServerName<'static> {
    server_name("istiod.istio-system.svc").expect("a name")
}

/// Asks with a certificate, a header, both or neither.
async fn ask(
    east: &East,
    holder: Option<&Identity>,
    authorization: Option<&str>,
    csr: String,
) -> Result<String, Status> {
    let expected = east.client().expected;
    let tls = match holder {
        Some(holder) => client_config(holder, expected, &[b"h2"]),
        None => anonymous_client_config(east.bundles(), expected, &[b"h2"]),
    };
    let channel = grpc::connect(&east.address.to_string(), tls, ca_name())
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = Request::new(IstioCertificateRequest { csr, validity_duration: 3600, metadata: None });
    if let Some(value) = authorization {
        request.metadata_mut().insert("authorization", value.parse().expect("ASCII"));
    }
    let answer = IstioCertificateServiceClient::new(channel).create_certificate(request).await?;
    Ok(answer.into_inner().cert_chain.concat())
}

fn csr() -> String {
    plain_csr(&KeyPair::generate().expect("a key"))
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs()
}

#[tokio::test]
async fn a_workload_enrols_by_token_and_renews_without_dropping_a_connection() {
    // Certificates of a few seconds, so that half of a life comes soon.
    let east = East::start(Duration::from_secs(4), &ServiceSettings::default()).await;
    let first = enroll(&east.client(), &east.bundles(), &name(REVIEWS), &east.token(REVIEWS)).await.expect("granted");
    let first_end = first.not_after;
    let reviews = Identity::new(first, east.bundles());
    let ratings = east.holder(&east.authority, RATINGS);

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let tls = server_config(&reviews, ClientAuth::Required, Expected::one(name(RATINGS)), &[b"istio"]);
    let accept = async { TlsAcceptor::from(tls).accept(listener.accept().await?.0).await };
    let tls = client_config(&ratings, Expected::one(name(REVIEWS)), &[b"istio"]);
    let connect = async { TlsConnector::from(tls).connect(ca_name(), TcpStream::connect(address).await?).await };
    let (mut server, mut client) = tokio::try_join!(accept, connect).expect("a connection");

    let shutdown = CancellationToken::new();
    let renewal = Renewal {
        identity: reviews.clone(),
        ca: east.client(),
        token_file: None,
        settings: RenewalSettings::default(),
    };
    let mut state = renew(renewal, shutdown.clone());
    let renewed = state.wait_for(|state| state.renewals >= 2);
    let end = tokio::time::timeout(Duration::from_secs(20), renewed).await.expect("in time").expect("alive").not_after;
    assert!(end > first_end);
    assert_eq!(reviews.certificate().identity, name(REVIEWS));

    client.write_all(b"still here").await.expect("the connection lives");
    let mut bytes = [0; 10];
    server.read_exact(&mut bytes).await.expect("the connection lives");
    assert_eq!((&bytes, peer_identity(client.get_ref().1.peer_certificates())), (b"still here", Some(name(REVIEWS))));
    shutdown.cancel();

    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &east.registry).expect("text");
    for line in ["citadel_server_success_cert_issuance_count ", "citadel_server_csr_count "] {
        let count = text.lines().find_map(|text| text.strip_prefix(line)?.parse::<u32>().ok());
        assert!(count.is_some_and(|count| count >= 3), "{line}: {count:?} in\n{text}");
    }
    assert!(text.contains("\ncitadel_server_root_cert_expiry_seconds 3153"), "{text}");
}

#[tokio::test]
async fn a_token_names_one_identity_whatever_is_asked_for() {
    let east = start().await;
    let gateway = "spiffe://east.example/ns/isthmus-system/sa/gateway-east";
    let bearer = format!("Bearer {}", east.token(gateway));
    let chain = ask(&east, None, Some(&bearer), csr()).await.expect("granted");
    assert_eq!(leaf(&chain), name(gateway));
    // A workload's token is not good for a gateway's name, nor is its certificate.
    let bearer = format!("Bearer {}", east.token(REVIEWS));
    let wanted = identity::CsrKey::generate().expect("a key").request(&name(gateway)).expect("a request");
    let refused = ask(&east, None, Some(&bearer), wanted.clone()).await.expect_err("another's name");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let holder = east.holder(&east.authority, REVIEWS);
    assert_eq!(ask(&east, Some(&holder), None, wanted).await.expect_err("another's").code(), Code::InvalidArgument);
    let chain = ask(&east, Some(&holder), None, csr()).await.expect("its own");
    assert_eq!(leaf(&chain), name(REVIEWS));
}

#[tokio::test]
async fn callers_that_are_not_known_here_are_refused() {
    let east = start().await;
    let anonymous = ask(&east, None, None, csr()).await.expect_err("nobody");
    assert_eq!(anonymous.code(), Code::Unauthenticated);
    let west = east.holder(&east.west, "spiffe://west.example/ns/bookinfo/sa/reviews");
    let refused = ask(&east, Some(&west), None, csr()).await.expect_err("a peer's workload");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    assert!(refused.message().contains("west.example"), "{refused:?}");
    let forged = east.holder(&east.west, REVIEWS);
    let refused = ask(&east, Some(&forged), None, csr()).await.expect_err("a peer's root, our name");
    assert_ne!(refused.code(), Code::PermissionDenied, "it does not get past the handshake: {refused:?}");
    for header in ["Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "token", "Bearer x y"] {
        let refused = ask(&east, None, Some(header), csr()).await.expect_err(header);
        assert_eq!(refused.code(), Code::Unauthenticated, "{header}: {refused:?}");
    }
    // Whoever shows a bad token is not saved by a certificate.
    let holder = east.holder(&east.authority, REVIEWS);
    let refused = ask(&east, Some(&holder), Some("Bearer bad"), csr()).await.expect_err("a bad token");
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn tokens_that_are_not_ours_are_refused() {
    let east = start().await;
    let pem = east.token_key.clone();
    let ours = || EncodingKey::from_ec_pem(pem.as_bytes()).expect("our own key");
    let es256 = || Header::new(Algorithm::ES256);
    let good = json!({
        "iss": "east.example", "aud": ["istio-ca"], "sub": "system:serviceaccount:bookinfo:reviews",
        "iat": now(), "nbf": now(), "exp": now() + 600,
    });
    let with = |claim: &str, value: Value| {
        let mut claims = good.clone();
        claims[claim] = value;
        encode(&es256(), &claims, &ours()).expect("a token")
    };
    let without = |claim: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().expect("an object").remove(claim);
        encode(&es256(), &claims, &ours()).expect("a token")
    };
    let stranger = KeyPair::generate().expect("a key").serialize_pem();
    let stranger = EncodingKey::from_ec_pem(stranger.as_bytes()).expect("a key");
    let public = KeyPair::from_pem(&pem).expect("our own key").public_key_pem();
    let unsigned = {
        let token = encode(&es256(), &good, &ours()).expect("a token");
        let body = token.split('.').nth(1).expect("three parts").to_owned();
        format!("eyJhbGciOiJub25lIn0.{body}.")
    };
    let cases = [
        ("expired", with("exp", json!(now() - 60)), "expired"),
        ("not yet valid", with("nbf", json!(now() + 600)), "not valid yet"),
        ("another audience", with("aud", json!(["istiod"])), "another audience"),
        ("another cluster's", with("iss", json!("west.example")), "another cluster"),
        ("a stranger's key", encode(&es256(), &good, &stranger).expect("a token"), "not signed by"),
        (
            "our public key as a secret",
            encode(&Header::new(Algorithm::HS256), &good, &EncodingKey::from_secret(public.as_bytes()))
                .expect("a token"),
            "algorithm",
        ),
        ("no signature", unsigned, "malformed"),
        ("no expiry", without("exp"), "malformed"),
        ("no audience", without("aud"), "malformed"),
        ("no issuer", without("iss"), "malformed"),
        ("no beginning", without("nbf"), "malformed"),
        ("a fractional expiry", with("exp", json!(1e18)), "malformed"),
        ("a negative expiry", with("exp", json!(-1)), "malformed"),
        ("an expiry in text", with("exp", json!("9999999999")), "malformed"),
        ("no subject", without("sub"), "malformed"),
        ("an empty subject", with("sub", json!("")), "subject"),
        ("a subject of one part", with("sub", json!("a")), "subject"),
        ("a subject of three parts", with("sub", json!("system:serviceaccount:")), "subject"),
        ("a subject of five parts", with("sub", json!("system:serviceaccount:a:b:c")), "subject"),
        ("a subject of empty parts", with("sub", json!("system:serviceaccount::")), "token"),
        ("a subject with a path", with("sub", json!("system:serviceaccount:a/../b:c")), "token"),
        ("a subject that is a number", with("sub", json!(7)), "malformed"),
        ("a subject that is a list", with("sub", json!(["system:serviceaccount:a:b"])), "malformed"),
        ("not a token", "a.b.c".to_owned(), "malformed"),
    ];
    for (case, token, reason) in cases {
        let refused = ask(&east, None, Some(&format!("Bearer {token}")), csr()).await.expect_err(case);
        assert_eq!(refused.code(), Code::Unauthenticated, "{case}: {refused:?}");
        assert!(refused.message().contains(reason), "{case}: {refused:?}");
        assert!(!refused.message().contains(&token), "{case}: {refused:?}");
    }
    // The transport refuses a header of a megabyte; the key itself, anything longer than 16 KiB.
    let long = with("sub", json!(format!("system:serviceaccount:a:{}", "b".repeat(1 << 20))));
    assert!(east.tokens.verify(&long).expect_err("too long").to_string().contains("16 KiB"));
    let bearer = format!("bearer {}", encode(&es256(), &good, &ours()).expect("a token"));
    assert_eq!(leaf(&ask(&east, None, Some(&bearer), csr()).await.expect("the good one")), name(REVIEWS));
}

#[tokio::test]
async fn bad_requests_have_a_status_of_their_own() {
    let east = start().await;
    let holder = east.holder(&east.authority, REVIEWS);
    for csr in [String::new(), "garbage".to_owned(), "A".repeat(17 << 10), "A".repeat(1 << 20)] {
        let refused = ask(&east, Some(&holder), None, csr).await.expect_err("no request");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
}

#[tokio::test]
async fn who_asks_too_often_waits_and_others_do_not() {
    let east = East::start(DAY, &ServiceSettings { requests_per_minute: 3 }).await;
    let loud = east.holder(&east.authority, REVIEWS);
    for _ in 0..3 {
        ask(&east, Some(&loud), None, csr()).await.expect("within the rate");
    }
    let refused = ask(&east, Some(&loud), None, csr()).await.expect_err("one too many");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let quiet = east.holder(&east.authority, RATINGS);
    ask(&east, Some(&quiet), None, csr()).await.expect("somebody else");
}

#[tokio::test]
async fn a_certificate_that_expires_on_a_living_connection_no_longer_renews() {
    let east = East::start(Duration::from_secs(2), &ServiceSettings::default()).await;
    let holder = east.holder(&east.authority, REVIEWS);
    let tls = client_config(&holder, east.client().expected, &[b"h2"]);
    let channel = grpc::connect(&east.address.to_string(), tls, ca_name()).await.expect("connected");
    let mut client = IstioCertificateServiceClient::new(channel);
    let request = || IstioCertificateRequest { csr: csr(), validity_duration: 0, metadata: None };
    client.create_certificate(request()).await.expect("still valid");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    let refused = loop {
        assert!(tokio::time::Instant::now() < deadline, "an expired certificate still renews");
        match client.create_certificate(request()).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("expired"), "{refused:?}");
}

fn leaf(chain: &str) -> model::WorkloadIdentity {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    identity::identity_of(&CertificateDer::from_pem_slice(chain.as_bytes()).expect("PEM")).expect("an identity")
}
