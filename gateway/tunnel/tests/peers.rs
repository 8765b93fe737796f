//! Who is let in, which tunnel is taken, and what is left at the end.

mod support;

use identity::{ClientAuth, Expected, Identity, anonymous_client_config, client_config, server_config};
use isthmus_tunnel::{ALPN, Metrics, OpenError, PeerSet, QuicEndpoint, Settings, accept};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, ServerConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use support::authority::Authority;
use support::{Node, connected, eventually, gateways, header, in_time, loopback};
use tokio_util::sync::CancellationToken;

/// Dials `east` with this configuration: true once a stream was taken, false once it was shown the door.
async fn is_let_in(east: &mut Node, tls: Arc<rustls::ClientConfig>) -> bool {
    let endpoint = Endpoint::client(loopback()).expect("a port");
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("TLS 1.3")));
    let address = east.quic.local_addr().expect("bound");
    let connecting = endpoint.connect_with(config, address, "gateway").expect("a good address");
    let Ok(connection) = in_time("an answer", connecting).await else { return false };
    // A client is done with the handshake before the server has judged it.
    let asking = async {
        let (mut send, receive) = connection.open_bi().await.ok()?;
        send.write_all(&header().encode().expect("short")).await.ok()?;
        std::future::pending::<()>().await;
        Some(receive)
    };
    tokio::select! {
        _ = asking => false,
        _ = connection.closed() => false,
        arrival = east.arrival() => arrival.peer.as_str() == "west",
    }
}

#[tokio::test]
async fn only_the_peers_gateways_are_let_in() {
    let (west, east, north) = (Authority::new("west"), Authority::new("east"), Authority::new("north"));
    let impostor = Authority::new("west");
    // North's root is known to east, yet north is not its peer here.
    let known = east.identity(&east.gateway(), &[&west, &north]);
    let mut node = accepting(known, &west);
    let expected = Expected::one(east.gateway());
    let dial = |identity: &Identity, alpn: &[&[u8]]| client_config(identity, expected.clone(), alpn);
    let gateway = west.identity(&west.gateway(), &[&east]);
    let outsiders = [
        ("a root that is not known", dial(&impostor.identity(&impostor.gateway(), &[&east]), &[ALPN])),
        ("another cluster's gateway", dial(&north.identity(&north.gateway(), &[&east]), &[ALPN])),
        ("another cluster's root", dial(&north.identity(&west.gateway(), &[&east]), &[ALPN])),
        ("no gateway", dial(&west.identity(&west.member("bookinfo", "reviews"), &[&east]), &[ALPN])),
        ("another's name", dial(&west.identity(&west.member("isthmus-system", "gateway-east"), &[&east]), &[ALPN])),
        ("another namespace", dial(&west.identity(&west.member("default", "gateway-west"), &[&east]), &[ALPN])),
        ("another protocol", dial(&gateway, &[b"h3"])),
        ("a later protocol", dial(&gateway, &[b"isthmus/2"])),
        ("no protocol", dial(&gateway, &[])),
        ("no certificate", anonymous_client_config((*gateway.bundles()).clone(), expected.clone(), &[ALPN])),
    ];
    for (what, tls) in outsiders {
        assert!(!is_let_in(&mut node, tls).await, "{what}");
    }
    assert!(is_let_in(&mut node, dial(&gateway, &[ALPN])).await, "the peer itself");
}

fn accepting(identity: Identity, peer: &Authority) -> Node {
    let allowed = BTreeSet::from([peer.gateway()]);
    let quic = QuicEndpoint::bind(loopback(), identity, allowed, Settings::default()).expect("a port");
    let (known, shutdown) = (BTreeMap::from([(peer.cluster.clone(), peer.gateway())]), CancellationToken::new());
    let peers = PeerSet::new(quic.clone(), &known, Metrics::default(), shutdown.clone()).expect("TLS");
    let incoming = accept(quic.clone(), &known, shutdown.clone());
    Node { quic, peers, incoming, shutdown }
}

#[tokio::test]
async fn only_the_peers_own_gateway_is_dialled_with_success() {
    let (west, east, north) = (Authority::new("west"), Authority::new("east"), Authority::new("north"));
    let impostor = Authority::new("east");
    let dialler = Node::start(&west, &[&east, &north]);
    for (what, answering) in
        [("another cluster", Node::start(&north, &[&west])), ("another root", Node::start(&impostor, &[&west]))]
    {
        dialler.peers.set_gateways(&east.cluster, &gateways(&[(what, &answering)]));
        eventually("failures", || dialler.peers.path(&east.cluster).failures >= 2).await;
        let opened = dialler.peers.open(&east.cluster, &header(), b"").await;
        assert!(matches!(opened, Err(OpenError::Unreachable(_))), "{what}: {opened:?}");
    }
    let stranger = "south".parse().expect("a name");
    let opened = dialler.peers.open(&stranger, &header(), b"").await;
    assert!(matches!(opened, Err(OpenError::UnknownPeer(_))), "{opened:?}");
}

