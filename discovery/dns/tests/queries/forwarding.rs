//! Names of the rest of the world.

use crate::fixture::{FakeUpstream, Fixture, addresses, dead, entry, query, zone};
use arc_swap::ArcSwap;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use isthmus_dns::{DnsError, Metrics, Server, Settings, Zone};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[tokio::test]
async fn other_names_are_forwarded_and_cached() {
    let upstream = FakeUpstream::start().await;
    let fixture = Fixture::start(Zone::default(), upstream.address).await;
    for message in [
        fixture.udp("example.org.", RecordType::A).await,
        fixture.tcp("Example.org.", RecordType::A).await,
        fixture.udp("example.org.", RecordType::A).await,
    ] {
        assert_eq!(addresses(&message), ["93.184.216.34"], "and not the forged one");
        assert!(!message.metadata.authoritative);
    }
    assert_eq!(upstream.asked.load(Ordering::Relaxed), 1);
    assert_eq!((fixture.metrics.forwarded.get(), fixture.metrics.failures.get()), (3, 0));
    fixture.stop().await;
}

#[tokio::test]
async fn upstreams_no_is_passed_on() {
    let upstream = FakeUpstream::start().await;
    let fixture = Fixture::start(Zone::default(), upstream.address).await;
    let message = fixture.udp("nobody.example.", RecordType::A).await;
    assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(message.authorities.len(), 1, "the SOA says how long this may be kept");
    let message = fixture.udp("example.org.", RecordType::AAAA).await;
    assert_eq!((message.metadata.response_code, message.answers.len()), (ResponseCode::NoError, 0));
    fixture.stop().await;
}

#[tokio::test]
async fn what_is_not_ours_is_not_answered_here() {
    let upstream = FakeUpstream::start().await;
    let entries = vec![entry("reviews.bookinfo.svc.cluster.local", &["10.0.0.1"], Some(("reviews", "bookinfo")))];
    let fixture = Fixture::start(zone(entries), upstream.address).await;
    for name in ["reviews.bookinfo.svc.cluster.local.evil.com.", "ratings.", "."] {
        let message = fixture.udp(name, RecordType::A).await;
        assert_eq!(message.metadata.response_code, ResponseCode::NXDomain, "{name}");
    }
    let mail = fixture.udp("reviews.bookinfo.svc.cluster.local.", RecordType::MX).await;
    assert_eq!(mail.answers.len(), 1, "other types of a name of ours are the upstream's");
    fixture.zone.store(Arc::default());
    let withdrawn = fixture.udp("reviews.bookinfo.svc.cluster.local.", RecordType::A).await;
    assert_eq!(withdrawn.metadata.response_code, ResponseCode::NXDomain);
    fixture.stop().await;
}

#[tokio::test]
async fn a_large_answer_is_fetched_over_tcp() {
    let upstream = FakeUpstream::start().await;
    let fixture = Fixture::start(Zone::default(), upstream.address).await;
    assert_eq!(fixture.tcp("large.example.org.", RecordType::A).await.answers.len(), 200);
    let cut = fixture.udp("large.example.org.", RecordType::A).await;
    assert!(cut.metadata.truncation && !cut.answers.is_empty());
    fixture.stop().await;
}

#[tokio::test]
async fn a_dead_upstream_is_servfail_in_time() {
    let (address, _socket) = dead().await;
    let fixture = Fixture::start(Zone::default(), address).await;
    let begun = Instant::now();
    let message = fixture.udp("example.org.", RecordType::A).await;
    assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(fixture.metrics.failures.get(), 1);
    fixture.stop().await;
}

#[tokio::test]
async fn more_than_the_limit_fails_at_once() {
    let (address, _socket) = dead().await;
    let settings =
        Settings { upstreams: Some(vec![address]), max_forwarded: 1, timeout_ms: 2000, ..Settings::default() };
    let fixture = Fixture::with(Zone::default(), settings).await;
    let begun = Instant::now();
    let (first, second) = (query("a.example.org.", RecordType::A), query("b.example.org.", RecordType::A));
    let slow = fixture.ask_udp(&first);
    let quick = async {
        while fixture.metrics.forwarded.get() == 0 {
            tokio::task::yield_now().await;
        }
        let message = fixture.ask_udp(&second).await;
        (message.metadata.response_code, begun.elapsed())
    };
    let (_, (code, after)) = tokio::join!(slow, quick);
    assert_eq!(code, ResponseCode::ServFail);
    assert!(after < Duration::from_secs(1), "{after:?}");
    fixture.stop().await;
}

#[tokio::test]
async fn an_upstream_that_is_the_server_itself_is_refused() {
    let (taken, socket) = dead().await;
    drop(socket);
    for upstream in [taken, SocketAddr::new([0, 0, 0, 0].into(), taken.port())] {
        let settings = Settings { listen: vec![taken], upstreams: Some(vec![upstream]), ..Settings::default() };
        let bound = Server::bind(settings, Arc::new(ArcSwap::default()), Metrics::default()).await;
        assert!(matches!(bound, Err(DnsError::Circle { .. })), "{upstream}");
    }
    let everywhere = SocketAddr::new([0, 0, 0, 0].into(), taken.port());
    let settings = Settings { listen: vec![everywhere], upstreams: Some(vec![taken]), ..Settings::default() };
    let bound = Server::bind(settings, Arc::new(ArcSwap::default()), Metrics::default()).await;
    assert!(matches!(bound, Err(DnsError::Circle { .. })));
}
