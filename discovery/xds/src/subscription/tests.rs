//! Tables of requests and snapshots, without a socket.

use super::*;
use crate::type_url::{CLUSTER, ENDPOINT, LISTENER};

const LIMITS: Limits = Limits { names: 5, response_bytes: 1 << 20 };

fn open(type_url: &'static str, variant: Variant) -> Subscription {
    Subscription::new(type_url, variant, LIMITS)
}

/// A snapshot of one type: names and versions.
fn snapshot(type_url: &'static str, content: &[(&str, u8)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (name, body) in content {
        snapshot.insert(type_url, Resource::from_body(*name, vec![*body].into()));
    }
    snapshot
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn change(subscribe: &[&str], unsubscribe: &[&str]) -> Request {
    let ask = Ask::Change { subscribe: texts(subscribe), unsubscribe: texts(unsubscribe), held: HashMap::new() };
    Request { ask, ..Request::default() }
}

fn held(subscribe: &[&str], content: &[(&str, u8)]) -> Request {
    let version = |body: &u8| Resource::from_body("", vec![*body].into()).version.to_string();
    let held = content.iter().map(|(name, body)| (name.to_string(), version(body))).collect();
    Request { ask: Ask::Change { subscribe: texts(subscribe), unsubscribe: vec![], held }, ..Request::default() }
}

fn all(names: &[&str], nonce: &str) -> Request {
    Request { nonce: nonce.into(), error: None, ask: Ask::All(texts(names)) }
}

fn nack(mut request: Request, nonce: &str) -> Request {
    request.nonce = nonce.into();
    request.error = Some("bad".into());
    request
}

/// What the next response carries: names, and names removed.
fn told(subscription: &mut Subscription, new: &Snapshot, old: &Snapshot, phase: Phase) -> Option<(String, String)> {
    subscription.next(new, old, phase).map(|response| {
        let names: Vec<&str> = response.resources.iter().map(|resource| &*resource.name).collect();
        (names.join(","), response.removed.join(","))
    })
}

fn made(subscription: &mut Subscription, new: &Snapshot) -> Option<(String, String)> {
    told(subscription, new, new, Phase::Make)
}

fn pair(names: &str, removed: &str) -> (String, String) {
    (names.into(), removed.into())
}

#[test]
fn delta_sends_a_change_once() {
    let mut cds = open(CLUSTER, Variant::Delta);
    let one = snapshot(CLUSTER, &[("a", 1), ("b", 1)]);
    assert_eq!(made(&mut cds, &one), None, "nobody asked yet");
    cds.receive(change(&[], &[])).expect("accepted");
    assert_eq!(made(&mut cds, &one), Some(pair("a,b", "")));
    assert_eq!(made(&mut cds, &one), None);
    assert_eq!(made(&mut cds, &snapshot(CLUSTER, &[("a", 1), ("b", 2)])), Some(pair("b", "")));
}

#[test]
fn a_wildcard_is_answered_even_when_there_is_nothing() {
    let nothing = Snapshot::default();
    for (variant, request) in [(Variant::Delta, change(&[], &[])), (Variant::StateOfTheWorld, all(&[], ""))] {
        let mut lds = open(LISTENER, variant);
        lds.receive(request).expect("accepted");
        assert_eq!(made(&mut lds, &nothing), Some(pair("", "")));
        assert_eq!(made(&mut lds, &nothing), None);
    }
}

