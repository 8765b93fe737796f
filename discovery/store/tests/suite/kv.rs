//! Range, Put, DeleteRange, Compact.

use super::{put, refused, revision, value};
use etcd_client::{
    Client, CompactionOptions, DeleteOptions, GetOptions, GetResponse, PutOptions, SortOrder, SortTarget,
};
use tonic::Code;

fn keys(response: &GetResponse) -> Vec<&str> {
    response.kvs().iter().map(|kv| kv.key_str().expect("text")).collect()
}

pub(crate) async fn revisions_and_versions_grow(mut client: Client) {
    let first = put(&client, "a", "1").await;
    let second = put(&client, "a", "2").await;
    assert_eq!(second, first + 1);
    let got = client.get("a", None).await.expect("a get");
    let kv = &got.kvs()[0];
    assert_eq!((kv.create_revision(), kv.mod_revision(), kv.version()), (first, second, 2));
    assert_eq!((kv.value_str().expect("text"), kv.lease(), got.count(), got.more()), ("2", 0, 1, false));
    assert_eq!(revision(got.header()), second);
    client.delete("a", None).await.expect("a delete");
    let again = put(&client, "a", "3").await;
    let got = client.get("a", None).await.expect("a get");
    assert_eq!((got.kvs()[0].create_revision(), got.kvs()[0].version()), (again, 1));
    let none = client.get("b", None).await.expect("a get");
    assert_eq!((none.count(), none.kvs().len()), (0, 0));
}

pub(crate) async fn a_put_tells_what_was_there(mut client: Client) {
    let options = || Some(PutOptions::new().with_prev_key());
    assert!(client.put("a", "1", options()).await.expect("a put").prev_key().is_none());
    let response = client.put("a", "2", options()).await.expect("a put");
    let previous = response.prev_key().expect("what was there");
    assert_eq!((previous.value_str().expect("text"), previous.version()), ("1", 1));
    client.put("a", "", Some(PutOptions::new().with_ignore_value())).await.expect("a put");
    assert_eq!(value(&client, "a").await.as_deref(), Some("2"));
}

pub(crate) async fn what_a_put_must_not_ask_is_refused(mut client: Client) {
    let before = put(&client, "a", "1").await;
    refused(client.put("", "x", None).await, Code::InvalidArgument, "etcdserver: key is not provided");
    let ignore = || Some(PutOptions::new().with_ignore_value());
    refused(client.put("a", "x", ignore()).await, Code::InvalidArgument, "etcdserver: value is provided");
    refused(client.put("none", "", ignore()).await, Code::InvalidArgument, "etcdserver: key not found");
    let ignore = Some(PutOptions::new().with_ignore_lease().with_lease(7));
    refused(client.put("a", "x", ignore).await, Code::InvalidArgument, "etcdserver: lease is provided");
    let unknown = Some(PutOptions::new().with_lease(7));
    refused(client.put("a", "x", unknown).await, Code::NotFound, "etcdserver: requested lease not found");
    refused(client.get("", None).await, Code::InvalidArgument, "etcdserver: key is not provided");
    refused(client.delete("", None).await, Code::InvalidArgument, "etcdserver: key is not provided");
    assert_eq!(put(&client, "a", "2").await, before + 1);
}

pub(crate) async fn ranges_are_limited_sorted_and_filtered(mut client: Client) {
    for key in ["p/c", "p/a", "p/b", "p0", "o/z"] {
        put(&client, key, key).await;
    }
    let last = put(&client, "p/a", "again").await;
    let prefix = || GetOptions::new().with_prefix();
    let all = client.get("p/", Some(prefix())).await.expect("a get");
    assert_eq!((keys(&all), all.count(), all.more()), (vec!["p/a", "p/b", "p/c"], 3, false));
    let some = client.get("p/", Some(prefix().with_limit(2))).await.expect("a get");
    assert_eq!((keys(&some), some.count(), some.more()), (vec!["p/a", "p/b"], 3, true));
    let exact = client.get("p/", Some(prefix().with_limit(3))).await.expect("a get");
    assert!(!exact.more());
    let newest = prefix().with_sort(SortTarget::Mod, SortOrder::Descend).with_limit(2);
    let newest = client.get("p/", Some(newest)).await.expect("a get");
    assert_eq!((keys(&newest), newest.more()), (vec!["p/a", "p/b"], true));
    let backwards = prefix().with_sort(SortTarget::Key, SortOrder::Descend);
    assert_eq!(keys(&client.get("p/", Some(backwards)).await.expect("a get")), ["p/c", "p/b", "p/a"]);
    let changed = client.get("p/", Some(prefix().with_min_mod_revision(last))).await.expect("a get");
    assert_eq!((keys(&changed), changed.count()), (vec!["p/a"], 3));
    let names = client.get("p/", Some(prefix().with_keys_only())).await.expect("a get");
    assert!(names.kvs().iter().all(|kv| kv.value().is_empty()));
    let count = client.get("p/", Some(prefix().with_count_only())).await.expect("a get");
    assert_eq!((count.count(), count.kvs().len()), (3, 0));
    let from = client.get("p/b", Some(GetOptions::new().with_from_key())).await.expect("a get");
    assert_eq!(keys(&from), ["p/b", "p/c", "p0"]);
    let backwards = client.get("p/c", Some(GetOptions::new().with_range("p/a"))).await.expect("a get");
    assert_eq!(backwards.count(), 0);
    let everything = client.get("", Some(GetOptions::new().with_all_keys())).await.expect("a get");
    assert_eq!(everything.count(), 5);
}

