//! Headers that are none: refused with the reason, and the connection lives on.

mod support;

use api::isthmus::StreamHeader as Wire;
use identity::{Expected, client_config};
use isthmus_tunnel::{ALPN, LIMIT, Misfit, OpenError, Refusal, StreamHeader};
use prost::Message;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, ReadError, RecvStream, SendStream};
use std::sync::Arc;
use support::authority::Authority;
use support::{Node, Pair, header, in_time, loopback};

/// East's gateway, and a connection of west's that speaks for itself.
struct Raw {
    east: Node,
    connection: Connection,
    _endpoint: Endpoint,
}

// === impl Raw ===

impl Raw {
    async fn start() -> Self {
        let (west, east) = (Authority::new("west"), Authority::new("east"));
        let identity = west.identity(&west.gateway(), &[&east]);
        let tls = client_config(&identity, Expected::one(east.gateway()), &[ALPN]);
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("TLS 1.3")));
        let east = Node::start(&east, &[&west]);
        let endpoint = Endpoint::client(loopback()).expect("a port");
        let address = east.quic.local_addr().expect("bound");
        let connecting = endpoint.connect_with(config, address, "gateway").expect("a good address");
        let connection = in_time("a connection", connecting).await.expect("let in");
        Self { east, connection, _endpoint: endpoint }
    }

    async fn send(&self, bytes: &[u8]) -> (SendStream, RecvStream) {
        let (mut send, receive) = self.connection.open_bi().await.expect("a stream");
        send.write_all(bytes).await.expect("sent");
        (send, receive)
    }

    /// The stream was refused for `reason`, at both ends; and another gets through.
    async fn refused(&mut self, (send, mut receive): (SendStream, RecvStream), reason: Refusal, what: &str) {
        let Misfit { peer, reason: met } = self.east.misfit().await;
        assert_eq!((peer.as_str(), met), ("west", reason), "{what}");
        let ended = in_time("a reset", receive.read(&mut [0])).await;
        assert_eq!(ended, Err(ReadError::Reset(reason.code())), "{what}");
        let stopped = in_time("a stop", send.stopped()).await.expect("connected");
        // Where all was sent before, there is nothing to stop.
        assert!(stopped.is_none_or(|code| code == reason.code()), "{what}: {stopped:?}");
        let _stream = self.send(&header().encode().expect("short")).await;
        assert_eq!(self.east.arrival().await.header, header(), "{what}");
    }
}

fn framed(wire: &Wire) -> Vec<u8> {
    let body = wire.encode_to_vec();
    let mut bytes = u16::try_from(body.len()).expect("short").to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

#[tokio::test]
async fn what_is_not_a_header_is_refused_and_the_connection_lives_on() {
    let mut raw = Raw::start().await;
    let good = Wire {
        version: 1,
        source_cluster: "west".to_owned(),
        host: "reviews.bookinfo.svc.cluster.local".to_owned(),
        port: 9080,
        ..Wire::default()
    };
    let long = u16::try_from(LIMIT + 1).expect("a length").to_be_bytes().to_vec();
    let cases = [
        ("no length", vec![0, 0], Refusal::BadHeader),
        ("too long", [long, vec![0; LIMIT + 1]].concat(), Refusal::BadHeader),
        ("garbage", vec![0, 3, 0xff, 0xff, 0xff], Refusal::BadHeader),
        ("no version", framed(&Wire { version: 0, ..good.clone() }), Refusal::BadVersion),
        ("a later version", framed(&Wire { version: 2, ..good.clone() }), Refusal::BadVersion),
        ("no host", framed(&Wire { host: String::new(), ..good.clone() }), Refusal::BadHeader),
        ("a bad source", framed(&Wire { source_cluster: "We st".to_owned(), ..good.clone() }), Refusal::BadHeader),
        ("a bad port", framed(&Wire { port: 70_000, ..good.clone() }), Refusal::BadHeader),
        ("a bad group", framed(&Wire { group: "../x".to_owned(), ..good.clone() }), Refusal::BadHeader),
        ("a bad visit", framed(&Wire { visited: vec![String::new()], ..good }), Refusal::BadHeader),
    ];
    for (what, bytes, reason) in cases {
        let stream = raw.send(&bytes).await;
        raw.refused(stream, reason, what).await;
    }
}

#[tokio::test]
async fn a_header_cut_short_is_refused_wherever_it_is_cut() {
    let mut raw = Raw::start().await;
    let whole = header().encode().expect("short");
    for cut in [0, 1, 2, 3, whole.len() / 2, whole.len() - 1] {
        // Ended by a FIN, a reset, or not at all: then time is up.
        let (mut send, receive) = raw.send(&whole[..cut]).await;
        send.finish().expect("open");
        raw.refused((send, receive), Refusal::BadHeader, "finished").await;
    }
    let (mut send, _receive) = raw.send(&whole[..5]).await;
    send.reset(9u32.into()).expect("open");
    assert_eq!(raw.east.misfit().await.reason, Refusal::BadHeader);
    let late = raw.send(&whole[..5]).await;
    raw.refused(late, Refusal::BadHeader, "late").await;
}

#[tokio::test]
async fn a_header_that_cannot_be_sent_opens_no_stream() {
    let mut pair = Pair::start().await;
    let name: model::ClusterId = "a".repeat(63).parse().expect("a name");
    let long = StreamHeader { visited: vec![name; 100], ..header() };
    let opened = pair.west.peers.open(pair.east(), &long, b"").await;
    assert!(matches!(opened, Err(OpenError::Header(_))));
    // The next stream is the first that arrives.
    let (_opened, _arrived) = pair.stream(b"").await;
}
