//! What a reign writes, and what it writes again.

use super::*;

const START: u64 = 1_700_000_000;

fn at(host: &str) -> At {
    let key = ServiceKey { host: host.parse().expect("a host"), namespace: "shop".parse().expect("a namespace") };
    (Target::All, key)
}

fn exports(hosts: &[&str]) -> Exports {
    hosts.iter().map(|host| (at(host), export(host))).collect()
}

fn export(host: &str) -> ServiceExport {
    ServiceExport { key: at(host).1, ports: Vec::new(), groups: Vec::new() }
}

fn standing(host: &str, epoch: u64, is_offered: bool) -> Standing {
    let position = Position { epoch, sequence: 1 };
    Standing { at: at(host), position, export: is_offered.then(|| export(host)) }
}

fn elected(standing: Vec<Standing>, unix_seconds: u64) -> Event {
    Event::Elected { standing, highest_epoch: 0, unix_seconds }
}

/// Writes all that is due: what it was, in order.
fn drain(publisher: &mut Publisher) -> Vec<(String, bool)> {
    let mut writes = Vec::new();
    while let Some(write) = publisher.next_write() {
        writes.push((write.at.1.host.to_string(), write.export.is_some()));
        publisher.step(Event::Written(write));
    }
    writes
}

fn put(host: &str) -> (String, bool) {
    (host.to_owned(), true)
}

fn withdraw(host: &str) -> (String, bool) {
    (host.to_owned(), false)
}

#[test]
fn what_is_different_goes_first_and_the_rest_is_asserted_again() {
    let mut publisher = Publisher::default();
    publisher.step(Event::Wanted(exports(&["kept.shop", "new.shop"])));
    assert_eq!(drain(&mut publisher), [], "nobody has elected us");
    let before = [("gone.shop", true), ("kept.shop", true), ("old.shop", false)];
    publisher.step(elected(before.iter().map(|(host, is_offered)| standing(host, 7, *is_offered)).collect(), START));
    assert_eq!(publisher.epoch(), Some(START));
    let expected = [put("new.shop"), withdraw("gone.shop"), put("kept.shop"), withdraw("old.shop")];
    assert_eq!(drain(&mut publisher), expected);
    publisher.step(Event::Wanted(exports(&["new.shop"])));
    assert_eq!(drain(&mut publisher), [withdraw("kept.shop")]);
}

#[test]
fn a_store_that_was_restored_under_a_reign_is_written_again() {
    let mut publisher = Publisher::default();
    publisher.step(Event::Wanted(exports(&["a.shop", "b.shop"])));
    publisher.step(elected(Vec::new(), START));
    drain(&mut publisher);
    publisher.step(Event::Wanted(exports(&["a.shop"])));
    drain(&mut publisher);
    // The backup: an old record of one, and the one that was withdrawn since.
    publisher.step(Event::Stands(vec![standing("a.shop", 7, true), standing("b.shop", 7, true)]));
    assert_eq!(drain(&mut publisher), [withdraw("b.shop"), put("a.shop")]);
    // An empty store: what was withdrawn is withdrawn again, for the reader that missed it.
    publisher.step(Event::Stands(Vec::new()));
    assert_eq!(drain(&mut publisher), [put("a.shop"), withdraw("b.shop")]);
}

#[test]
fn an_epoch_never_falls_within_a_process() {
    let mut publisher = Publisher::default();
    publisher.step(elected(Vec::new(), START));
    publisher.step(Event::Deposed);
    assert_eq!(publisher.epoch(), None);
    publisher.step(elected(Vec::new(), 1));
    assert_eq!(publisher.epoch(), Some(START + 1), "the store is empty and the clock was set back");
    publisher.step(Event::Seen(at("a.shop"), Some(standing("a.shop", START + 50, true))));
    assert_eq!(publisher.epoch(), Some(START + 51), "another has written under our key");
}

#[test]
fn an_echo_is_no_news_and_a_deletion_is_made_good() {
    let mut publisher = Publisher::default();
    publisher.step(Event::Wanted(exports(&["a.shop"])));
    publisher.step(elected(Vec::new(), START));
    let write = publisher.next_write().expect("a write");
    let echo = Standing { at: write.at.clone(), position: write.position, export: write.export.clone() };
    publisher.step(Event::Written(write.clone()));
    publisher.step(Event::Seen(at("a.shop"), Some(echo)));
    assert_eq!(drain(&mut publisher), []);
    publisher.step(Event::Seen(at("a.shop"), None));
    assert_eq!(drain(&mut publisher), [put("a.shop")]);
    publisher.step(Event::Wanted(Exports::new()));
    let write = publisher.next_write().expect("a withdrawal");
    publisher.step(Event::Failed(write));
    assert_eq!(drain(&mut publisher), [withdraw("a.shop")], "nobody knows whether the store has it");
}

#[test]
fn what_cannot_be_written_is_tried_again_once_it_is_another() {
    let mut publisher = Publisher::default();
    publisher.step(Event::Wanted(exports(&["a.shop"])));
    publisher.step(elected(Vec::new(), START));
    let write = publisher.next_write().expect("a write");
    publisher.step(Event::Unwritable(write));
    publisher.step(Event::Wanted(exports(&["a.shop"])));
    assert_eq!(drain(&mut publisher), []);
}
