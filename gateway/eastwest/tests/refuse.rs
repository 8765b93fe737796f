//! What is not offered to the asking cluster is refused: with a reset, and the reason in the metrics.

mod support;

use model::ClusterId;
use std::collections::BTreeMap;
use std::time::Duration;
use support::authority::Authority;
use support::{
    End, PORT, REVIEWS, SNI, Site, Workload, closed_port, endpoint, eventually, hello, host, imported, in_time,
    loopback, name, service, settings, two,
};
use tokio_util::sync::CancellationToken;
use tunnel::{CopyError, Metrics, PeerSet, QuicEndpoint, Refusal, StreamHeader, TunnelStream};

#[tokio::test]
async fn a_service_that_is_not_exported_to_the_source_is_refused_by_the_destination() {
    let (west, east, root) = two().await;
    let workload = Workload::start(b'a').await;
    let endpoints = || vec![workload.endpoint(&root)];
    east.offers(service("private.bookinfo", "", endpoints()));
    east.offers(service("norths.bookinfo", "north", endpoints()));
    let mut other_port = service("ports.bookinfo", "*", endpoints());
    other_port.ports[0].number = 9999;
    east.offers(other_port);
    let mut datagrams = service("datagrams.bookinfo", "*", endpoints());
    datagrams.ports[0].protocol = model::Protocol::Udp;
    east.offers(datagrams);
    // West believes all of them to be offered, as a source may that is late, or lies.
    let names = ["private.bookinfo", "norths.bookinfo", "ports.bookinfo", "datagrams.bookinfo", "unknown.bookinfo"];
    for (n, asked) in (1..).zip(names) {
        west.offers(imported(asked, &[(&east.cluster, 1)]));
        let mut stream = west.dial(&hello(&format!("outbound_.{PORT}_._.{asked}"))).await;
        assert_eq!(name(&mut stream).await, Err(End::Reset), "{asked}");
        let refused = east.refused("west", "NOT_EXPORTED", "ingress");
        assert!(refused >= n, "{asked}: {refused}");
        assert_eq!(refused, west.refused("east", "NOT_EXPORTED", "egress"), "{asked}");
    }
    assert_eq!(east.refused("west", "GONE", "ingress"), 0);
}

#[tokio::test]
async fn what_no_peer_offers_is_refused_by_the_source() {
    let (west, east, root) = two().await;
    let workload = Workload::start(b'a').await;
    east.offers(service(REVIEWS, "*", vec![workload.endpoint(&root)]));
    // A local service is none of the egress's business.
    west.offers(service("local.bookinfo", "*", vec![workload.endpoint(&root)]));
    west.offers(imported("other.bookinfo", &[(&east.cluster, 1)]));
    let asked = [SNI, "outbound_.9080_._.local.bookinfo", "outbound_.1_._.other.bookinfo"];
    for (n, sni) in (1..).zip(asked) {
        assert_eq!(west.ask(&hello(sni)).await, Err(End::Reset), "{sni}");
        assert_eq!(west.refused("", "NOT_EXPORTED", "egress"), n, "{sni}");
    }
}

#[tokio::test]
async fn a_hello_that_names_no_service_is_refused() {
    let (west, _east, _) = two().await;
    let cases = [
        ("another form", hello("kubernetes.default.svc")),
        ("an inbound name", hello("inbound_.80_._.a.b")),
        ("port 0", hello("outbound_.0_._.a.b")),
        ("no name", hello("127.0.0.1")),
        ("no TLS", b"GET / HTTP/1.1\r\nHost: reviews\r\n\r\n".to_vec()),
        ("too long", [&[0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xfc, 3, 3][..], &vec![0; 20_000]].concat()),
        ("cut short", hello(SNI)[..40].to_vec()),
    ];
    for (n, (what, bytes)) in (1..).zip(cases) {
        assert_eq!(west.ask(&bytes).await, Err(End::Reset), "{what}");
        assert_eq!(west.refused("", "BAD_HEADER", "egress"), n, "{what}");
    }
}

#[tokio::test]
async fn a_withdrawn_export_is_refused_at_once() {
    let (west, east, root) = two().await;
    let workload = Workload::start(b'a').await;
    east.offers(service(REVIEWS, "*", vec![workload.endpoint(&root)]));
    // West does not hear of the withdrawal.
    west.offers(imported(REVIEWS, &[(&east.cluster, 1)]));
    let mut open = west.dial(&hello(SNI)).await;
    assert_eq!(name(&mut open).await, Ok(b'a'));
    east.offers(service(REVIEWS, "north", vec![workload.endpoint(&root)]));
    assert_eq!(west.ask(&hello(SNI)).await, Err(End::Reset));
    assert!(east.refused("west", "GONE", "ingress") > 0);
    east.offers(service(REVIEWS, "west", vec![workload.endpoint(&root)]));
    assert_eq!(west.ask(&hello(SNI)).await, Ok(b'a'));
}

