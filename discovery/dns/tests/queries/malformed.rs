//! Packets and connections that nobody should send (and somebody will).

use crate::fixture::{Fixture, addresses, ask_tcp, dead, entry, query, with_edns, zone};
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use isthmus_dns::{Settings, Zone};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn fixture() -> Fixture {
    Fixture::start(zone(vec![entry("a.example.com", &["10.0.0.1"], None)]), dead().await.0).await
}

/// A header with these counts, and what follows it.
fn packet(counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
    let mut packet = vec![0, 7, 1, 0];
    packet.extend(counts.into_iter().flat_map(u16::to_be_bytes));
    packet.extend(rest);
    packet
}

#[tokio::test]
async fn malformed_packets_are_format_errors() {
    let fixture = fixture().await;
    let good = b"\x01a\x00\x00\x01\x00\x01";
    let long_label = [&[64u8][..], &[b'x'; 64], &[0, 0, 1, 0, 1]].concat();
    let long_name = [[&[63u8][..], &[b'x'; 63]].concat().repeat(4), vec![0, 0, 1, 0, 1]].concat();
    let table: Vec<(&str, Vec<u8>)> = vec![
        ("three bytes", vec![0, 7, 1]),
        ("eleven bytes", packet([1, 0, 0, 0], good)[..11].to_vec()),
        ("no question", packet([0; 4], &[])),
        ("two questions", packet([2, 0, 0, 0], &good.repeat(2))),
        ("65535 questions", packet([65_535, 0, 0, 0], good)),
        ("a question that is missing", packet([1, 0, 0, 0], &[])),
        ("half a question", packet([1, 0, 0, 0], &good[..4])),
        ("a pointer to itself", packet([1, 0, 0, 0], b"\xc0\x0c\x00\x01\x00\x01")),
        ("a pointer ahead", packet([1, 0, 0, 0], b"\xc0\xff\x00\x01\x00\x01")),
        ("two pointers in a circle", packet([1, 0, 0, 0], b"\xc0\x0e\xc0\x0c\x00\x01\x00\x01")),
        ("a label of 64", packet([1, 0, 0, 0], &long_label)),
        ("a name of 257", packet([1, 0, 0, 0], &long_name)),
        ("65535 answers that are missing", packet([1, 65_535, 0, 0], good)),
        ("garbage", packet([1, 1, 1, 1], &[0xff; 500])),
    ];
    for (what, bytes) in table {
        let answer = fixture.raw_udp(&bytes).await.unwrap_or_else(|| panic!("{what}: no answer"));
        let message = Message::from_vec(&answer).expect("a message");
        assert_eq!((message.metadata.id, message.metadata.response_code), (7, ResponseCode::FormErr), "{what}");
        assert_eq!(message.metadata.message_type, MessageType::Response);
    }
    assert_eq!(addresses(&fixture.udp("a.example.com.", RecordType::A).await), ["10.0.0.1"], "it lives");
    fixture.stop().await;
}

#[tokio::test]
async fn what_is_no_query_has_no_answer() {
    let fixture = fixture().await;
    let mut response = query("a.example.com.", RecordType::A);
    response.metadata.message_type = MessageType::Response;
    for bytes in [response.to_vec().expect("encodable"), vec![], vec![0], vec![0, 7], vec![0xff; 3], vec![0xff; 4096]] {
        assert_eq!(fixture.raw_udp(&bytes).await, None, "{} bytes", bytes.len());
    }
    fixture.stop().await;
}

