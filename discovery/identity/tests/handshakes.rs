//! Who gets through a handshake, and who does not.

mod support;

use isthmus_identity::{
    Bundles, ClientAuth, Expected, Identity, anonymous_client_config, client_config, peer_identity, server_config,
    server_name,
};
use model::WorkloadIdentity;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::{ClientConfig, ServerConfig};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Fixed, HOUR, Leaf, RATINGS, REVIEWS, Root, WEST, eventually, handshake, identity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SNI: &str = "outbound_.9080_._.reviews.bookinfo.svc.cluster.local";
const ALPN: &[&[u8]] = &[b"istio"];

/// Two trust domains whose roots have the same name, as if one had chosen the other's; a server and a client of the first.
struct Mesh {
    east: Root,
    west: Root,
    server: Identity,
    client: Identity,
}

impl Mesh {
    fn new() -> Self {
        let (east, west) = (Root::new("root"), Root::new("root"));
        let bundles = [east.bundle("east.example"), west.bundle("west.example")];
        let server = identity(east.certificate(REVIEWS), &bundles);
        let client = identity(east.certificate(RATINGS), &bundles);
        Self { east, west, server, client }
    }

    fn server_config(&self) -> Arc<ServerConfig> {
        server_config(&self.server, ClientAuth::Required, Expected::Any, ALPN)
    }

    fn client_config(&self) -> Arc<ClientConfig> {
        client_config(&self.client, Expected::one(name(REVIEWS)), ALPN)
    }

    /// Certificates that nobody may accept, and what the refusal says.
    fn bad(&self, other_usage: &ExtendedKeyUsagePurpose) -> Vec<(&'static str, Fixed, &'static str)> {
        let good = Leaf::of(RATINGS);
        let with = |change: &dyn Fn(&mut Leaf)| {
            let mut leaf = good.clone();
            change(&mut leaf);
            self.east.fixed(&leaf)
        };
        let many = || {
            let mut below = self.east.below("same");
            let mut chain = below.pem.clone();
            for _ in 0..20 {
                below = below.below("same");
                chain = format!("{}{chain}", below.pem);
            }
            let (leaf, key) = below.sign(&good);
            Fixed::new(&format!("{leaf}{chain}"), &key)
        };
        vec![
            ("two URIs", with(&|leaf| leaf.uris.push("spiffe://east.example/ns/a/sa/admin".into())), "2 URI names"),
            ("the same URI twice", with(&|leaf| leaf.uris.push(RATINGS.into())), "2 URI names"),
            ("no URI", with(&|leaf| leaf.uris.clear()), "0 URI names"),
            ("not Istio's form", with(&|leaf| leaf.uris = vec![format!("{RATINGS}/x")]), "SPIFFE id"),
            ("not a SPIFFE id", with(&|leaf| leaf.uris = vec!["https://east.example/".into()]), "SPIFFE id"),
            ("a peer's root for our name", self.west.fixed(&good), "InvalidSignatureForPublicKey"),
            ("our root for a peer's name", with(&|leaf| leaf.uris = vec![WEST.into()]), "InvalidSignatureForPublicKey"),
            (
                "an unknown trust domain",
                with(&|leaf| leaf.uris = vec!["spiffe://north.example/ns/a/sa/b".into()]),
                "no roots are known for trust domain north.example",
            ),
            ("a stranger's root", Root::new("root").fixed(&good), "InvalidSignatureForPublicKey"),
            ("expired", with(&|leaf| (leaf.from, leaf.until) = (-HOUR, -60)), "Expired"),
            ("not valid yet", with(&|leaf| leaf.from = 600), "NotValidYet"),
            ("for the other side only", with(&|leaf| leaf.usages = vec![other_usage.clone()]), "InvalidPurpose"),
            ("for nothing in particular", with(&|leaf| leaf.usages.clear()), "InvalidPurpose"),
            ("an authority's own", with(&|leaf| leaf.ca = true), "CaUsedAsEndEntity"),
            ("a long chain of namesakes", many(), "certificates above the leaf"),
        ]
    }
}

fn name(text: &str) -> WorkloadIdentity {
    text.parse().expect("an identity")
}