#[tokio::test]
async fn the_destination_forwards_to_nobody_else() {
    let (west, east, north) = (Authority::new("west"), Authority::new("east"), Authority::new("north"));
    let source = Site::start(&west, &[&east]).await;
    let (middle, far) = (Site::start(&east, &[&west, &north]).await, Site::start(&north, &[&east]).await);
    source.joins(&middle).await;
    middle.joins(&far).await;
    let workload = Workload::start(b'n').await;
    far.offers(service(REVIEWS, "*", vec![workload.endpoint(&north)]));
    // East has no endpoint of its own, and knows that north has.
    let known = imported(REVIEWS, &[(&far.cluster, 1)]);
    middle.offers(model::Service { audience: model::Audience::All, ..known });
    source.offers(imported(REVIEWS, &[(&middle.cluster, 1)]));
    assert_eq!(source.ask(&hello(SNI)).await, Err(End::Reset));
    assert!(middle.refused("west", "UNREACHABLE", "ingress") > 0);
    // East's own sidecars do reach it.
    assert_eq!(middle.ask(&hello(SNI)).await, Ok(b'n'));
}

/// A gateway of west's that writes what it likes into its headers.
struct Forger {
    quic: QuicEndpoint,
    peers: PeerSet,
    east: ClusterId,
    shutdown: CancellationToken,
}

impl Forger {
    async fn start(west: &Authority, east: &Authority, site: &Site) -> Self {
        let identity = west.identity(&west.gateway(), &[east]);
        let allowed = [east.gateway()].into();
        let quic = QuicEndpoint::bind(loopback(), identity, allowed, tunnel::Settings::default()).expect("a port");
        let (known, shutdown) = (BTreeMap::from([(east.cluster.clone(), east.gateway())]), CancellationToken::new());
        let peers = PeerSet::new(quic.clone(), &known, Metrics::default(), shutdown.clone()).expect("TLS");
        let address = site.gateway.tunnel().to_string();
        peers.set_gateways(&east.cluster, &BTreeMap::from([("a".into(), vec![address])]));
        eventually("a tunnel", || peers.path(&east.cluster).connected == 1).await;
        Self { quic, peers, east: east.cluster.clone(), shutdown }
    }

