//! Gateways on loopback, and TCP connections carried between them.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

pub mod authority;

use authority::Authority;
use isthmus_tunnel::{
    Arrival, CopyError, GuardedTcp, Incoming, Metrics, Misfit, PeerSet, QuicEndpoint, Settings, StreamHeader,
    StreamLabels, StreamMetrics, TunnelStream, accept,
};
use model::{ClusterId, WorkloadIdentity};
use std::collections::BTreeMap;
use std::future::Future;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway: what it dials and what it accepts.
pub struct Node {
    pub quic: QuicEndpoint,
    pub peers: PeerSet,
    pub incoming: Incoming,
    pub shutdown: CancellationToken,
}

/// West's gateway with a tunnel to east's.
pub struct Pair {
    pub west: Node,
    pub east: Node,
    east_cluster: ClusterId,
}

/// A TCP connection of a client in west, carried to a server in east.
pub struct Carried {
    pub client: TcpStream,
    pub server: TcpStream,
    pub west: JoinHandle<Result<(), CopyError>>,
    pub east: JoinHandle<Result<(), CopyError>>,
}

/// How a TCP connection's reading ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

// === impl Node ===

impl Node {
    /// A gateway of `own` that trusts, dials and lets in `peers`.
    pub fn start(own: &Authority, peers: &[&Authority]) -> Self {
        Self::with(own, peers, Settings { header_ms: 300, ..Settings::default() })
    }

    pub fn with(own: &Authority, peers: &[&Authority], settings: Settings) -> Self {
        let identity = own.identity(&own.gateway(), peers);
        let known: BTreeMap<ClusterId, WorkloadIdentity> =
            peers.iter().map(|peer| (peer.cluster.clone(), peer.gateway())).collect();
        let quic = QuicEndpoint::bind(loopback(), identity, known.values().cloned().collect(), settings);
        let (quic, shutdown) = (quic.expect("a port"), CancellationToken::new());
        let dialled = PeerSet::new(quic.clone(), &known, Metrics::default(), shutdown.clone()).expect("TLS");
        let incoming = accept(quic.clone(), &known, shutdown.clone());
        Self { quic, peers: dialled, incoming, shutdown }
    }

    pub fn address(&self) -> String {
        self.quic.local_addr().expect("bound").to_string()
    }

    pub async fn arrival(&mut self) -> Arrival {
        self.next().await.expect("a stream that is let in")
    }

    pub async fn misfit(&mut self) -> Misfit {
        self.next().await.expect_err("a stream that is refused")
    }

    /// Ends it as a gateway does.
    pub async fn stop(&self) {
        self.shutdown.cancel();
        in_time("the goodbye", self.quic.close()).await;
    }

    async fn next(&mut self) -> Result<Arrival, Misfit> {
        in_time("a stream", self.incoming.recv()).await.expect("still accepting")
    }
}

// === impl Pair ===

impl Pair {
    pub async fn start() -> Self {
        Self::with(Settings { header_ms: 300, ..Settings::default() }).await
    }

    pub async fn with(settings: Settings) -> Self {
        let (west, east) = (Authority::new("west"), Authority::new("east"));
        let pair = Self {
            west: Node::with(&west, &[&east], settings.clone()),
            east: Node::with(&east, &[&west], settings),
            east_cluster: east.cluster.clone(),
        };
        pair.west.peers.set_gateways(&east.cluster, &gateways(&[("a", &pair.east)]));
        connected(&pair.west.peers, &east.cluster, 1).await;
        pair
    }

    /// A stream from west: its two ends.
    pub async fn stream(&mut self, payload: &[u8]) -> (TunnelStream, TunnelStream) {
        let opened = self.west.peers.open(&self.east_cluster, &header(), payload).await.expect("a stream");
        (opened, self.east.arrival().await.stream)
    }

    /// A TCP connection over a new stream, copied by two tasks.
    pub async fn carry(&mut self) -> Carried {
        let (opened, arrived) = self.stream(b"").await;
        let ((client, inner), (server, outer)) = (guarded().await, guarded().await);
        let (west, east) = (tokio::spawn(copy(opened, inner)), tokio::spawn(copy(arrived, outer)));
        Carried { client, server, west, east }
    }

    pub fn east(&self) -> &ClusterId {
        &self.east_cluster
    }
}

/// A header of west, to a service in east.
pub fn header() -> StreamHeader {
    StreamHeader {
        source: "west".parse().expect("valid"),
        host: "reviews.bookinfo.svc.cluster.local".parse().expect("valid"),
        port: 9080,
        group: None,
        hops: 0,
        visited: vec!["west".parse().expect("valid")],
    }
}

pub async fn copy(stream: TunnelStream, tcp: GuardedTcp) -> Result<(), CopyError> {
    stream.copy(tcp, &metrics()).await
}

pub fn metrics() -> StreamMetrics {
    let labels = StreamLabels { peer: "east".to_owned(), service: "reviews".to_owned(), direction: "egress" };
    Metrics::default().stream(&labels)
}

pub fn gateways(nodes: &[(&str, &Node)]) -> BTreeMap<Arc<str>, Vec<String>> {
    nodes.iter().map(|(name, node)| (Arc::from(*name), vec![node.address()])).collect()
}

pub fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Both ends of a TCP connection.
pub async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(loopback()).await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (connected.expect("connected"), accepted.expect("accepted").0)
}

/// An application's end of a TCP connection, and the end that a gateway has.
pub async fn guarded() -> (TcpStream, GuardedTcp) {
    let (outer, inner) = tcp().await;
    (outer, GuardedTcp::new(inner))
}

/// Until `wanted` tunnels to `peer` are up.
pub async fn connected(peers: &PeerSet, peer: &ClusterId, wanted: usize) {
    eventually("the tunnels' state", || peers.path(peer).connected == wanted).await;
}

/// Reads to the end: the bytes, and whether it was an end in order.
pub async fn drain(stream: &mut TcpStream) -> (Vec<u8>, End) {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        match in_time("an end", stream.read(&mut buffer)).await {
            Ok(0) => return (bytes, End::Fin),
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
            Err(error) => {
                let resets = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::ConnectionAborted];
                assert!(resets.contains(&error.kind()), "{error}");
                return (bytes, End::Reset);
            }
        }
    }
}

/// Ends it with a RST.
pub fn reset(stream: TcpStream) {
    stream.set_zero_linger().expect("an open socket");
    drop(stream);
}

/// Writes all of `bytes`, and returns what was read back meanwhile once that is as long as `expected`.
pub async fn exchange(stream: &mut TcpStream, bytes: &[u8], expected: usize) -> Vec<u8> {
    let (mut reader, mut writer) = stream.split();
    let mut read = vec![0; expected];
    let both = async { tokio::try_join!(writer.write_all(bytes), reader.read_exact(&mut read)) };
    in_time("an exchange", both).await.expect("carried");
    read
}

/// `length` bytes that do not repeat soon.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(step).take(length).collect()
}

pub async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not come in time"))
}

/// Polls until `done`, for a while.
pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !done() {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
