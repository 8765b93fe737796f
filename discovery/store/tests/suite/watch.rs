//! Watch.

use super::{PATIENCE, put, revision};
use etcd_client::{Client, EventType, WatchFilterType, WatchOptions, WatchResponse, WatchStream};
use std::time::Duration;
use tokio::time::timeout;

async fn next(stream: &mut WatchStream) -> WatchResponse {
    timeout(PATIENCE, stream.message()).await.expect("in time").expect("no error").expect("a response")
}

async fn created(stream: &mut WatchStream) -> i64 {
    let response = next(stream).await;
    assert!(response.created(), "{response:?}");
    response.watch_id()
}

type Seen = (EventType, String, String, i64);

/// The next `count` events, over as many responses as the store likes.
async fn events(stream: &mut WatchStream, count: usize) -> Vec<Seen> {
    let mut seen = Vec::new();
    while seen.len() < count {
        for event in next(stream).await.events() {
            let kv = event.kv().expect("a key");
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
            seen.push((event.event_type(), text(kv.key()), text(kv.value()), kv.mod_revision()));
        }
    }
    seen
}

pub(crate) async fn a_watch_tells_the_past_then_the_present(mut client: Client) {
    let first = put(&client, "w/a", "1").await;
    put(&client, "other", "1").await;
    client.delete("w/a", None).await.expect("a delete");
    let options = WatchOptions::new().with_prefix().with_start_revision(first);
    let mut stream = client.watch("w/", Some(options)).await.expect("a watch");
    created(&mut stream).await;
    put(&client, "w/b", "2").await;
    let txn = etcd_client::Txn::new()
        .and_then([etcd_client::TxnOp::put("w/c", "3", None), etcd_client::TxnOp::put("w/d", "3", None)]);
    client.txn(txn).await.expect("a transaction");
    let expected: Vec<Seen> = [
        (EventType::Put, "w/a", "1", first),
        (EventType::Delete, "w/a", "", first + 2),
        (EventType::Put, "w/b", "2", first + 3),
        (EventType::Put, "w/c", "3", first + 4),
        (EventType::Put, "w/d", "3", first + 4),
    ]
    .map(|(kind, key, value, at)| (kind, key.to_owned(), value.to_owned(), at))
    .to_vec();
    assert_eq!(events(&mut stream, 5).await, expected);
}

pub(crate) async fn a_watch_filters_and_remembers(mut client: Client) {
    let options = WatchOptions::new().with_prev_key().with_filters([WatchFilterType::NoPut]);
    let mut stream = client.watch("f", Some(options)).await.expect("a watch");
    created(&mut stream).await;
    put(&client, "f", "1").await;
    put(&client, "f", "2").await;
    client.delete("f", None).await.expect("a delete");
    let response = next(&mut stream).await;
    let [event] = response.events() else { panic!("one event: {response:?}") };
    assert_eq!(event.event_type(), EventType::Delete);
    assert_eq!(event.prev_kv().expect("what was there").value(), b"2");
}

pub(crate) async fn watches_share_a_stream(mut client: Client) {
    let mut stream = client.watch("s/a", None).await.expect("a watch");
    let first = created(&mut stream).await;
    stream.watch("s/b", None).await.expect("a second watch");
    let second = created(&mut stream).await;
    assert_ne!(first, second);
    put(&client, "s/a", "1").await;
    let response = next(&mut stream).await;
    assert_eq!((response.watch_id(), response.events().len()), (first, 1));
    stream.cancel(first).await.expect("a cancel");
    let cancelled = next(&mut stream).await;
    assert!(cancelled.canceled() && cancelled.watch_id() == first);
    put(&client, "s/a", "2").await;
    put(&client, "s/b", "1").await;
    let response = next(&mut stream).await;
    assert_eq!((response.watch_id(), response.events().len()), (second, 1));
}

pub(crate) async fn a_watch_from_the_future_waits(mut client: Client) {
    let now = put(&client, "k", "0").await;
    let options = WatchOptions::new().with_start_revision(now + 3);
    let mut stream = client.watch("k", Some(options)).await.expect("a watch");
    created(&mut stream).await;
    for value in ["1", "2", "3"] {
        put(&client, "k", value).await;
    }
    assert_eq!(events(&mut stream, 1).await[0].2, "3");
}

pub(crate) async fn a_compacted_watch_is_cancelled(mut client: Client) {
    let first = put(&client, "c", "1").await;
    put(&client, "c", "2").await;
    let third = put(&client, "c", "3").await;
    client.compact(third, None).await.expect("a compaction");
    let from = |revision| Some(WatchOptions::new().with_start_revision(revision));
    let mut late = client.watch("c", from(first)).await.expect("a watch");
    let mut response = next(&mut late).await;
    if !response.canceled() {
        assert!(response.created());
        response = next(&mut late).await;
    }
    assert!(response.canceled(), "{response:?}");
    assert_eq!(response.compact_revision(), third);
    let mut just = client.watch("c", from(third)).await.expect("a watch");
    created(&mut just).await;
    assert_eq!(events(&mut just, 1).await[0].2, "3");
}

pub(crate) async fn a_watch_tells_how_far_it_is(mut client: Client) {
    put(&client, "p", "0").await;
    let mut stream = client.watch("p", None).await.expect("a watch");
    created(&mut stream).await;
    let last = put(&client, "elsewhere", "1").await;
    // etcd answers nobody who is behind, so that it may have to be asked again.
    let mut told = 0;
    while told < last {
        stream.request_progress().await.expect("a request");
        if let Ok(response) = timeout(Duration::from_secs(1), stream.message()).await {
            let response = response.expect("no error").expect("a response");
            assert!(response.events().is_empty());
            told = revision(response.header());
        }
    }
}