pub(crate) async fn the_past_can_be_read_until_it_is_compacted(mut client: Client) {
    let first = put(&client, "a", "1").await;
    let second = put(&client, "a", "2").await;
    client.delete("a", None).await.expect("a delete");
    put(&client, "b", "1").await;
    let last = put(&client, "a", "3").await;
    let at = |revision| Some(GetOptions::new().with_revision(revision));
    for (revision, expected) in [(first, Some("1")), (second, Some("2")), (second + 1, None), (last, Some("3"))] {
        let got = client.get("a", at(revision)).await.expect("a get");
        let found = got.kvs().first().map(|kv| kv.value_str().expect("text").to_owned());
        assert_eq!((found.as_deref(), got.count()), (expected, i64::from(expected.is_some())), "at {revision}");
        assert_eq!(super::revision(got.header()), last);
    }
    let future = "etcdserver: mvcc: required revision is a future revision";
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    refused(client.get("a", at(last + 1)).await, Code::OutOfRange, future);
    refused(client.compact(last + 1, None).await, Code::OutOfRange, future);
    client.compact(second + 1, Some(CompactionOptions::new().with_physical())).await.expect("a compaction");
    refused(client.get("a", at(second)).await, Code::OutOfRange, compacted);
    refused(client.compact(second + 1, None).await, Code::OutOfRange, compacted);
    refused(client.compact(first, None).await, Code::OutOfRange, compacted);
    assert_eq!(client.get("a", at(second + 1)).await.expect("a get").count(), 0);
    assert_eq!(client.get("a", at(last)).await.expect("a get").count(), 1);
    client.compact(last, Some(CompactionOptions::new().with_physical())).await.expect("a compaction");
    assert_eq!(value(&client, "a").await.as_deref(), Some("3"));
    assert_eq!(value(&client, "b").await.as_deref(), Some("1"));
}

pub(crate) async fn deletes_share_one_revision(mut client: Client) {
    for key in ["d/a", "d/b", "e"] {
        put(&client, key, key).await;
    }
    let before = put(&client, "d/c", "d/c").await;
    let options = DeleteOptions::new().with_prefix().with_prev_key();
    let deleted = client.delete("d/", Some(options)).await.expect("a delete");
    assert_eq!((deleted.deleted(), deleted.prev_kvs().len()), (3, 3));
    assert_eq!(revision(deleted.header()), before + 1);
    let nothing = client.delete("d/a", None).await.expect("a delete");
    assert_eq!((nothing.deleted(), revision(nothing.header())), (0, before + 1));
    assert_eq!(value(&client, "e").await.as_deref(), Some("e"));
}

pub(crate) async fn a_large_request_is_refused(mut client: Client) {
    let before = put(&client, "a", "1").await;
    let large = vec![b'x'; 7 << 18];
    refused(client.put("a", large, None).await, Code::InvalidArgument, "etcdserver: request is too large");
    client.put("a", vec![b'x'; 1 << 20], None).await.expect("a megabyte");
    let got = client.get("a", None).await.expect("a get");
    assert_eq!((got.kvs()[0].value().len(), got.kvs()[0].mod_revision()), (1 << 20, before + 1));
}

pub(crate) async fn status_is_told(mut client: Client) {
    let revision = put(&client, "a", "1").await;
    let status = client.status().await.expect("a status");
    assert!(!status.version().is_empty());
    assert!(status.db_size() > 0);
    assert_ne!(status.leader(), 0);
    assert_eq!(super::revision(status.header()), revision);
    let alarms = client.alarm(etcd_client::AlarmAction::Get, etcd_client::AlarmType::None, None).await;
    assert!(alarms.expect("alarms").alarms().is_empty());
}
