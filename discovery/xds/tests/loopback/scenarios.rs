//! The same scenarios in both variants: our server and our client, over loopback.

use crate::mesh::{Call, Client, Mesh, snapshot, until};
use isthmus_xds::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use isthmus_xds::{Event, Mode, ServerSettings, Snapshot};
use std::sync::{Arc, Mutex};

const MODES: [Mode; 2] = [Mode::Delta, Mode::StateOfTheWorld];

/// Two services and a listener with its routes.
fn first() -> Vec<(&'static str, &'static str, &'static str)> {
    vec![
        (CLUSTER, "a", "1"),
        (CLUSTER, "b", "1"),
        (ENDPOINT, "a", "1"),
        (ENDPOINT, "b", "1"),
        (LISTENER, "l", "1"),
        (ROUTE, "l", "1"),
    ]
}

fn with(changes: &[(&'static str, &'static str, &'static str)]) -> Snapshot {
    let mut entries = first();
    entries.extend(changes);
    snapshot(&entries)
}

fn without(gone: &[(&'static str, &'static str)]) -> Snapshot {
    let entries: Vec<_> = first().into_iter().filter(|(of, name, _)| !gone.contains(&(*of, *name))).collect();
    snapshot(&entries)
}

async fn settled(mode: Mode) -> (Mesh, Client) {
    let mesh = Mesh::start(with(&[]), ServerSettings::default()).await;
    let client = mesh.client(mode);
    until("the first snapshot arrives", || client.holds(&with(&[]))).await;
    until("it is acknowledged", || mesh.acks() >= client.calls().len()).await;
    client.forget_calls();
    (mesh, client)
}

#[tokio::test]
async fn a_client_receives_everything_and_ends_at_shutdown() {
    for mode in MODES {
        let (mesh, client) = settled(mode).await;
        assert_eq!(mesh.nacks(), 0);
        client.stop().await;
        until("the source learns of it", || mesh.seen.lock().expect("not poisoned").closed == 1).await;
    }
}

#[tokio::test]
async fn one_change_sends_one_resource() {
    for mode in MODES {
        let (mesh, client) = settled(mode).await;
        let next = with(&[(ENDPOINT, "b", "2")]);
        mesh.publish(next.clone());
        until("the change arrives", || client.holds(&next)).await;
        assert_eq!(client.calls(), [(ENDPOINT.into(), vec!["b".into()], vec![])], "{mode:?}");
        client.stop().await;
    }
}

#[tokio::test]
async fn a_changed_cluster_brings_its_endpoints_again() {
    for mode in MODES {
        let (mesh, client) = settled(mode).await;
        mesh.publish(with(&[(CLUSTER, "b", "2")]));
        until("both arrive", || client.calls().len() == 2).await;
        let calls = client.calls();
        assert_eq!(calls[0], (CLUSTER.into(), vec!["b".into()], vec![]), "{mode:?}");
        assert_eq!(calls[1].0, ENDPOINT, "{mode:?}");
        if mode == Mode::Delta {
            assert_eq!(calls[1].1, ["b"], "only the changed cluster's");
        }
        client.stop().await;
    }
}

#[tokio::test]
async fn clusters_leave_after_the_listeners() {
    for mode in MODES {
        let (mesh, client) = settled(mode).await;
        let mut next = without(&[(CLUSTER, "b"), (ENDPOINT, "b"), (LISTENER, "l"), (ROUTE, "l")]);
        let added = with(&[(CLUSTER, "c", "1"), (ENDPOINT, "c", "1")]);
        for (of, resource) in added.iter().filter(|(_, resource)| &*resource.name == "c") {
            next.insert(of, resource.clone());
        }
        mesh.publish(next.clone());
        until("the end is reached", || client.holds(&next)).await;
        let calls = client.calls();
        let place = |what: &dyn Fn(&Call) -> bool| calls.iter().position(what).expect("happened");
        let made = place(&|(of, changed, removed)| of == CLUSTER && changed == &["c"] && removed.is_empty());
        let listener = place(&|(of, _, removed)| of == LISTENER && removed == &["l"]);
        let broken = place(&|(of, changed, removed)| of == CLUSTER && changed.is_empty() && removed == &["b"]);
        assert!(made < listener && listener < broken, "{mode:?}: {calls:?}");
        client.stop().await;
    }
}

#[tokio::test]
async fn no_cluster_leaves_while_listeners_wait() {
    for mode in MODES {
        // The client never asks for endpoints that no cluster of its names: listeners wait for that until it is enough.
        let settings = ServerSettings { removal_delay_ms: 20, settle_ms: 400, ..ServerSettings::default() };
        let mesh = Mesh::start(with(&[]), settings).await;
        let client = Client::start(Arc::new(Mutex::new(mesh.address)), mode);
        until("the first snapshot arrives", || client.holds(&with(&[]))).await;
        client.forget_calls();
        let mut next = without(&[(CLUSTER, "b"), (ENDPOINT, "b"), (LISTENER, "l"), (ROUTE, "l")]);
        let added = with(&[(CLUSTER, "c", "1"), (ENDPOINT, "c", "1"), (ENDPOINT, "never", "1")]);
        for (of, resource) in added.iter().filter(|(_, resource)| ["c", "never"].contains(&&*resource.name)) {
            next.insert(of, resource.clone());
        }
        mesh.publish(next);
        let is_gone = |calls: &[Call]| calls.iter().position(|(of, _, gone)| of == CLUSTER && gone == &["b"]);
        until("b is gone", || is_gone(&client.calls()).is_some()).await;
        let calls = client.calls();
        let listener = calls.iter().position(|(of, _, removed)| of == LISTENER && removed == &["l"]);
        assert!(listener.is_some_and(|at| Some(at) < is_gone(&calls)), "{mode:?}: {calls:?}");
        client.stop().await;
    }
}

#[tokio::test]
async fn a_rejected_response_keeps_the_old_and_is_not_sent_again() {
    for mode in MODES {
        let (mesh, client) = settled(mode).await;
        client.refuse(Some("l"));
        mesh.publish(with(&[(LISTENER, "l", "bad"), (LISTENER, "m", "1")]));
        until("it is rejected", || mesh.nacks() == 1).await;
        assert!(client.holds(&with(&[])), "{mode:?}: nothing of it was applied");
        let told = |event: &Event| matches!(event, Event::Nack { type_url: LISTENER, message, .. } if message == "l is refused");
        assert!(mesh.seen.lock().expect("not poisoned").events.iter().any(told));

        client.forget_calls();
        mesh.publish(with(&[(LISTENER, "l", "bad"), (LISTENER, "m", "1"), (ENDPOINT, "a", "2")]));
        until("another type goes on", || !client.calls().is_empty()).await;
        assert_eq!((mesh.nacks(), client.calls().len()), (1, 1), "{mode:?}: {:?}", client.calls());

        client.refuse(None);
        let good = with(&[(LISTENER, "l", "good"), (LISTENER, "m", "1"), (ENDPOINT, "a", "2")]);
        mesh.publish(good.clone());
        until("the good one arrives, and with it m", || client.holds(&good)).await;
        assert_eq!(mesh.nacks(), 1);
        client.stop().await;
    }
}

#[tokio::test]
async fn a_reconnect_goes_on_where_it_was() {
    for mode in MODES {
        let old = Mesh::start(with(&[]), ServerSettings::default()).await;
        let address = Arc::new(Mutex::new(old.address));
        let client = Client::start(address.clone(), mode);
        until("the first snapshot arrives", || client.holds(&with(&[]))).await;

        let changed = with(&[(CLUSTER, "b", "2"), (ROUTE, "l", "2")]);
        let next = Mesh::start(changed.clone(), ServerSettings::default()).await;
        *address.lock().expect("not poisoned") = next.address;
        client.forget_calls();
        old.shutdown.cancel();
        until("the client is up to date again", || client.holds(&changed)).await;
        until("the endpoints of b come again", || client.calls().iter().any(|(of, ..)| of == ENDPOINT)).await;
        let names = |of: &str| -> Vec<String> {
            client.calls().into_iter().filter(|call| call.0 == of).flat_map(|call| call.1).collect()
        };
        assert_eq!((names(CLUSTER), names(ROUTE)), (vec!["b".into()], vec!["l".into()]), "{mode:?}");
        assert!(names(LISTENER).is_empty());
        if mode == Mode::Delta {
            assert_eq!(names(ENDPOINT), ["b"], "a is not warming");
        }
        client.stop().await;
    }
}

#[tokio::test]
async fn what_went_during_an_absence_is_removed_last() {
    let settings = ServerSettings { removal_delay_ms: 50, ..ServerSettings::default() };
    for mode in MODES {
        let old = Mesh::start(with(&[]), settings.clone()).await;
        let address = Arc::new(Mutex::new(old.address));
        let client = Client::start(address.clone(), mode);
        until("the first snapshot arrives", || client.holds(&with(&[]))).await;
        let less = without(&[(CLUSTER, "b"), (ENDPOINT, "b"), (LISTENER, "l"), (ROUTE, "l")]);
        let next = Mesh::start(less.clone(), settings.clone()).await;
        *address.lock().expect("not poisoned") = next.address;
        client.forget_calls();
        old.shutdown.cancel();
        until("the client is up to date again", || client.holds(&less)).await;
        if mode == Mode::Delta {
            let removals: Vec<_> = client
                .calls()
                .into_iter()
                .filter(|(of, _, removed)| !removed.is_empty() && (of == LISTENER || of == CLUSTER))
                .map(|call| call.0)
                .collect();
            assert_eq!(removals, [LISTENER, CLUSTER]);
        }
        client.stop().await;
    }
}

#[tokio::test]
async fn names_that_are_no_longer_wanted_are_unsubscribed() {
    for mode in MODES {
        let (mesh, client) = settled(mode).await;
        let mut fewer = without(&[(CLUSTER, "b")]);
        mesh.publish(fewer.clone());
        until("b is gone", || client.calls().iter().any(|call| call.2 == ["b"])).await;
        client.forget_calls();
        for n in ["2", "3", "4"] {
            for (of, resource) in snapshot(&[(ENDPOINT, "b", n), (ENDPOINT, "a", n)]).iter() {
                fewer.insert(of, resource.clone());
            }
            mesh.publish(fewer.clone());
            let at_a = |call: &Call| call.1.contains(&"a".to_owned());
            until("a changes", || client.calls().iter().any(at_a)).await;
            if n != "2" {
                // After the first change, the server has seen the request to unsubscribe.
                assert!(client.calls().iter().all(|call| call.1 == ["a"]), "{mode:?}: {:?}", client.calls());
            }
            until("it is acknowledged", || mesh.acks() >= client.calls().len()).await;
            client.forget_calls();
        }
        client.stop().await;
    }
}