    async fn ask(&self, header: &StreamHeader) -> Result<TunnelStream, Refusal> {
        let mut stream = self.peers.open(&self.east, header, b"hello").await.expect("a stream");
        match in_time("an answer", stream.read()).await {
            Ok(first) => {
                assert!(first.is_some());
                Ok(stream)
            }
            Err(CopyError::Refused(reason)) => Err(reason),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_source_is_who_its_certificate_says() {
    let (west, east) = (Authority::new("west"), Authority::new("east"));
    let site = Site::start(&east, &[&west, &Authority::new("north")]).await;
    let workload = Workload::start(b'a').await;
    site.offers(service("norths.bookinfo", "north", vec![workload.endpoint(&east)]));
    site.offers(service("wests.bookinfo", "west", vec![workload.endpoint(&east)]));
    let forger = Forger::start(&west, &east, &site).await;
    let header = |asked: &str, source: &str| StreamHeader {
        source: source.parse().expect("a name"),
        host: host(asked),
        port: PORT,
        group: None,
        hops: 0,
        visited: vec!["west".parse().expect("a name")],
    };
    let refused = async |header| forger.ask(&header).await.expect_err("refused");
    assert_eq!(refused(header("norths.bookinfo", "north")).await, Refusal::NotExported);
    assert_eq!(refused(header("norths.bookinfo", "east")).await, Refusal::NotExported);
    assert_eq!(site.refused("west", "NOT_EXPORTED", "ingress"), 2);
    assert_eq!(site.refused("north", "NOT_EXPORTED", "ingress"), 0);
    assert!(forger.ask(&header("wests.bookinfo", "north")).await.is_ok(), "what it may, it may under any name");
    // Nor does a stream run in circles.
    let forwarded = StreamHeader { hops: 1, ..header("wests.bookinfo", "west") };
    assert_eq!(refused(forwarded).await, Refusal::Loop);
    let visited = vec!["west".parse().expect("a name"), "east".parse().expect("a name")];
    assert_eq!(refused(StreamHeader { visited, ..header("wests.bookinfo", "west") }).await, Refusal::Loop);
    assert_eq!(site.refused("west", "LOOP", "ingress"), 2);
    forger.shutdown.cancel();
    forger.quic.close().await;
}

#[tokio::test]
async fn another_peer_answers_where_one_does_not() {
    let (west, east, north) = (Authority::new("west"), Authority::new("east"), Authority::new("north"));
    let source = Site::start(&west, &[&east, &north]).await;
    let (first, second) = (Site::start(&east, &[&west]).await, Site::start(&north, &[&west]).await);
    source.joins(&first).await;
    source.joins(&second).await;
    let workload = Workload::start(b'n').await;
    first.offers(service(REVIEWS, "*", vec![endpoint(closed_port().await, &east)]));
    second.offers(service(REVIEWS, "*", vec![workload.endpoint(&north)]));
    // Nearly always the one that fails is drawn first.
    source.offers(imported(REVIEWS, &[(&first.cluster, 1000), (&second.cluster, 1)]));
    for _ in 0..5 {
        assert_eq!(source.ask(&hello(SNI)).await, Ok(b'n'));
    }
}

#[tokio::test]
async fn without_a_tunnel_a_connection_is_refused_at_once() {
    let (west, east, root) = two().await;
    let workload = Workload::start(b'a').await;
    east.offers(service(REVIEWS, "*", vec![workload.endpoint(&root)]));
    west.offers(imported(REVIEWS, &[(&east.cluster, 1)]));
    assert_eq!(west.ask(&hello(SNI)).await, Ok(b'a'));
    east.stop().await;
    eventually("the tunnel's end", || west.gateway.peers().path(&east.cluster.id).connected == 0).await;
    let answer = tokio::time::timeout(Duration::from_secs(2), async { west.ask(&hello(SNI)).await });
    assert_eq!(answer.await.expect("at once"), Err(End::Reset));
    assert!(west.refused("east", "UNREACHABLE", "egress") > 0);
}

#[tokio::test]
async fn beyond_its_limits_a_gateway_refuses() {
    let (west, east) = (Authority::new("west"), Authority::new("east"));
    let few = |connections, streams| isthmus_eastwest::Settings { connections, streams, ..settings() };
    let source = Site::with(&west, &[&east], few(2, 10), None).await;
    let destination = Site::with(&east, &[&west], few(10, 1), None).await;
    source.joins(&destination).await;
    let workload = Workload::start(b'a').await;
    destination.offers(service(REVIEWS, "*", vec![workload.endpoint(&east)]));
    source.offers(imported(REVIEWS, &[(&destination.cluster, 1)]));
    let mut carried = source.dial(&hello(SNI)).await;
    assert_eq!(name(&mut carried).await, Ok(b'a'));
    assert_eq!(source.ask(&hello(SNI)).await, Err(End::Reset), "one stream too many");
    assert!(destination.refused("west", "OVERLOADED", "ingress") > 0);
    let _silent = source.dial(b"").await;
    assert_eq!(source.ask(b"").await, Err(End::Reset), "one connection too many");
    assert_eq!(source.refused("", "OVERLOADED", "egress"), 1);
    drop(carried);
    let free = async { while source.ask(&hello(SNI)).await != Ok(b'a') {} };
    in_time("a free place", free).await;
}

#[tokio::test]
async fn a_gateway_that_leaves_sends_new_streams_elsewhere() {
    let (west, east) = (Authority::new("west"), Authority::new("east"));
    let source = Site::start(&west, &[&east]).await;
    let long = || isthmus_eastwest::Settings { drain_ms: 20_000, ..settings() };
    let leaving = Site::with(&east, &[&west], long(), None).await;
    source.joins(&leaving).await;
    let workloads = [Workload::start(b'l').await, Workload::start(b's').await];
    leaving.offers(service(REVIEWS, "*", vec![workloads[0].endpoint(&east)]));
    source.offers(imported(REVIEWS, &[(&leaving.cluster, 1)]));
    let mut open = source.dial(&hello(SNI)).await;
    assert_eq!(name(&mut open).await, Ok(b'l'));
    let staying = Site::start(&east, &[&west]).await;
    staying.offers(service(REVIEWS, "*", vec![workloads[1].endpoint(&east)]));
    source.learns_of(&leaving.cluster, &[leaving.gateway.tunnel(), staying.gateway.tunnel()]);
    eventually("both tunnels", || source.gateway.peers().path(&leaving.cluster.id).connected == 2).await;
    leaving.shutdown.cancel();
    for _ in 0..6 {
        assert_eq!(source.ask(&hello(SNI)).await, Ok(b's'));
    }
    assert!(leaving.refused("west", "DRAINING", "ingress") > 0);
    drop(open);
    in_time("the end", leaving.gateway.finished()).await;
}