#[test]
fn clusters_go_last() {
    let (old, new) = (snapshot(CLUSTER, &[("a", 1), ("b", 1)]), snapshot(CLUSTER, &[("b", 1), ("c", 1)]));
    let mut cds = open(CLUSTER, Variant::Delta);
    cds.receive(change(&[], &[])).expect("accepted");
    assert_eq!(made(&mut cds, &old), Some(pair("a,b", "")));
    assert_eq!(told(&mut cds, &new, &old, Phase::Make), Some(pair("c", "")));
    assert_eq!(told(&mut cds, &new, &old, Phase::Break), Some(pair("", "a")));
    assert_eq!(told(&mut cds, &new, &new, Phase::Break), None);

    let mut cds = open(CLUSTER, Variant::StateOfTheWorld);
    cds.receive(all(&[], "")).expect("accepted");
    assert_eq!(made(&mut cds, &old), Some(pair("a,b", "")));
    assert_eq!(told(&mut cds, &new, &old, Phase::Make), Some(pair("b,c,a", "")), "the union first");
    assert_eq!(told(&mut cds, &new, &old, Phase::Break), Some(pair("b,c", "")), "then the final set");
    assert_eq!(told(&mut cds, &new, &new, Phase::Make), None);
}

#[test]
fn listeners_go_at_once() {
    let (old, new) = (snapshot(LISTENER, &[("a", 1)]), Snapshot::default());
    let mut lds = open(LISTENER, Variant::Delta);
    lds.receive(change(&[], &[])).expect("accepted");
    assert_eq!(made(&mut lds, &old), Some(pair("a", "")));
    assert_eq!(told(&mut lds, &new, &old, Phase::Make), Some(pair("", "a")));
    assert_eq!(told(&mut lds, &new, &old, Phase::Break), None);
}

#[test]
fn by_name_only_what_is_named() {
    let there = snapshot(ENDPOINT, &[("a", 1), ("b", 1), ("c", 1)]);
    let mut eds = open(ENDPOINT, Variant::Delta);
    eds.receive(change(&[], &[])).expect("accepted");
    assert_eq!(made(&mut eds, &there), None, "by-name types know no implied wildcard");
    eds.receive(change(&["a", "nobody"], &[])).expect("accepted");
    assert_eq!(made(&mut eds, &there), Some(pair("a", "nobody")));
    assert_eq!(made(&mut eds, &there), None);
    eds.receive(change(&["a", "nobody"], &[])).expect("accepted");
    assert_eq!(made(&mut eds, &there), Some(pair("a", "nobody")), "who asks again is told again");
    eds.receive(change(&["b"], &["a", "never"])).expect("accepted");
    assert_eq!(made(&mut eds, &there), Some(pair("b", "")));
    let changed = snapshot(ENDPOINT, &[("a", 2), ("b", 1), ("nobody", 1)]);
    assert_eq!(made(&mut eds, &changed), Some(pair("nobody", "")), "now it exists; a is not wanted any more");
    let gone = snapshot(ENDPOINT, &[("nobody", 1)]);
    assert_eq!(told(&mut eds, &gone, &changed, Phase::Make), None);
    assert_eq!(told(&mut eds, &gone, &changed, Phase::Break), Some(pair("", "b")));
    assert_eq!(told(&mut eds, &changed, &gone, Phase::Make), Some(pair("b", "")), "it came back");
}

#[test]
fn an_explicit_wildcard_comes_and_goes() {
    let there = snapshot(CLUSTER, &[("a", 1), ("b", 1)]);
    let mut cds = open(CLUSTER, Variant::Delta);
    cds.receive(change(&["a"], &[])).expect("accepted");
    assert_eq!(made(&mut cds, &there), Some(pair("a", "")), "named first: no wildcard");
    cds.receive(change(&["*"], &[])).expect("accepted");
    assert_eq!(made(&mut cds, &there), Some(pair("b", "")));
    cds.receive(change(&[], &["a"])).expect("accepted");
    assert_eq!(made(&mut cds, &there), Some(pair("a", "")), "still wanted as one of all");
    cds.receive(change(&[], &["*"])).expect("accepted");
    assert_eq!(made(&mut cds, &snapshot(CLUSTER, &[("a", 2), ("b", 2)])), None);
}

