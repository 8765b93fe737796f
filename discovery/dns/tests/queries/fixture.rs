//! A server, a fake upstream, and ways to ask.

use arc_swap::ArcSwap;
use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, MX, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use isthmus_dns::{Entry, Metrics, Server, Settings, Zone};
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A running server.
pub(crate) struct Fixture {
    pub(crate) address: SocketAddr,
    pub(crate) zone: Arc<ArcSwap<Zone>>,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

/// A resolver that knows `example.org`, counts what it is asked, and calls everything else NXDOMAIN.
pub(crate) struct FakeUpstream {
    pub(crate) address: SocketAddr,
    pub(crate) asked: Arc<AtomicUsize>,
}

pub(crate) fn entry(host: &str, addresses: &[&str], kubernetes: Option<(&str, &str)>) -> Entry {
    Entry {
        host: host.parse().expect("valid"),
        addresses: addresses.iter().map(|address| address.parse().expect("valid")).collect(),
        shortname: kubernetes.map(|(name, _)| name.into()),
        namespace: kubernetes.map(|(_, namespace)| namespace.parse().expect("valid")),
    }
}

pub(crate) fn zone(entries: Vec<Entry>) -> Zone {
    Zone::new(entries, &"bookinfo".parse().expect("valid"), "cluster.local")
}

/// A socket that takes packets and never answers.
pub(crate) async fn dead() -> (SocketAddr, UdpSocket) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    (socket.local_addr().expect("bound"), socket)
}

impl Fixture {
    pub(crate) async fn start(zone: Zone, upstream: SocketAddr) -> Self {
        Self::with(zone, Settings { upstreams: Some(vec![upstream]), ..Settings::default() }).await
    }

    pub(crate) async fn with(zone: Zone, settings: Settings) -> Self {
        let settings = Settings { listen: vec!["127.0.0.1:0".parse().expect("valid")], ..settings };
        let (zone, metrics) = (Arc::new(ArcSwap::from_pointee(zone)), Metrics::default());
        let server = Server::bind(settings, zone.clone(), metrics.clone()).await.expect("bound");
        let (address, shutdown) = (server.addresses()[0], CancellationToken::new());
        let task = tokio::spawn(server.run(shutdown.clone()));
        Self { address, zone, metrics, shutdown, task }
    }

    pub(crate) async fn udp(&self, name: &str, of: RecordType) -> Message {
        self.ask_udp(&query(name, of)).await
    }

    pub(crate) async fn ask_udp(&self, query: &Message) -> Message {
        let answer = self.raw_udp(&query.to_vec().expect("encodable")).await.expect("an answer");
        let message = Message::from_vec(&answer).expect("a message");
        assert_eq!(message.metadata.id, query.metadata.id);
        message
    }

    /// Sends a packet; `None` when the server has nothing to say to it.
    pub(crate) async fn raw_udp(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
        socket.send_to(packet, self.address).await.expect("sent");
        // A second, good query behind it: when that is answered, nothing more comes about the first.
        socket.send_to(&sentinel(), self.address).await.expect("sent");
        let mut buffer = vec![0; 65_536];
        loop {
            let received = timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await;
            let length = received.expect("the server is alive").expect("received");
            if buffer[..2] != SENTINEL.to_be_bytes() {
                return Some(buffer[..length].to_vec());
            }
            if packet.len() < 12 || !waits_for_upstream(packet) {
                return None;
            }
        }
    }

    pub(crate) async fn tcp(&self, name: &str, of: RecordType) -> Message {
        let mut stream = self.connect().await;
        ask_tcp(&mut stream, &query(name, of)).await
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        timeout(Duration::from_secs(10), self.task).await.expect("it ends").expect("without panic");
    }
}

const SENTINEL: u16 = 0xffff;

/// A query that is answered at once, whatever the zone: it is refused.
fn sentinel() -> Vec<u8> {
    let mut message = query("sentinel.", RecordType::ANY);
    message.metadata.id = SENTINEL;
    message.to_vec().expect("encodable")
}