#[tokio::test]
async fn both_ends_learn_who_the_other_is() {
    let mesh = Mesh::new();
    let (client, server) = handshake(mesh.server_config(), mesh.client_config(), SNI).await;
    let (client, server) = (client.expect("accepted"), server.expect("accepted"));
    let (_, server) = server.get_ref();
    assert_eq!(peer_identity(server.peer_certificates()), Some(name(RATINGS)));
    assert_eq!(peer_identity(client.get_ref().1.peer_certificates()), Some(name(REVIEWS)));
    assert_eq!(server.server_name(), Some(SNI));
    assert_eq!(server.alpn_protocol(), Some(&b"istio"[..]));
    assert_eq!(server.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
}

#[tokio::test]
async fn a_federated_workload_is_vouched_for_by_its_own_root() {
    let mesh = Mesh::new();
    let west = identity(mesh.west.certificate(WEST), &[mesh.east.bundle("east.example")]);
    let config = client_config(&west, Expected::one(name(REVIEWS)), ALPN);
    let (_, server) = handshake(mesh.server_config(), config, SNI).await;
    let server = server.expect("accepted");
    assert_eq!(peer_identity(server.get_ref().1.peer_certificates()), Some(name(WEST)));
}

#[tokio::test]
async fn an_intermediate_is_followed_to_the_root() {
    let mesh = Mesh::new();
    let below = mesh.east.below("intermediate");
    let (leaf, key) = below.sign(&Leaf::of(RATINGS));
    let mut config = (*mesh.client_config()).clone();
    config.client_auth_cert_resolver = Arc::new(Fixed::new(&format!("{leaf}{}", below.pem), &key));
    let (_, server) = handshake(mesh.server_config(), Arc::new(config), SNI).await;
    server.expect("accepted");
}

#[tokio::test]
async fn servers_refuse_bad_clients() {
    let mesh = Mesh::new();
    for (case, certificate, reason) in mesh.bad(&ExtendedKeyUsagePurpose::ServerAuth) {
        let mut config = (*mesh.client_config()).clone();
        config.client_auth_cert_resolver = Arc::new(certificate);
        let start = Instant::now();
        let (_, server) = handshake(mesh.server_config(), Arc::new(config), SNI).await;
        let error = server.expect_err(case).to_string();
        assert!(error.contains(reason), "{case}: {error}");
        assert!(start.elapsed() < Duration::from_secs(5), "{case} took {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn clients_refuse_bad_servers() {
    let mesh = Mesh::new();
    for (case, certificate, reason) in mesh.bad(&ExtendedKeyUsagePurpose::ClientAuth) {
        let mut config = (*mesh.server_config()).clone();
        config.cert_resolver = Arc::new(certificate);
        let client = client_config(&mesh.client, Expected::Any, ALPN);
        let (client, _) = handshake(Arc::new(config), client, SNI).await;
        let error = client.expect_err(case).to_string();
        assert!(error.contains(reason), "{case}: {error}");
    }
}

#[tokio::test]
async fn only_the_expected_get_through() {
    let mesh = Mesh::new();
    for (expected, good) in [
        (Expected::Any, true),
        (Expected::one(name(REVIEWS)), true),
        (Expected::Exactly(Arc::new([name(REVIEWS), name(WEST)].into())), true),
        (Expected::one(name(RATINGS)), false),
        (Expected::Exactly(Arc::new(BTreeSet::new())), false),
    ] {
        let config = client_config(&mesh.client, expected.clone(), ALPN);
        let (client, _) = handshake(mesh.server_config(), config, SNI).await;
        assert_eq!(client.is_ok(), good, "{expected:?}");
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_nobody_where_that_is_allowed() {
    let mesh = Mesh::new();
    let bundles = Bundles::new([&mesh.east.bundle("east.example")]).expect("a bundle");
    let anonymous = anonymous_client_config(bundles, Expected::Any, ALPN);
    let (_, refused) = handshake(mesh.server_config(), anonymous.clone(), SNI).await;
    assert!(refused.is_err());
    let optional = server_config(&mesh.server, ClientAuth::Optional, Expected::Any, ALPN);
    let (_, server) = handshake(optional.clone(), anonymous, SNI).await;
    assert_eq!(peer_identity(server.expect("accepted").get_ref().1.peer_certificates()), None);
    let mut config = (*mesh.client_config()).clone();
    config.client_auth_cert_resolver = Arc::new(mesh.west.fixed(&Leaf::of(RATINGS)));
    let (_, server) = handshake(optional, Arc::new(config), SNI).await;
    assert!(server.is_err(), "a bad certificate is not the same as none");
}

#[tokio::test]
async fn a_new_certificate_counts_from_the_next_handshake_and_drops_no_connection() {
    let mesh = Mesh::new();
    let (server_config, client_config) = (mesh.server_config(), mesh.client_config());
    let (client, server) = handshake(server_config.clone(), client_config.clone(), SNI).await;
    let (mut client, mut server) = (client.expect("accepted"), server.expect("accepted"));
    let mut changes = mesh.client.changes();
    mesh.client.set_certificate(mesh.east.certificate("spiffe://east.example/ns/bookinfo/sa/other"));
    eventually("the change", || changes.has_changed().expect("the identity lives")).await;
    changes.mark_unchanged();

    client.write_all(b"still here").await.expect("the connection lives");
    let mut bytes = [0; 10];
    server.read_exact(&mut bytes).await.expect("the connection lives");
    assert_eq!(&bytes, b"still here");

    let (_, server) = handshake(server_config, client_config, SNI).await;
    let server = server.expect("accepted");
    let seen = peer_identity(server.get_ref().1.peer_certificates()).expect("an identity");
    assert_eq!(&*seen.service_account, "other");
}

#[tokio::test]
async fn a_root_that_is_withdrawn_counts_at_once_and_nobody_resumes_past_it() {
    let mesh = Mesh::new();
    let (server_config, client_config) = (mesh.server_config(), mesh.client_config());
    for _ in 0..2 {
        let (client, server) = handshake(server_config.clone(), client_config.clone(), SNI).await;
        let (_, server) = server.expect("accepted").into_inner();
        assert_eq!(server.handshake_kind(), Some(rustls::HandshakeKind::Full));
        client.expect("accepted");
    }
    mesh.server.set_bundles(Bundles::new([&mesh.west.bundle("west.example")]).expect("a bundle"));
    let (_, server) = handshake(server_config, client_config, SNI).await;
    assert!(server.expect_err("no root").to_string().contains("no roots are known"));
}

#[test]
fn names_that_can_be_sent_and_names_that_cannot() {
    for good in [SNI, "reviews", "a_b.example", "10.0.0.1", "::1"] {
        server_name(good).expect(good);
    }
    let long = "a".repeat(300);
    for bad in ["", " ", "a b", "a..b", "*.example", "a\0b", "ü.example", long.as_str()] {
        assert!(server_name(bad).is_err(), "{bad:?}");
    }
}
