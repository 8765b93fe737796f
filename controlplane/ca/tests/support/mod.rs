//! An authority behind a real socket, and those who ask it.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use api::istio::ca::istio_certificate_service_server::IstioCertificateServiceServer;
use identity::grpc::incoming;
use identity::{Bundles, CaClient, ClientAuth, Expected, Identity, WorkloadCertificate, server_config};
use isthmus_ca::{Authority, CertificateService, Metrics, SelfSigned, ServiceSettings, TokenKey};
use model::{TrustBundle, WorkloadIdentity};
use prometheus_client::registry::Registry;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Server;

pub const AUTHORITY: &str = "spiffe://east.example/ns/isthmus-system/sa/controlplane";
pub const REVIEWS: &str = "spiffe://east.example/ns/bookinfo/sa/reviews";
pub const RATINGS: &str = "spiffe://east.example/ns/bookinfo/sa/ratings";

/// A running authority of `east.example`, which also knows the peer `west.example`.
pub struct East {
    pub address: SocketAddr,
    pub authority: Arc<Authority>,
    pub tokens: Arc<TokenKey>,
    pub token_key: String,
    pub west: Authority,
    pub registry: Registry,
    _shutdown: DropGuard,
}

impl East {
    pub async fn start(longest: Duration, settings: &ServiceSettings) -> Self {
        let (authority, west) = (Arc::new(authority("east.example", longest)), authority("west.example", longest));
        let token_key = TokenKey::generate().expect("a key");
        let tokens = Arc::new(TokenKey::from_pem(domain("east.example"), &token_key).expect("our own key"));
        let (chain, key) = authority.issue_own(&name(AUTHORITY), Duration::from_hours(1)).expect("our own certificate");
        let bundles = [bundle("east.example", &authority), bundle("west.example", &west)];
        let certificate = WorkloadCertificate::from_pem(&chain, &key).expect("our own certificate");
        let identity = Identity::new(certificate, Bundles::new(&bundles).expect("roots"));
        let tls = server_config(&identity, ClientAuth::Optional, Expected::Any, &[b"h2"]);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let shutdown = CancellationToken::new();
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let service = CertificateService::with_settings(authority.clone(), tokens.clone(), settings, metrics);
        let incoming = incoming(listener, tls, shutdown.clone());
        let service = IstioCertificateServiceServer::new(service);
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        Self { address, authority, tokens, token_key, west, registry, _shutdown: shutdown.drop_guard() }
    }

    pub fn client(&self) -> CaClient {
        CaClient {
            address: self.address.to_string(),
            server_name: "istiod.istio-system.svc".to_owned(),
            expected: Expected::one(name(AUTHORITY)),
            ttl: Duration::from_hours(1),
        }
    }

    pub fn bundles(&self) -> Bundles {
        Bundles::new([&bundle("east.example", &self.authority)]).expect("a root")
    }

    pub fn token(&self, identity: &str) -> String {
        let identity = name(identity);
        let ttl = Duration::from_hours(1);
        self.tokens.mint(&identity.namespace, &identity.service_account, ttl).expect("a token")
    }

    /// What `authority` would have given to `identity`, trusting `east.example`.
    pub fn holder(&self, authority: &Authority, identity: &str) -> Identity {
        let (chain, key) = authority.issue_own(&name(identity), Duration::from_hours(1)).expect("a certificate");
        Identity::new(WorkloadCertificate::from_pem(&chain, &key).expect("a certificate"), self.bundles())
    }
}

pub fn authority(domain_name: &str, longest: Duration) -> Authority {
    let root = SelfSigned::generate(&domain(domain_name)).expect("a root");
    Authority::from_pem(&root.certificate, &root.key, &root.certificate, "", longest).expect("our own root")
}

pub fn bundle(domain_name: &str, authority: &Authority) -> TrustBundle {
    TrustBundle { trust_domain: domain(domain_name), pem: authority.root().into() }
}

pub fn domain(text: &str) -> model::TrustDomain {
    text.parse().expect("a trust domain")
}

pub fn name(text: &str) -> WorkloadIdentity {
    text.parse().expect("an identity")
}

/// A request that asks for nothing but a signature.
pub fn plain_csr(key: &KeyPair) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serialize_request(key).expect("a request").pem().expect("PEM")
}
