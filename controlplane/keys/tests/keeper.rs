//! The keeper against a real server: keys that change, a server that fails, and what is not asked.

use config::{FetchedKeys, JwtKeys};
use isthmus_keys::{Fetch, FetchError, Metrics, Settings, keep};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::PrivateKeyDer;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(20);

/// A server whose answer may be changed.
struct Issuer {
    at: SocketAddr,
    answer: watch::Sender<String>,
    asked: Arc<AtomicUsize>,
}

/// A set of one key, which is told by its name.
fn set(name: &str) -> String {
    format!("{{\"keys\":[{{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"{name}\",\"x\":\"AA\",\"y\":\"AA\"}}]}}")
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

impl Issuer {
    async fn start(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (at, answer) = (listener.local_addr().expect("an address"), watch::Sender::new(answer));
        let (answers, asked) = (answer.subscribe(), Arc::new(AtomicUsize::new(0)));
        let counted = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let answer = answers.borrow().clone();
                tokio::spawn(async move {
                    let mut head = [0; 4096];
                    let read = tcp.read(&mut head).await.unwrap_or_default();
                    let is_discovery = String::from_utf8_lossy(&head[..read]).contains("/.well-known/");
                    let own = ok(&format!("{{\"jwks_uri\":\"http://{at}/keys\"}}"));
                    let _ = tcp.write_all(if is_discovery { own.as_bytes() } else { answer.as_bytes() }).await;
                });
            }
        });
        Self { at, answer, asked }
    }

    fn keys(&self) -> JwtKeys {
        JwtKeys::At(format!("http://{}/keys", self.at))
    }
}

fn settings() -> Settings {
    let allow = vec!["127.0.0.0/8".parse().expect("a network")];
    Settings { refresh_seconds: 1, stale_seconds: 6, timeout_ms: 2000, allow, ..Settings::default() }
}

#[tokio::test]
async fn keys_are_followed_and_the_last_good_ones_kept_for_a_while() {
    let issuer = Issuer::start(ok(&set("one"))).await;
    let keys = issuer.keys();
    let wanted = watch::Sender::new(BTreeSet::from([keys.clone()]));
    let (known, mut told) = watch::channel(FetchedKeys::default());
    let shutdown = CancellationToken::new();
    let keeping = tokio::spawn(keep(settings(), wanted.subscribe(), known, Metrics::default(), shutdown.clone()));
    let mut until = async |expected: Option<&str>| {
        let is_it = |all: &FetchedKeys| all.of(&keys) == expected;
        timeout(LIMIT, told.wait_for(is_it)).await.expect("in time").expect("the keeper lives");
    };
    until(Some(&set("one"))).await;
    issuer.answer.send_replace(ok(&set("two")));
    until(Some(&set("two"))).await;
    // What comes now is none: the last good keys stay, and go in the end.
    issuer.answer.send_replace("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned());
    let before = issuer.asked.load(Ordering::Relaxed);
    let asked_again = async {
        while issuer.asked.load(Ordering::Relaxed) == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, asked_again).await.expect("it is asked again in time");
    until(Some(&set("two"))).await;
    until(None).await;
    issuer.answer.send_replace(ok(&set("three")));
    until(Some(&set("three"))).await;
    wanted.send_replace(BTreeSet::new());
    until(None).await;
    shutdown.cancel();
    timeout(LIMIT, keeping).await.expect("in time").expect("it ends");
}

#[tokio::test]
async fn sec_c4_what_is_no_set_of_keys_is_not_taken_for_one() {
    let issuer = Issuer::start(String::new()).await;
    let fetch = Fetch::new(Settings { max_bytes: 1000, ..settings() });
    let mut told = Vec::new();
    for answer in [
        ok("<html>"),
        ok("{}"),
        ok("{\"keys\":[]}"),
        ok("{\"keys\":[{\"kty\":\"oct\",\"k\":\"AA\"}]}"),
        ok(&"x".repeat(1001)),
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/keys\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort".to_owned(),
        "nonsense\r\n\r\n".to_owned(),
    ] {
        issuer.answer.send_replace(answer);
        told.push(fetch.set(&issuer.keys()).await.expect_err("nothing is verified by it").to_string());
    }
    let none = "the answer is no set of keys by which anything is verified";
    assert_eq!(told[..4], [none; 4]);
    assert_eq!(told[4], "the answer is longer than 1000 bytes");
    assert_eq!(told[5], "status 302");
}

#[tokio::test]
async fn an_issuer_tells_where_its_keys_are() {
    let issuer = Issuer::start(ok(&set("one"))).await;
    let keys = JwtKeys::OfIssuer(format!("http://{}/", issuer.at));
    assert_eq!(Fetch::new(settings()).set(&keys).await.expect("keys"), set("one"));
}

#[tokio::test]
async fn sec_c6_what_only_this_machine_may_reach_is_not_asked() {
    let issuer = Issuer::start(ok(&set("one"))).await;
    let fetch = Fetch::new(Settings { allow: Vec::new(), ..settings() });
    for uri in [format!("http://{}/keys", issuer.at), format!("http://localhost:{}/", issuer.at.port())] {
        let refused = fetch.set(&JwtKeys::At(uri)).await.expect_err("refused");
        assert!(matches!(refused, FetchError::Forbidden { .. }), "{refused}");
    }
    for uri in ["http://169.254.169.254/latest", "http://[::1]/", "http://[::ffff:127.0.0.1]/"] {
        let refused = fetch.set(&JwtKeys::At(uri.to_owned())).await.expect_err("refused");
        assert!(matches!(refused, FetchError::Forbidden { .. }), "{refused}");
    }
    let refused = fetch.set(&JwtKeys::At("file:///etc/passwd".to_owned())).await.expect_err("refused");
    assert!(matches!(refused, FetchError::Uri(_)), "{refused}");
    assert_eq!(issuer.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn over_tls_an_issuer_must_show_a_certificate_of_the_roots() {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, own.cert.pem()).expect("written");
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).expect("a key");
    let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .expect("a server");
    let (acceptor, listener) =
        (TlsAcceptor::from(Arc::new(tls)), TcpListener::bind("127.0.0.1:0").await.expect("a port"));
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            let _ = tls.read(&mut [0; 4096]).await;
            let _ = tls.write_all(ok(&set("one")).as_bytes()).await;
            let _ = tls.shutdown().await;
        }
    });
    let ask = async |host: &str, roots: &std::path::Path| {
        let fetch = Fetch::new(Settings { roots: roots.to_owned(), ..settings() });
        fetch.set(&JwtKeys::At(format!("https://{host}:{port}/keys"))).await
    };
    assert_eq!(ask("localhost", &roots).await.expect("keys"), set("one"));
    assert!(ask("127.0.0.1", &roots).await.is_err(), "it shows another name");
    let others = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(&roots, others.cert.pem()).expect("written");
    assert!(ask("localhost", &roots).await.is_err(), "nobody vouches for it");
    assert!(ask("localhost", &folder.path().join("none.pem")).await.is_err(), "there are no roots");
}
