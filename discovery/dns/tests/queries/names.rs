//! Names of the mesh.

use crate::fixture::{Fixture, addresses, ask_tcp, dead, entry, query, with_edns, zone};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use std::time::{Duration, Instant};

const REVIEWS: &str = "reviews.bookinfo.svc.cluster.local";

async fn bookinfo() -> Fixture {
    let entries = vec![
        entry(REVIEWS, &["10.0.0.1", "fd00::1"], Some(("reviews", "bookinfo"))),
        entry("ratings.other.svc.cluster.local", &["10.0.0.2"], Some(("ratings", "other"))),
        entry("*.example.com", &["10.0.0.3"], None),
        entry("api.example.net", &["10.0.0.4"], None),
    ];
    Fixture::start(zone(entries), dead().await.0).await
}

#[tokio::test]
async fn names_of_the_mesh_are_answered_over_udp_and_tcp() {
    let fixture = bookinfo().await;
    let table = [
        ("reviews.bookinfo.svc.cluster.local.", RecordType::A, "10.0.0.1"),
        ("reviews.bookinfo.svc.cluster.local.", RecordType::AAAA, "fd00::1"),
        ("reviews.", RecordType::A, "10.0.0.1"),
        ("reviews.bookinfo.", RecordType::A, "10.0.0.1"),
        ("reviews.bookinfo.svc.", RecordType::A, "10.0.0.1"),
        ("ratings.other.", RecordType::A, "10.0.0.2"),
        ("anything.example.com.", RecordType::A, "10.0.0.3"),
        ("a.b.c.example.com.", RecordType::A, "10.0.0.3"),
        ("api.example.net.bookinfo.svc.cluster.local.", RecordType::A, "10.0.0.4"),
    ];
    for (name, of, wanted) in table {
        for message in [fixture.udp(name, of).await, fixture.tcp(name, of).await] {
            assert_eq!(addresses(&message), [wanted], "{name} {of}");
            assert_eq!(message.metadata.response_code, ResponseCode::NoError);
            assert!(message.metadata.authoritative && message.metadata.recursion_available);
            assert!(message.answers.iter().all(|record| record.ttl <= 5));
        }
    }
    assert_eq!(fixture.metrics.forwarded.get(), 0);
    assert!(fixture.metrics.requests.get() >= 18);
    fixture.stop().await;
}

#[tokio::test]
async fn a_name_without_an_address_of_the_family_exists() {
    let fixture = bookinfo().await;
    for of in [RecordType::AAAA, RecordType::HTTPS, RecordType::SVCB] {
        let message = fixture.udp("ratings.other.", of).await;
        assert_eq!((message.metadata.response_code, message.answers.len()), (ResponseCode::NoError, 0), "{of}");
    }
    fixture.stop().await;
}

#[tokio::test]
async fn an_expanded_name_says_what_it_stands_for() {
    let fixture = bookinfo().await;
    let message = fixture.udp("api.example.net.bookinfo.svc.cluster.local.", RecordType::A).await;
    let RData::CNAME(cname) = &message.answers[0].data else { panic!("a CNAME first") };
    assert_eq!(cname.0.to_ascii(), "api.example.net.");
    assert_eq!(message.answers[1].name.to_ascii(), "api.example.net.");
    fixture.stop().await;
}

#[tokio::test]
async fn the_case_of_the_question_is_kept() {
    let fixture = bookinfo().await;
    let message = fixture.udp("ReViEwS.BookInfo.svc.CLUSTER.local.", RecordType::A).await;
    assert_eq!(message.queries[0].name().to_ascii(), "ReViEwS.BookInfo.svc.CLUSTER.local.");
    assert_eq!(message.answers[0].name.to_ascii(), "ReViEwS.BookInfo.svc.CLUSTER.local.");
    fixture.stop().await;
}

#[tokio::test]
async fn a_new_zone_counts_at_once() {
    let fixture = bookinfo().await;
    fixture.zone.store(std::sync::Arc::new(zone(vec![entry(REVIEWS, &["10.0.0.9"], None)])));
    assert_eq!(addresses(&fixture.udp(&format!("{REVIEWS}."), RecordType::A).await), ["10.0.0.9"]);
    fixture.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_is_cut_and_said_so() {
    let many: Vec<String> = (0..500).map(|n| format!("10.1.{}.{}", n / 250, n % 250)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let fixture = Fixture::start(zone(vec![entry("many.example.com", &many, None)]), dead().await.0).await;
    let plain = query("many.example.com.", RecordType::A);
    for (query, limit) in [
        (plain.clone(), 512),
        (with_edns(plain.clone(), 100, 0), 512),
        (with_edns(plain.clone(), 900, 0), 900),
        (with_edns(plain.clone(), 65_535, 0), 1232),
    ] {
        let bytes = fixture.raw_udp(&query.to_vec().expect("encodable")).await.expect("an answer");
        assert!((limit - 60..=limit).contains(&bytes.len()), "{} of {limit}", bytes.len());
        let message = Message::from_vec(&bytes).expect("a message");
        assert!(message.metadata.truncation && message.answers.len() > 20);
        assert_eq!(message.edns.is_some(), query.edns.is_some());
    }
    let whole = fixture.tcp("many.example.com.", RecordType::A).await;
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 500);
    fixture.stop().await;
}

#[tokio::test]
async fn five_thousand_addresses_cost_little() {
    let many: Vec<String> = (0..5000).map(|n| format!("10.1.{}.{}", n / 250, n % 250)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let fixture = Fixture::start(zone(vec![entry("many.example.com", &many, None)]), dead().await.0).await;
    let mut stream = fixture.connect().await;
    let begun = Instant::now();
    let message = ask_tcp(&mut stream, &query("many.example.com.", RecordType::A)).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(message.metadata.truncation, "{} answers", message.answers.len());
    assert!(message.answers.len() > 2000, "{} answers", message.answers.len());
    fixture.stop().await;
}

#[tokio::test]
async fn clients_that_take_the_first_address_spread() {
    let entries = vec![entry("two.example.com", &["10.0.0.1", "10.0.0.2"], None)];
    let fixture = Fixture::start(zone(entries), dead().await.0).await;
    let mut first = std::collections::BTreeSet::new();
    for id in 0..2 {
        let mut query = query("two.example.com.", RecordType::A);
        query.metadata.id = id;
        first.insert(addresses(&fixture.ask_udp(&query).await)[0].clone());
    }
    assert_eq!(first.len(), 2);
    fixture.stop().await;
}
