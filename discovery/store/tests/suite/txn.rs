//! Txn.

use super::{put, refused, revision, value};
use etcd_client::{Client, Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse};
use tonic::Code;

pub(crate) async fn a_transaction_takes_one_branch(mut client: Client) {
    let create = |value: &str| {
        Txn::new()
            .when([Compare::create_revision("k", CompareOp::Equal, 0)])
            .and_then([TxnOp::put("k", value, None), TxnOp::put("l", value, None)])
            .or_else([TxnOp::get("k", None)])
    };
    let first = client.txn(create("1")).await.expect("a transaction");
    assert!(first.succeeded());
    let at = revision(first.header());
    let got = client.get("", Some(GetOptions::new().with_all_keys())).await.expect("a get");
    let written = got.kvs().iter().filter(|kv| kv.mod_revision() == at).count();
    assert_eq!(written, 2, "both writes have the transaction's revision");
    let second = client.txn(create("2")).await.expect("a transaction");
    assert!(!second.succeeded());
    assert_eq!(revision(second.header()), at, "a read raises no revision");
    let [TxnOpResponse::Get(got)] = &second.op_responses()[..] else { panic!("one get: {second:?}") };
    assert_eq!(got.kvs()[0].value_str().expect("text"), "1");
    let empty = client.txn(Txn::new()).await.expect("a transaction");
    assert!(empty.succeeded());
    assert_eq!(revision(empty.header()), at);
}

pub(crate) async fn every_comparison_holds_as_in_etcd(mut client: Client) {
    let created = put(&client, "k", "m").await;
    let changed = put(&client, "k", "n").await;
    put(&client, "k2", "n").await;
    let lease = client.lease_grant(60, None).await.expect("a lease").id();
    client.put("leased", "x", Some(PutOptions::new().with_lease(lease))).await.expect("a put");
    let cases = [
        (Compare::version("k", CompareOp::Equal, 2), true),
        (Compare::version("k", CompareOp::Greater, 2), false),
        (Compare::version("k", CompareOp::Greater, 1), true),
        (Compare::version("k", CompareOp::Less, 3), true),
        (Compare::version("k", CompareOp::NotEqual, 2), false),
        (Compare::create_revision("k", CompareOp::Equal, created), true),
        (Compare::create_revision("k", CompareOp::NotEqual, changed), true),
        (Compare::mod_revision("k", CompareOp::Equal, changed), true),
        (Compare::mod_revision("k", CompareOp::Less, changed), false),
        (Compare::value("k", CompareOp::Equal, "n"), true),
        (Compare::value("k", CompareOp::Greater, "m"), true),
        (Compare::value("k", CompareOp::Less, "m"), false),
        (Compare::lease("leased", CompareOp::Equal, lease), true),
        (Compare::lease("k", CompareOp::Equal, 0), true),
        (Compare::version("none", CompareOp::Equal, 0), true),
        (Compare::mod_revision("none", CompareOp::Equal, 0), true),
        (Compare::mod_revision("none", CompareOp::Greater, 0), false),
        (Compare::value("none", CompareOp::Equal, ""), false),
        (Compare::value("none", CompareOp::NotEqual, "x"), false),
        (Compare::value("k", CompareOp::Equal, "n").with_prefix(), true),
        (Compare::version("k", CompareOp::Equal, 2).with_prefix(), false),
    ];
    for (compare, expected) in cases {
        let txn = Txn::new().when([compare.clone()]);
        let response = client.txn(txn).await.expect("a transaction");
        assert_eq!(response.succeeded(), expected, "{compare:?}");
    }
}

pub(crate) async fn a_transaction_sees_its_own_writes(mut client: Client) {
    put(&client, "k", "1").await;
    let options = Some(DeleteOptions::new().with_prev_key());
    let txn = Txn::new().and_then([
        TxnOp::put("new", "2", None),
        TxnOp::get("new", None),
        TxnOp::delete("k", options),
        TxnOp::get("k", None),
    ]);
    let response = client.txn(txn).await.expect("a transaction");
    let [TxnOpResponse::Put(_), TxnOpResponse::Get(new), TxnOpResponse::Delete(deleted), TxnOpResponse::Get(gone)] =
        &response.op_responses()[..]
    else {
        panic!("four answers: {response:?}")
    };
    assert_eq!(new.kvs()[0].mod_revision(), revision(response.header()));
    assert_eq!((deleted.deleted(), deleted.prev_kvs().len(), gone.count()), (1, 1, 0));
}

pub(crate) async fn a_refused_transaction_changes_nothing(mut client: Client) {
    let before = put(&client, "k", "1").await;
    let twice = [TxnOp::put("k", "2", None), TxnOp::put("k", "3", None)];
    let over = [TxnOp::put("k", "2", None), TxnOp::delete("a", Some(DeleteOptions::new().with_range("z")))];
    for branch in [twice, over] {
        let words = "etcdserver: duplicate key given in txn request";
        refused(client.txn(Txn::new().and_then(branch.clone())).await, Code::InvalidArgument, words);
        refused(client.txn(Txn::new().or_else(branch)).await, Code::InvalidArgument, words);
    }
    let many: Vec<TxnOp> = (0..129).map(|n| TxnOp::put(format!("k{n}"), "", None)).collect();
    let words = "etcdserver: too many operations in txn request";
    refused(client.txn(Txn::new().and_then(many)).await, Code::InvalidArgument, words);
    let empty = Txn::new().and_then([TxnOp::put("k", "2", None), TxnOp::put("", "2", None)]);
    refused(client.txn(empty).await, Code::InvalidArgument, "etcdserver: key is not provided");
    let lease = Some(PutOptions::new().with_lease(7));
    let unknown = Txn::new().and_then([TxnOp::put("k", "2", None), TxnOp::put("l", "2", lease)]);
    refused(client.txn(unknown).await, Code::NotFound, "etcdserver: requested lease not found");
    let future = Some(GetOptions::new().with_revision(before + 100));
    let future = Txn::new().and_then([TxnOp::put("k", "2", None), TxnOp::get("k", future)]);
    let words = "etcdserver: mvcc: required revision is a future revision";
    refused(client.txn(future).await, Code::OutOfRange, words);
    assert_eq!(value(&client, "k").await.as_deref(), Some("1"));
    assert_eq!(put(&client, "k", "2").await, before + 1);
}
