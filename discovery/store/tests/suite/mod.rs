//! What Isthmus expects of a store, whoever serves it. Every case runs against the embedded server and against etcd.

mod kv;
mod lease;
mod target;
mod txn;
mod watch;

pub(crate) use kv::*;
pub(crate) use lease::*;
pub(crate) use target::*;
pub(crate) use txn::*;
pub(crate) use watch::*;

use etcd_client::{Client, Error, ResponseHeader};
use std::time::Duration;

/// How long anything in a test may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Defines one test a case: `cases!(start: one, two)`.
#[macro_export]
macro_rules! cases {
    ($start:path: $($case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let target = $start().await;
                let client = target.client().await;
                tokio::time::timeout(3 * suite::PATIENCE, suite::$case(client)).await.expect("in time");
                target.stop().await;
            }
        )*
    };
}

/// All cases, against what `$start` starts.
#[macro_export]
macro_rules! conformance {
    ($start:path) => {
        $crate::cases!($start:
            revisions_and_versions_grow,
            a_put_tells_what_was_there,
            what_a_put_must_not_ask_is_refused,
            ranges_are_limited_sorted_and_filtered,
            the_past_can_be_read_until_it_is_compacted,
            deletes_share_one_revision,
            a_large_request_is_refused,
            a_transaction_takes_one_branch,
            every_comparison_holds_as_in_etcd,
            a_transaction_sees_its_own_writes,
            a_refused_transaction_changes_nothing,
            a_watch_tells_the_past_then_the_present,
            a_watch_filters_and_remembers,
            watches_share_a_stream,
            a_watch_from_the_future_waits,
            a_compacted_watch_is_cancelled,
            a_watch_tells_how_far_it_is,
            a_revoked_lease_takes_its_keys,
            a_lease_ends_unless_it_is_kept_alive,
            a_key_leaves_its_lease,
            wrong_leases_are_refused,
            status_is_told,
        );
    };
}

/// The revision of an answer.
pub(crate) fn revision(header: Option<&ResponseHeader>) -> i64 {
    header.expect("a header").revision()
}

/// Asserts that the store refused with etcd's code and words.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>, code: tonic::Code, words: &str) {
    match outcome {
        Err(Error::GRpcStatus(status)) => assert_eq!((status.code(), status.message()), (code, words)),
        other => panic!("{words:?} was expected, not {other:?}"),
    }
}

/// Puts without ceremony; the revision.
pub(crate) async fn put(client: &Client, key: &str, value: &str) -> i64 {
    let response = client.kv_client().put(key, value, None).await.expect("a put");
    revision(response.header())
}

/// The value of a key.
pub(crate) async fn value(client: &Client, key: &str) -> Option<String> {
    let response = client.kv_client().get(key, None).await.expect("a get");
    response.kvs().first().map(|kv| kv.value_str().expect("text").to_owned())
}