/// Whether the answer to a packet may come after the sentinel's.
fn waits_for_upstream(packet: &[u8]) -> bool {
    Message::from_vec(packet).is_ok_and(|message| {
        message.metadata.message_type == hickory_proto::op::MessageType::Query && message.queries.len() == 1
    })
}

pub(crate) async fn ask_tcp(stream: &mut TcpStream, query: &Message) -> Message {
    let bytes = query.to_vec().expect("encodable");
    stream.write_u16(bytes.len() as u16).await.expect("written");
    stream.write_all(&bytes).await.expect("written");
    let length = stream.read_u16().await.expect("an answer");
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await.expect("an answer");
    Message::from_vec(&answer).expect("a message")
}

pub(crate) fn query(name: &str, of: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.id = 7;
    message.metadata.op_code = OpCode::Query;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("valid"), of));
    message
}

pub(crate) fn with_edns(mut query: Message, payload: u16, version: u8) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload).set_version(version);
    query.set_edns(edns);
    query
}

/// The addresses in an answer, in order.
pub(crate) fn addresses(message: &Message) -> Vec<String> {
    let text = |record: &Record| match &record.data {
        RData::A(a) => Some(a.0.to_string()),
        RData::AAAA(aaaa) => Some(aaaa.0.to_string()),
        _ => None,
    };
    message.answers.iter().filter_map(text).collect()
}

impl FakeUpstream {
    pub(crate) async fn start() -> Self {
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
        let address = udp.local_addr().expect("bound");
        let tcp = TcpListener::bind(address).await.expect("the same port");
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok((length, peer)) = udp.recv_from(&mut buffer).await {
                count.fetch_add(1, Ordering::Relaxed);
                let request = Message::from_vec(&buffer[..length]).expect("our server asks well");
                let mut forged = answer(&request, true);
                forged.metadata.id ^= 1;
                forged.answers = vec![address_record(&request, Ipv4Addr::new(6, 6, 6, 6))];
                for response in [forged, answer(&request, true)] {
                    udp.send_to(&response.to_vec().expect("encodable"), peer).await.expect("sent");
                }
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let length = stream.read_u16().await.expect("a query");
                let mut buffer = vec![0; length.into()];
                stream.read_exact(&mut buffer).await.expect("a query");
                let response =
                    answer(&Message::from_vec(&buffer).expect("a query"), false).to_vec().expect("encodable");
                stream.write_u16(response.len() as u16).await.expect("written");
                stream.write_all(&response).await.expect("written");
            }
        });
        Self { address, asked }
    }
}

fn address_record(request: &Message, address: Ipv4Addr) -> Record {
    Record::from_rdata(request.queries[0].name().clone(), 300, RData::A(A(address)))
}

fn answer(request: &Message, udp: bool) -> Message {
    let mut response = Message::response(request.metadata.id, OpCode::Query);
    response.metadata.recursion_available = true;
    response.queries.clone_from(&request.queries);
    let query = &request.queries[0];
    let name = query.name().to_ascii().to_ascii_lowercase();
    match (name.as_str(), query.query_type()) {
        ("example.org.", RecordType::A) => response.answers.push(address_record(request, [93, 184, 216, 34].into())),
        ("large.example.org.", RecordType::A) if udp => response.metadata.truncation = true,
        ("large.example.org.", RecordType::A) => {
            response.answers.extend((0..200).map(|n| address_record(request, [10, 9, 0, n].into())));
        }
        (_, RecordType::MX) => {
            let mx = MX::new(10, Name::from_str("mail.example.org.").expect("valid"));
            response.answers.push(Record::from_rdata(query.name().clone(), 300, RData::MX(mx)));
        }
        ("example.org.", _) => response.authorities.push(soa()),
        _ => {
            response.metadata.response_code = ResponseCode::NXDomain;
            response.authorities.push(soa());
        }
    }
    response
}

fn soa() -> Record {
    let name = |text| Name::from_str(text).expect("valid");
    let soa = SOA::new(name("ns.example.org."), name("admin.example.org."), 1, 60, 60, 60, 60);
    Record::from_rdata(name("example.org."), 60, RData::SOA(soa))
}