#[test]
fn a_reconnect_gets_only_what_changed() {
    let there = snapshot(CLUSTER, &[("a", 1), ("b", 2), ("c", 1)]);
    let mut cds = open(CLUSTER, Variant::Delta);
    cds.receive(held(&[], &[("a", 1), ("b", 1), ("gone", 1)])).expect("accepted");
    assert_eq!(made(&mut cds, &there), Some(pair("b,c", "")));
    assert_eq!(told(&mut cds, &there, &there, Phase::Break), Some(pair("", "gone")));

    let endpoints = snapshot(ENDPOINT, &[("a", 1), ("b", 1)]);
    let mut eds = open(ENDPOINT, Variant::Delta);
    eds.repeat(&["b".into()]);
    eds.receive(held(&["a", "b"], &[("a", 1), ("b", 1), ("unwanted", 1)])).expect("accepted");
    assert_eq!(made(&mut eds, &endpoints), Some(pair("b", "")), "its cluster is warming");
    assert_eq!(told(&mut eds, &endpoints, &endpoints, Phase::Break), None);
}

#[test]
fn a_repeat_waits_for_a_subscription_and_is_no_answer_by_itself() {
    let there = snapshot(ENDPOINT, &[("a", 1), ("b", 1)]);
    let mut eds = open(ENDPOINT, Variant::Delta);
    eds.receive(change(&["a"], &[])).expect("accepted");
    assert_eq!(made(&mut eds, &there), Some(pair("a", "")));
    eds.repeat(&["b".into(), "not there".into()]);
    assert_eq!(made(&mut eds, &there), None);
    eds.repeat(&["a".into()]);
    assert_eq!(made(&mut eds, &there), Some(pair("a", "")));
}

#[test]
fn what_was_rejected_waits_for_a_change_and_then_goes_out_whole() {
    let (good, bad) = (snapshot(LISTENER, &[("a", 1), ("b", 1)]), snapshot(LISTENER, &[("a", 2), ("b", 2)]));
    let mut lds = open(LISTENER, Variant::Delta);
    lds.receive(change(&[], &[])).expect("accepted");
    made(&mut lds, &good);
    assert_eq!(told(&mut lds, &bad, &good, Phase::Make), Some(pair("a,b", "")));
    assert_eq!(lds.receive(nack(change(&[], &[]), "2")).expect("accepted"), Verdict::Rejected("bad".into()));
    lds.moved(&bad, &bad);
    assert_eq!(told(&mut lds, &bad, &bad, Phase::Make), None, "no hot loop");
    let better = snapshot(LISTENER, &[("a", 3), ("b", 2)]);
    lds.moved(&better, &bad);
    assert_eq!(told(&mut lds, &better, &bad, Phase::Make), Some(pair("a,b", "")), "b was dropped along with a");

    lds.receive(nack(change(&[], &[]), "3")).expect("accepted");
    let without = snapshot(LISTENER, &[("b", 2)]);
    lds.moved(&without, &better);
    assert_eq!(told(&mut lds, &without, &better, Phase::Make), Some(pair("b", "a")));
}

#[test]
fn verdicts_belong_to_their_response() {
    let mut lds = open(LISTENER, Variant::Delta);
    lds.receive(change(&[], &[])).expect("accepted");
    made(&mut lds, &snapshot(LISTENER, &[("a", 1)]));
    let answered = |lds: &mut Subscription, nonce: &str| {
        lds.receive(Request { nonce: nonce.into(), ..change(&[], &[]) }).expect("accepted")
    };
    for nonce in ["7", "x", "0", "-1", "99999999999999999999999"] {
        assert_eq!(answered(&mut lds, nonce), Verdict::Silent, "{nonce}");
    }
    assert_eq!(answered(&mut lds, "1"), Verdict::Accepted);
    assert_eq!(answered(&mut lds, "1"), Verdict::Silent, "only once");
}