#[tokio::test]
async fn new_streams_go_where_a_gateway_is_left() {
    let (west, east) = (Authority::new("west"), Authority::new("east"));
    let dialler = Node::start(&west, &[&east]);
    let (mut first, mut second) = (Node::start(&east, &[&west]), Node::start(&east, &[&west]));
    dialler.peers.set_gateways(&east.cluster, &gateways(&[("a", &first), ("b", &second)]));
    connected(&dialler.peers, &east.cluster, 2).await;
    let open = async || dialler.peers.open(&east.cluster, &header(), b"").await;
    // In turn.
    let mut taken = [0; 2];
    for _ in 0..6 {
        let _stream = open().await.expect("a stream");
        tokio::select! {
            _ = first.arrival() => taken[0] += 1,
            _ = second.arrival() => taken[1] += 1,
        }
    }
    assert_eq!(taken, [3, 3]);
    first.stop().await;
    connected(&dialler.peers, &east.cluster, 1).await;
    for _ in 0..4 {
        let _stream = open().await.expect("a stream");
        second.arrival().await;
    }
    second.stop().await;
    connected(&dialler.peers, &east.cluster, 0).await;
    assert!(matches!(open().await, Err(OpenError::Unreachable(_))));
    // A gateway that comes back, even elsewhere, is found again.
    let mut third = Node::start(&east, &[&west]);
    dialler.peers.set_gateways(&east.cluster, &gateways(&[("a", &third)]));
    connected(&dialler.peers, &east.cluster, 1).await;
    let _stream = open().await.expect("a stream");
    third.arrival().await;
}

#[tokio::test]
async fn a_gateway_that_is_no_more_among_them_loses_its_tunnel_once_that_is_idle() {
    let (west, east) = (Authority::new("west"), Authority::new("east"));
    let dialler = Node::start(&west, &[&east]);
    let mut leaving = Node::start(&east, &[&west]);
    // A bare endpoint tells when it is left.
    let identity = east.identity(&east.gateway(), &[&west]);
    let tls = server_config(&identity, ClientAuth::Required, Expected::one(west.gateway()), &[ALPN]);
    let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).expect("TLS 1.3")));
    let bare = Endpoint::server(config, loopback()).expect("a port");
    let address = bare.local_addr().expect("bound").to_string();
    dialler.peers.set_gateways(&east.cluster, &BTreeMap::from([(Arc::from("bare"), vec![address])]));
    let incoming = in_time("a dial", bare.accept()).await.expect("open");
    let connection = in_time("a handshake", incoming.into_future()).await.expect("west");
    connected(&dialler.peers, &east.cluster, 1).await;

    let mut stream = dialler.peers.open(&east.cluster, &header(), b"").await.expect("a stream");
    let (mut answer, _asked) = in_time("a stream", connection.accept_bi()).await.expect("open");
    dialler.peers.set_gateways(&east.cluster, &gateways(&[("b", &leaving)]));
    connected(&dialler.peers, &east.cluster, 1).await;
    let _new = dialler.peers.open(&east.cluster, &header(), b"").await.expect("a stream");
    leaving.arrival().await;
    answer.write_all(b"still here").await.expect("open");
    let read = in_time("the answer", stream.read()).await.expect("open");
    assert_eq!(read.as_deref(), Some(&b"still here"[..]), "a stream goes on over the old tunnel");
    drop(stream);
    in_time("the old tunnel's end", connection.closed()).await;
}

#[tokio::test]
async fn shutdown_ends_all_tasks() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    {
        let (west, east) = (Authority::new("west"), Authority::new("east"));
        let mut dialler = Node::start(&west, &[&east]);
        let (mut first, second) = (Node::start(&east, &[&west]), Node::start(&east, &[&west]));
        // One of the addresses answers nothing, one is no address.
        let mut known = gateways(&[("a", &first), ("b", &second)]);
        let silent = std::net::UdpSocket::bind(loopback()).expect("a port");
        known.insert("c".into(), vec![silent.local_addr().expect("bound").to_string()]);
        known.insert("d".into(), vec!["no such host:1".to_owned()]);
        dialler.peers.set_gateways(&east.cluster, &known);
        connected(&dialler.peers, &east.cluster, 2).await;
        let _stream = dialler.peers.open(&east.cluster, &header(), b"").await.expect("a stream");
        assert!(tasks() > before);
        tokio::join!(dialler.stop(), first.stop(), second.stop());
        for node in [&mut dialler, &mut first] {
            while in_time("the end of what comes in", node.incoming.recv()).await.is_some() {}
        }
        let opened = dialler.peers.open(&east.cluster, &header(), b"").await;
        assert!(opened.is_err(), "{opened:?}");
    }
    eventually("the end of all tasks", || tasks() == before).await;
}
