//! Policies that come while connections are open.

use crate::app::{App, empty, http1};
use crate::mesh::{HOST, LIMIT, Mesh, eventually};
use http::Request;
use model::Protocol;
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const DENY: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: not-the-caller, namespace: shop}
spec: {action: DENY, rules: [{from: [{source: {principals: [east.example/ns/shop/sa/caller]}}]}]}
";
/// It lets nobody in but somebody else.
const ALLOW: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: another, namespace: shop}
spec: {rules: [{from: [{source: {principals: [east.example/ns/shop/sa/another]}}]}]}
";

#[tokio::test]
async fn an_open_connection_ends_when_a_policy_comes_to_forbid_it() {
    for policy in [DENY, ALLOW] {
        let application = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = application.local_addr().expect("bound");
        let mut pair = Mesh::new().pair(Protocol::Tcp, at).await;
        let mut caller = TcpStream::connect(pair.entry).await.expect("connected");
        let (mut behind, _) = timeout(LIMIT, application.accept()).await.expect("in time").expect("a connection");
        caller.write_all(b"x").await.expect("sent");
        assert_eq!(timeout(LIMIT, behind.read_u8()).await.expect("in time").expect("read"), b'x');

        let ingress = [(pair.inbound.port(), Protocol::Tcp, at)];
        pair.server.feed(pair.mesh.inbound_under(&ingress, policy)).expect("accepted");
        for end in [&mut caller, &mut behind] {
            let error = timeout(LIMIT, end.read_u8()).await.expect("in time").expect_err("an end");
            assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof), "{error}");
        }
        // Nor does another come in.
        let mut next = TcpStream::connect(pair.entry).await.expect("connected");
        assert!(timeout(LIMIT, next.read_u8()).await.expect("in time").is_err());
        let denied = pair.server.metric("isthmus_authorization_decisions_total", &[("decision", "denied")]);
        assert!(denied >= 2, "{denied}");
    }
}

#[tokio::test]
async fn a_connection_of_requests_follows_the_policies_that_come() {
    let app = App::saying("hi").await;
    let mut pair = Mesh::new().pair(Protocol::Http, app.address).await;
    let mut kept = http1(pair.entry).await;
    let asked = || Request::get("/").header("host", HOST).body(empty()).expect("a request");
    assert_eq!(kept.send_request(asked()).await.expect("a response").status(), 200);
    let ingress = [(pair.inbound.port(), Protocol::Http, app.address)];
    pair.server.feed(pair.mesh.inbound_under(&ingress, DENY)).expect("accepted");
    let before = app.asked();
    assert_eq!(kept.send_request(asked()).await.expect("a response").status(), 403);
    assert_eq!(app.asked(), before, "the application hears nothing of it");
    pair.server.feed(pair.mesh.inbound(&ingress)).expect("accepted");
    eventually("it is let in again", async || kept.send_request(asked()).await.is_ok_and(|got| got.status() == 200))
        .await;
}