#[test]
fn state_of_the_world_ignores_the_stale_and_answers_new_names() {
    let there = snapshot(ENDPOINT, &[("a", 1), ("b", 1), ("c", 1)]);
    let mut eds = open(ENDPOINT, Variant::StateOfTheWorld);
    eds.receive(all(&["a"], "")).expect("accepted");
    assert_eq!(made(&mut eds, &there), Some(pair("a", "")));
    assert_eq!(eds.receive(all(&["a"], "1")).expect("accepted"), Verdict::Accepted);
    assert_eq!(made(&mut eds, &there), None, "an ACK is not answered");
    eds.receive(all(&["a", "b"], "1")).expect("accepted");
    assert_eq!(made(&mut eds, &there), Some(pair("b", "")));
    eds.receive(all(&["a", "b", "c"], "1")).expect("accepted");
    assert_eq!(made(&mut eds, &there), None, "stale: it will ask again");
    eds.receive(all(&["a", "b", "c"], "2")).expect("accepted");
    assert_eq!(made(&mut eds, &there), Some(pair("c", "")));
    eds.receive(all(&[], "3")).expect("accepted");
    assert_eq!(made(&mut eds, &snapshot(ENDPOINT, &[("a", 2)])), None, "unsubscribed");
}

#[test]
fn state_of_the_world_reconnects_from_scratch() {
    let there = snapshot(CLUSTER, &[("a", 1), ("b", 1)]);
    let mut cds = open(CLUSTER, Variant::StateOfTheWorld);
    cds.receive(all(&[], "of another server")).expect("accepted");
    assert_eq!(made(&mut cds, &there), Some(pair("a,b", "")));
    cds.receive(all(&["a"], "1")).expect("accepted");
    assert_eq!(made(&mut cds, &snapshot(CLUSTER, &[("a", 2), ("b", 2)])), Some(pair("a", "")), "no wildcard any more");
    cds.receive(all(&["*"], "2")).expect("accepted");
    assert_eq!(made(&mut cds, &there), Some(pair("a,b", "")));
}

#[test]
fn a_large_delta_is_cut() {
    let content: Vec<String> = (0..10).map(|n| format!("r{n}")).collect();
    let mut there = Snapshot::default();
    for name in &content {
        there.insert(CLUSTER, Resource::from_body(name.as_str(), vec![0; 1000].into()));
    }
    let mut cds = Subscription::new(CLUSTER, Variant::Delta, Limits { names: 5, response_bytes: 4000 });
    cds.receive(change(&[], &[])).expect("accepted");
    let mut got = Vec::new();
    let mut responses = 0;
    while let Some(response) = cds.next(&there, &there, Phase::Make) {
        assert_eq!(response.fresh.len(), response.resources.len());
        got.extend(response.resources.into_iter().map(|resource| resource.name.to_string()));
        responses += 1;
    }
    assert_eq!((got, responses), (content, 3));
}

#[test]
fn limits_hold() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut eds = open(ENDPOINT, Variant::Delta);
    assert_eq!(eds.receive(change(&names, &[])), Err(Excess::Names(6, 5)));
    let mut eds = open(ENDPOINT, Variant::StateOfTheWorld);
    assert_eq!(eds.receive(all(&names, "")), Err(Excess::Names(6, 5)));
    let mut cds = open(CLUSTER, Variant::Delta);
    assert_eq!(cds.receive(held(&[], &names.map(|name| (name, 1)))), Err(Excess::Names(6, 5)));
    let long = "x".repeat(MAX_NAME + 1);
    assert_eq!(cds.receive(change(&[&long], &[])), Err(Excess::Name(MAX_NAME + 1)));
    for n in 0..1000 {
        cds.receive(change(&[], &[&format!("never{n}")])).expect("accepted");
    }
    let mut lds = open(LISTENER, Variant::Delta);
    lds.receive(change(&[], &[])).expect("accepted");
    for n in 0..200 {
        made(&mut lds, &snapshot(LISTENER, &[("a", n)]));
    }
    assert_eq!(lds.pending.len(), MAX_PENDING);
}