#[tokio::test]
async fn some_queries_are_refused() {
    let fixture = fixture().await;
    let of_type = |of| query("a.example.com.", of);
    let mut chaos = query("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    let operation = |code| {
        let mut message = of_type(RecordType::SOA);
        message.metadata.op_code = code;
        message
    };
    let table = [
        (of_type(RecordType::AXFR), ResponseCode::Refused),
        (of_type(RecordType::IXFR), ResponseCode::Refused),
        (of_type(RecordType::ANY), ResponseCode::Refused),
        (chaos, ResponseCode::Refused),
        (operation(OpCode::Update), ResponseCode::NotImp),
        (operation(OpCode::Notify), ResponseCode::NotImp),
        (operation(OpCode::Status), ResponseCode::NotImp),
        (with_edns(of_type(RecordType::A), 1232, 1), ResponseCode::BADVERS),
    ];
    for (query, code) in table {
        let message = fixture.ask_udp(&query).await;
        // 16 is BADVERS here, and BADSIG elsewhere.
        assert_eq!(u16::from(message.metadata.response_code), u16::from(code), "{query}");
    }
    assert_eq!(fixture.metrics.forwarded.get(), 0);
    fixture.stop().await;
}

#[tokio::test]
async fn odd_names_are_no_danger() {
    let settings = Settings { upstreams: Some(vec![dead().await.0]), timeout_ms: 100, ..Settings::default() };
    let fixture = Fixture::with(Zone::default(), settings).await;
    for name in [&b"\x03a\x00b\x00"[..], b"\x01.\x00", b"\x02\xff\xfe\x00", b"\x01*\x00", b"\x00"] {
        let bytes = packet([1, 0, 0, 0], &[name, b"\x00\x01\x00\x01"].concat());
        let answer = fixture.raw_udp(&bytes).await.expect("an answer");
        assert_eq!(answer[..2], [0, 7]);
        assert_eq!(answer[12..12 + name.len()], *name, "the question comes back as it was");
    }
    fixture.stop().await;
}

#[tokio::test]
async fn bad_connections_are_closed() {
    let settings =
        Settings { upstreams: Some(vec![dead().await.0]), idle_ms: 200, max_connections: 8, ..Settings::default() };
    let entries = vec![entry("a.example.com", &["10.0.0.1"], None)];
    let fixture = Fixture::with(zone(entries), settings).await;
    let response = {
        let mut message = query("a.example.com.", RecordType::A);
        message.metadata.message_type = MessageType::Response;
        let bytes = message.to_vec().expect("encodable");
        [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()
    };
    let stalled = [&[0xff, 0xff][..], &[0; 100]].concat();
    for (what, bytes) in [("nothing", vec![]), ("length 0", vec![0, 0]), ("a stall", stalled), ("a response", response)]
    {
        let mut stream = fixture.connect().await;
        stream.write_all(&bytes).await.expect("written");
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0; 16])).await;
        // A close with unread bytes is a reset.
        assert!(matches!(read.expect("closed in time"), Ok(0) | Err(_)), "{what}");
    }

    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(fixture.connect().await);
    }
    let mut stream = fixture.connect().await;
    let question = query("a.example.com.", RecordType::A);
    let asked = ask_tcp(&mut stream, &question);
    let message = tokio::time::timeout(Duration::from_secs(10), asked).await.expect("its turn comes");
    assert_eq!(addresses(&message), ["10.0.0.1"]);
    for _ in 0..3 {
        ask_tcp(&mut stream, &question).await;
    }
    fixture.stop().await;
}

#[tokio::test]
async fn random_packets_do_no_harm() {
    let settings = Settings { upstreams: Some(vec![dead().await.0]), timeout_ms: 100, ..Settings::default() };
    let fixture = Fixture::with(zone(vec![entry("a.example.com", &["10.0.0.1"], None)]), settings).await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let good = query("a.example.com.", RecordType::A).to_vec().expect("encodable");
    for _ in 0..2000 {
        let mut bytes = good.clone();
        for _ in 0..=random() % 6 {
            let place = random() as usize % bytes.len();
            bytes[place] = random() as u8;
        }
        bytes.truncate(1 + random() as usize % (bytes.len() + 8));
        socket.send_to(&bytes, fixture.address).await.expect("sent");
    }
    assert_eq!(addresses(&fixture.udp("a.example.com.", RecordType::A).await), ["10.0.0.1"]);
    fixture.stop().await;
}
