//! Getting and renewing certificates from an authority that may lie, stall or be away; and the transport below.

mod support;

use api::istio::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use api::istio::ca::istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer};
use api::istio::ca::{IstioCertificateRequest, IstioCertificateResponse};
use isthmus_identity::grpc::{IncomingSettings, incoming_with, peer};
use isthmus_identity::{
    Bundles, CaClient, ClientAuth, Expected, Identity, IdentityError, Renewal, RenewalSettings, client_config, enroll,
    grpc, renew, server_config, server_name,
};
use rcgen::CertificateSigningRequestParams;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use support::{HOUR, Leaf, RATINGS, REVIEWS, Root, WEST, eventually, identity};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

const AUTHORITY: &str = "spiffe://east.example/ns/isthmus-system/sa/controlplane";

type Answer = Box<dyn Fn(&Root, &Request<IstioCertificateRequest>) -> Result<Vec<String>, Status> + Send + Sync>;

/// An authority that answers as it is told.
struct Fake {
    root: Arc<Root>,
    answer: Answer,
}

#[tonic::async_trait]
impl IstioCertificateService for Fake {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let cert_chain = (self.answer)(&self.root, &request)?;
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

async fn serve(root: &Arc<Root>, settings: &IncomingSettings, answer: Answer) -> (SocketAddr, DropGuard) {
    let identity = identity(root.certificate(AUTHORITY), &[root.bundle("east.example")]);
    let tls = server_config(&identity, ClientAuth::Optional, Expected::Any, &[b"h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let shutdown = CancellationToken::new();
    let incoming = incoming_with(listener, tls, settings, shutdown.clone());
    let service = IstioCertificateServiceServer::new(Fake { root: root.clone(), answer });
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    (address, shutdown.drop_guard())
}

fn ca(address: SocketAddr) -> CaClient {
    CaClient {
        address: address.to_string(),
        server_name: "istiod.istio-system.svc".to_owned(),
        expected: Expected::one(AUTHORITY.parse().expect("an identity")),
        ttl: Duration::from_hours(1),
    }
}

/// What an honest authority does.
fn sign(root: &Root, request: &Request<IstioCertificateRequest>, uri: &str, seconds: i64) -> Vec<String> {
    let mut csr = CertificateSigningRequestParams::from_pem(&request.get_ref().csr).expect("a request");
    csr.params = Leaf { until: seconds, ..Leaf::of(uri) }.params();
    vec![csr.signed_by(&root.issuer).expect("signed").pem(), root.pem.clone()]
}

async fn try_enroll(root: &Arc<Root>, answer: Answer) -> Result<isthmus_identity::WorkloadCertificate, IdentityError> {
    let (address, _guard) = serve(root, &IncomingSettings::default(), answer).await;
    let bundles = Bundles::new([&root.bundle("east.example")]).expect("a bundle");
    enroll(&ca(address), &bundles, &RATINGS.parse().expect("an identity"), "TOKEN\n").await
}

#[tokio::test]
async fn the_first_certificate_is_granted_for_a_token() {
    let root = Arc::new(Root::new("root"));
    let answer: Answer = Box::new(|root, request| {
        assert_eq!(request.metadata().get("authorization").expect("a token"), "Bearer TOKEN");
        assert_eq!(peer(request), None);
        Ok(sign(root, request, RATINGS, HOUR))
    });
    let certificate = try_enroll(&root, answer).await.expect("granted");
    assert_eq!(certificate.identity.to_string(), RATINGS);
    assert_eq!(certificate.chain.len(), 1, "the root is not sent to peers");
    let again = isthmus_identity::WorkloadCertificate::from_pem(&certificate.chain_pem(), &certificate.key_pem());
    assert_eq!(again.expect("our own PEM").not_after, certificate.not_after);
    assert!(!format!("{certificate:?}").contains("PRIVATE"));
}

#[tokio::test]
async fn answers_that_are_not_ours_are_refused() {
    let root = Arc::new(Root::new("root"));
    let cases: Vec<(&str, Answer, &str)> = vec![
        ("another's key", Box::new(|root, _| Ok(vec![root.sign(&Leaf::of(RATINGS)).0])), "private key does not belong"),
        ("another's name", Box::new(|root, request| Ok(sign(root, request, REVIEWS, HOUR))), "answered for"),
        ("a peer's name", Box::new(|root, request| Ok(sign(root, request, WEST, HOUR))), "answered for"),
        (
            "another root",
            Box::new(|_, request| Ok(sign(&Root::new("root"), request, RATINGS, HOUR))),
            "does not verify",
        ),
        ("an expired one", Box::new(|root, request| Ok(sign(root, request, RATINGS, -10))), "does not verify"),
        ("nothing", Box::new(|_, _| Ok(Vec::new())), "it is empty"),
        (
            "garbage",
            Box::new(|_, _| Ok(vec!["-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".to_owned()])),
            "cannot be parsed",
        ),
        ("far too much", Box::new(|_, _| Ok(vec!["x".repeat(1 << 20)])), "refused"),
        ("a refusal", Box::new(|_, _| Err(Status::unauthenticated("no such token"))), "no such token"),
    ];
    for (case, answer, reason) in cases {
        let error = try_enroll(&root, answer).await.expect_err(case).to_string();
        assert!(error.contains(reason), "{case}: {error}");
        assert!(!error.contains("TOKEN"), "{case}: {error}");
    }
}

#[tokio::test]
async fn an_authority_that_is_not_the_expected_one_never_sees_the_token() {
    let (root, stranger) = (Arc::new(Root::new("root")), Arc::new(Root::new("root")));
    let bundles = Bundles::new([&root.bundle("east.example")]).expect("a bundle");
    let seen: fn() -> Answer = || Box::new(|_, _| panic!("the token was sent"));
    let (address, _guard) = serve(&stranger, &IncomingSettings::default(), seen()).await;
    let error = enroll(&ca(address), &bundles, &RATINGS.parse().expect("an identity"), "TOKEN").await;
    assert!(matches!(error, Err(IdentityError::Unreachable { .. })), "{error:?}");
    let (address, _guard) = serve(&root, &IncomingSettings::default(), seen()).await;
    let other = CaClient { expected: Expected::one(REVIEWS.parse().expect("an identity")), ..ca(address) };
    let error = enroll(&other, &bundles, &RATINGS.parse().expect("an identity"), "TOKEN").await;
    assert!(error.expect_err("another").to_string().contains("not expected here"));
}

#[tokio::test]
async fn renewal_survives_failures_and_authenticates_by_certificate() {
    let root = Arc::new(Root::new("root"));
    let asked = AtomicU32::new(0);
    let answer: Answer = Box::new(move |root, request| {
        assert_eq!(peer(request).expect("a certificate").to_string(), RATINGS);
        assert!(request.metadata().get("authorization").is_none());
        if asked.fetch_add(1, Ordering::Relaxed) < 2 {
            return Err(Status::unavailable("not now"));
        }
        Ok(sign(root, request, RATINGS, HOUR))
    });
    let (address, _guard) = serve(&root, &IncomingSettings::default(), answer).await;
    let (chain, key) = root.sign(&Leaf { until: 4, ..Leaf::of(RATINGS) });
    let short = isthmus_identity::WorkloadCertificate::from_pem(&chain, &key).expect("a certificate");
    let first_end = short.not_after;
    let identity = identity(short, &[root.bundle("east.example")]);
    let shutdown = CancellationToken::new();
    let state = start(&identity, ca(address), None, &shutdown);
    eventually("a renewal", || state.borrow().renewals == 1).await;
    let state = state.borrow().clone();
    assert_eq!((state.failures, state.last_error), (2, None));
    assert_eq!(state.not_after, identity.certificate().not_after);
    assert!(state.not_after > first_end);
    shutdown.cancel();
}

#[tokio::test]
async fn an_expired_certificate_is_replaced_by_token() {
    let root = Arc::new(Root::new("root"));
    let answer: Answer = Box::new(|root, request| {
        assert_eq!(request.metadata().get("authorization").expect("a token"), "Bearer SECOND");
        Ok(sign(root, request, RATINGS, HOUR))
    });
    let (address, _guard) = serve(&root, &IncomingSettings::default(), answer).await;
    let (chain, key) = root.sign(&Leaf { until: -1, ..Leaf::of(RATINGS) });
    let expired = isthmus_identity::WorkloadCertificate::from_pem(&chain, &key).expect("a certificate");
    let identity = identity(expired, &[root.bundle("east.example")]);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    let shutdown = CancellationToken::new();
    let state = start(&identity, ca(address), Some(file.clone()), &shutdown);
    eventually("a failure", || state.borrow().failures > 0).await;
    assert!(state.borrow().last_error.as_ref().is_some_and(|error| error.contains("token")));
    std::fs::write(file, "SECOND\n").expect("a file");
    eventually("a renewal", || state.borrow().renewals == 1).await;
    shutdown.cancel();
}

#[tokio::test]
async fn stalled_handshakes_are_cut_and_do_not_keep_others_out() {
    let root = Arc::new(Root::new("root"));
    let settings = IncomingSettings { max_handshakes: 2, handshake_timeout_ms: 200, ..IncomingSettings::default() };
    let answer: Answer = Box::new(|_, request| Ok(vec![peer(request).expect("a certificate").to_string()]));
    let (address, guard) = serve(&root, &settings, answer).await;
    let mut stalled = Vec::new();
    for _ in 0..6 {
        stalled.push(TcpStream::connect(address).await.expect("the kernel accepts"));
    }
    let me = identity(root.certificate(RATINGS), &[root.bundle("east.example")]);
    let tls = client_config(&me, Expected::Any, &[b"h2"]);
    let name = server_name("istiod.istio-system.svc").expect("a name");
    let channel = grpc::connect(&address.to_string(), tls.clone(), name.clone()).await.expect("connected");
    let mut client = IstioCertificateServiceClient::new(channel);
    let answer = client.create_certificate(IstioCertificateRequest::default()).await;
    assert_eq!(answer.expect("an answer").into_inner().cert_chain, [RATINGS]);
    for mut connection in stalled {
        assert_eq!(connection.read(&mut [0]).await.unwrap_or_default(), 0, "cut by the server");
    }
    drop(guard);
    let error = async {
        loop {
            if let Err(error) = grpc::connect(&address.to_string(), tls.clone(), name.clone()).await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(Duration::from_secs(10), error).await.expect("shutdown closes the port");
    assert!(matches!(error, IdentityError::Unreachable { .. }));
}

fn start(
    identity: &Identity,
    ca: CaClient,
    token_file: Option<std::path::PathBuf>,
    shutdown: &CancellationToken,
) -> tokio::sync::watch::Receiver<isthmus_identity::RenewalState> {
    let settings = RenewalSettings { first_retry_ms: 20, last_retry_ms: 50 };
    renew(Renewal { identity: identity.clone(), ca, token_file, settings }, shutdown.clone())
}
