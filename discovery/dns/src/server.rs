//! The loops: packets and connections in, answers out, everything bounded.

use crate::message::{Decision, Question, Transport, decide};
use crate::upstream::Upstream;
use crate::{DnsError, Metrics, Settings, Zone};
use arc_swap::ArcSwap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A DNS server that is bound, and serves when it is run.
pub struct Server {
    sockets: Vec<(UdpSocket, TcpListener)>,
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
}

/// What all tasks use.
struct Shared {
    settings: Settings,
    zone: Arc<ArcSwap<Zone>>,
    upstream: Upstream,
    metrics: Metrics,
    forwarding: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// No query is longer; the rest of a longer packet is cut off by the kernel, and then it is malformed.
const UDP_BUFFER: usize = 4096;
/// How often a port of the system's choice is tried, until it is free for UDP and TCP.
const BIND_TRIES: usize = 16;

// === impl Server ===

impl Server {
    /// Binds the listeners. Names are looked up in whatever `zone` holds at the moment of the query.
    pub async fn bind(settings: Settings, zone: Arc<ArcSwap<Zone>>, metrics: Metrics) -> Result<Self, DnsError> {
        let mut sockets = Vec::new();
        for address in &settings.listen {
            sockets.push(bind(*address).await.map_err(|source| DnsError::Bind { address: *address, source })?);
        }
        let addresses: Vec<SocketAddr> = sockets.iter().filter_map(|(udp, _)| udp.local_addr().ok()).collect();
        let shared = Arc::new(Shared {
            zone,
            upstream: Upstream::new(&settings, &addresses)?,
            metrics,
            forwarding: Arc::new(Semaphore::new(settings.max_forwarded)),
            connections: Arc::new(Semaphore::new(settings.max_connections.max(1))),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            settings,
        });
        Ok(Self { sockets, addresses, shared })
    }

    /// Where it listens, over UDP and TCP, in the order of [`Settings::listen`].
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until `shutdown`; then what is under way is finished, within the timeouts.
    pub async fn run(self, shutdown: CancellationToken) {
        let shared = self.shared;
        for (udp, tcp) in self.sockets {
            shared.tasks.spawn(shared.clone().serve_udp(Arc::new(udp)));
            shared.tasks.spawn(shared.clone().serve_tcp(tcp));
        }
        shutdown.cancelled().await;
        shared.shutdown.cancel();
        shared.tasks.close();
        shared.tasks.wait().await;
    }
}

async fn bind(address: SocketAddr) -> std::io::Result<(UdpSocket, TcpListener)> {
    let tries = if address.port() == 0 { BIND_TRIES } else { 1 };
    let mut bound = None;
    for _ in 0..tries {
        let udp = UdpSocket::bind(address).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => bound = Some(error),
        }
    }
    Err(bound.expect("at least one try failed"))
}

// === impl Shared ===

impl Shared {
    async fn serve_udp(self: Arc<Self>, socket: Arc<UdpSocket>) {
        let mut buffer = vec![0; UDP_BUFFER];
        loop {
            let received = tokio::select! {
                received = socket.recv_from(&mut buffer) => received,
                () = self.shutdown.cancelled() => return,
            };
            match received {
                Ok((length, peer)) => self.answer_udp(&socket, &buffer[..length], peer).await,
                // An ICMP error about an earlier answer; or the system is short of something, and time may help.
                Err(error) => self.pause("UDP", &error).await,
            }
        }
    }

    async fn answer_udp(self: &Arc<Self>, socket: &Arc<UdpSocket>, packet: &[u8], peer: SocketAddr) {
        match self.decide(packet, Transport::Udp) {
            Decision::Drop => {}
            Decision::Reply(answer) => send(socket, &answer, peer).await,
            Decision::Forward(question) => {
                let Ok(permit) = self.forwarding.clone().try_acquire_owned() else {
                    return send(socket, &self.fail(&question), peer).await;
                };
                let (shared, socket) = (self.clone(), socket.clone());
                self.tasks.spawn(async move {
                    send(&socket, &shared.forward(&question).await, peer).await;
                    drop(permit);
                });
            }
        }
    }

    fn decide(&self, packet: &[u8], transport: Transport) -> Decision {
        self.metrics.requests.inc();
        decide(packet, &self.zone.load(), transport, self.settings.ttl)
    }

    /// Asks the upstream; the caller holds a permit.
    async fn forward(&self, question: &Question) -> Vec<u8> {
        self.metrics.forwarded.inc();
        match self.upstream.ask(question).await {
            Some(answer) => question.answer(answer),
            None => self.fail(question),
        }
    }

    fn fail(&self, question: &Question) -> Vec<u8> {
        self.metrics.failures.inc();
        question.failure()
    }

    async fn serve_tcp(self: Arc<Self>, listener: TcpListener) {
        loop {
            // A permit first: what is more than we serve waits in the kernel's queue.
            let accepted = async {
                let permit = self.connections.clone().acquire_owned().await.expect("never closed");
                (listener.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                accepted = accepted => accepted,
                () = self.shutdown.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let shared = self.clone();
                    self.tasks.spawn(async move {
                        shared.serve_connection(stream).await;
                        drop(permit);
                    });
                }
                Err(error) => self.pause("TCP", &error).await,
            }
        }
    }

    /// Answers the queries of one connection, one after the other, until it is idle for too long.
    async fn serve_connection(&self, mut stream: TcpStream) {
        let mut packet = Vec::new();
        loop {
            let read = tokio::select! {
                read = timeout(self.settings.idle(), read_message(&mut stream, &mut packet)) => read,
                () = self.shutdown.cancelled() => return,
            };
            let Ok(Ok(())) = read else {
                return;
            };
            let answer = match self.decide(&packet, Transport::Tcp) {
                Decision::Drop => return,
                Decision::Reply(answer) => answer,
                Decision::Forward(question) => match self.forwarding.try_acquire() {
                    Ok(_permit) => self.forward(&question).await,
                    Err(_) => self.fail(&question),
                },
            };
            let written = timeout(self.settings.idle(), write_message(&mut stream, answer)).await;
            let Ok(Ok(())) = written else {
                return;
            };
        }
    }

    async fn pause(&self, what: &str, error: &std::io::Error) {
        tracing::debug!(what, %error, "DNS listener");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], peer: SocketAddr) {
    if let Err(error) = socket.send_to(answer, peer).await {
        tracing::debug!(%peer, %error, "a DNS answer could not be sent");
    }
}

/// Reads one message with its length before it (RFC 1035, 4.2.2); the buffer grows only as bytes arrive.
async fn read_message(stream: &mut TcpStream, packet: &mut Vec<u8>) -> std::io::Result<()> {
    let length = u64::from(stream.read_u16().await?);
    packet.clear();
    let read = (&mut *stream).take(length).read_to_end(packet).await?;
    if read as u64 == length { Ok(()) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

async fn write_message(stream: &mut TcpStream, mut answer: Vec<u8>) -> std::io::Result<()> {
    let length = u16::try_from(answer.len()).map_err(|_| std::io::ErrorKind::InvalidData)?;
    answer.splice(..0, length.to_be_bytes());
    stream.write_all(&answer).await
}
