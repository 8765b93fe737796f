//! A path that goes dead without a word: found out within a second or so, and left.

mod support;

use isthmus_tunnel::{OpenError, Settings};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::authority::Authority;
use support::{End, Node, connected, drain, eventually, guarded, header, in_time, loopback};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Passes datagrams on between one gateway and another, as long as it is told to.
struct Relay {
    address: SocketAddr,
    dead: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

// === impl Relay ===

impl Relay {
    async fn start(towards: SocketAddr) -> Self {
        let near = UdpSocket::bind(loopback()).await.expect("a port");
        let far = UdpSocket::bind(loopback()).await.expect("a port");
        far.connect(towards).await.expect("an address");
        let address = near.local_addr().expect("bound");
        let dead = Arc::new(AtomicBool::new(false));
        let broken = dead.clone();
        let task = tokio::spawn(async move {
            let (mut asking, mut coming, mut going) = (None, vec![0; 65_536], vec![0; 65_536]);
            loop {
                // An error is of a datagram that was refused, and is lost as others are.
                tokio::select! {
                    Ok((length, from)) = near.recv_from(&mut going) => {
                        asking = Some(from);
                        if !broken.load(Ordering::Relaxed) {
                            let _ = far.send(&going[..length]).await;
                        }
                    }
                    Ok(length) = far.recv(&mut coming) => if let Some(to) = asking && !broken.load(Ordering::Relaxed) {
                        let _ = near.send_to(&coming[..length], to).await;
                    },
                    else => return,
                }
            }
        });
        Self { address, dead, task }
    }

    fn dies(&self, dead: bool) {
        self.dead.store(dead, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_path_is_left_long_before_the_idle_timeout() {
    let (west, east) = (Authority::new("west"), Authority::new("east"));
    let dialler = Node::with(&west, &[&east], Settings { idle_ms: 60_000, ..Settings::default() });
    let (mut first, mut second) = (Node::start(&east, &[&west]), Node::start(&east, &[&west]));
    let relay = Relay::start(first.quic.local_addr().expect("bound")).await;
    let via = |address: &dyn ToString| vec![address.to_string()];
    let one = BTreeMap::from([(Arc::from("a"), via(&relay.address))]);
    let both = BTreeMap::from([(Arc::from("a"), via(&relay.address)), (Arc::from("b"), vec![second.address()])]);
    dialler.peers.set_gateways(&east.cluster, &one);
    connected(&dialler.peers, &east.cluster, 1).await;
    let opened = dialler.peers.open(&east.cluster, &header(), b"").await.expect("a stream");
    let arrived = first.arrival().await.stream;
    let ((mut client, inner), (_server, outer)) = (guarded().await, guarded().await);
    let (carried, answered) = (tokio::spawn(support::copy(opened, inner)), tokio::spawn(support::copy(arrived, outer)));
    dialler.peers.set_gateways(&east.cluster, &both);
    connected(&dialler.peers, &east.cluster, 2).await;

    let died = Instant::now();
    relay.dies(true);
    connected(&dialler.peers, &east.cluster, 1).await;
    for _ in 0..4 {
        let _stream = dialler.peers.open(&east.cluster, &header(), b"").await.expect("a stream");
        second.arrival().await;
    }
    // What was open over the dead path is reset, at both ends.
    assert_eq!(drain(&mut client).await.1, End::Reset);
    assert!(in_time("west's end", carried).await.expect("no panic").is_err());
    assert!(in_time("east's end", answered).await.expect("no panic").is_err());
    assert!(died.elapsed() < Duration::from_secs(8), "{:?}", died.elapsed());

    second.stop().await;
    connected(&dialler.peers, &east.cluster, 0).await;
    let opened = dialler.peers.open(&east.cluster, &header(), b"").await;
    assert!(matches!(opened, Err(OpenError::Unreachable(_))), "{opened:?}");
    relay.dies(false);
    eventually("the tunnel's return", || dialler.peers.path(&east.cluster).connected == 1).await;
    let _stream = dialler.peers.open(&east.cluster, &header(), b"").await.expect("a stream");
    first.arrival().await;
}
