//! Compares what came with what was expected.

use crate::ask::Outcome;
use crate::call::Reply;
use crate::expect::{Expect, SeenAs};
use crate::ledger::{Ledger, Seen};
use crate::stream_case::StreamExpect;
use crate::value::differ;
use http::HeaderMap;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How long copies may take to arrive once the originals were answered.
const COPIES: Duration = Duration::from_secs(3);
/// How long there must be no news of copies until it is believed that all have arrived.
const QUIET: Duration = Duration::from_millis(250);
const POLL: Duration = Duration::from_millis(20);

/// All that is wrong with a step's outcomes.
pub async fn requests(expect: &Expect, outcomes: &[Outcome], ledger: &Ledger) -> Vec<String> {
    let mut wrong = Vec::new();
    wrong.extend(statuses(expect, outcomes));
    wrong.extend(instances(expect, outcomes, ledger));
    wrong.extend(together(expect, outcomes, ledger));
    if let Some(mirrored) = &expect.mirrored {
        wrong.extend(copies(mirrored, outcomes, ledger).await);
    }
    // Where many fail alike, the first says it.
    wrong.extend(
        outcomes.iter().map(|outcome| one(expect, outcome, ledger)).find(|each| !each.is_empty()).into_iter().flatten(),
    );
    wrong
}

/// All that is wrong with a step's connections.
pub fn streams(expect: &StreamExpect, outcomes: &[Result<String, String>]) -> Vec<String> {
    let mut counts = BTreeMap::new();
    let mut wrong = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(instance) => *counts.entry(instance.clone()).or_insert(0) += 1,
            Err(_) if expect.refused => {}
            Err(error) => wrong.push(format!("a connection failed: {error}")),
        }
    }
    wrong.truncate(1);
    if expect.refused {
        wrong.extend((!counts.is_empty()).then(|| format!("expected no connection, reached {counts:?}")));
    } else if expect.same_instance && counts.len() != 1 {
        wrong.push(format!("expected one instance for all, reached {counts:?}"));
    } else if let Some(shares) = shares(expect.instance.as_deref(), &expect.instances) {
        wrong.extend(differ(&shares, &counts, outcomes.len()));
    }
    wrong
}

fn shares(one: Option<&str>, several: &BTreeMap<String, f64>) -> Option<BTreeMap<String, f64>> {
    match one {
        Some(name) => Some([(name.to_owned(), 1.0)].into()),
        None => (!several.is_empty()).then(|| several.clone()),
    }
}

fn statuses(expect: &Expect, outcomes: &[Outcome]) -> Option<String> {
    let wanted = expect.status.as_ref()?.shares();
    let mut counts = BTreeMap::new();
    for reply in outcomes.iter().filter_map(|outcome| outcome.reply.as_ref().ok()) {
        *counts.entry(reply.status).or_insert(0) += 1;
    }
    let differ = differ(&wanted, &counts, outcomes.len())?;
    let odd = outcomes.iter().find_map(|outcome| {
        let reply = outcome.reply.as_ref().ok()?;
        (!wanted.contains_key(&reply.status)).then(|| format!("; one: {:?} {:?}", reply.headers, reply.body))
    });
    Some(format!("status: {differ}{}", odd.unwrap_or_default()))
}

fn instances(expect: &Expect, outcomes: &[Outcome], ledger: &Ledger) -> Option<String> {
    let wanted = shares(expect.instance.as_deref(), &expect.instances)?;
    let mut counts = BTreeMap::new();
    for seen in outcomes.iter().filter_map(|outcome| ledger.originals(&outcome.number).pop()) {
        *counts.entry(seen.instance).or_insert(0) += 1;
    }
    differ(&wanted, &counts, outcomes.len()).map(|differ| format!("instances: {differ}"))
}

/// What is wrong with the instances that got them together, and with the connections.
fn together(expect: &Expect, outcomes: &[Outcome], ledger: &Ledger) -> Option<String> {
    let seen: Vec<Seen> = outcomes.iter().filter_map(|outcome| ledger.originals(&outcome.number).pop()).collect();
    let instances: BTreeSet<&str> = seen.iter().map(|seen| seen.instance.as_str()).collect();
    if expect.same_instance && (instances.len() != 1 || seen.len() != outcomes.len()) {
        return Some(format!("instances: expected one for all, saw {instances:?}"));
    }
    let connections = seen.iter().map(|seen| seen.peer).collect::<BTreeSet<_>>().len();
    unlike("connections", expect.connections.as_ref(), Some(&connections))
}

/// Waits until copies have arrived as expected, or no more come.
async fn copies(wanted: &BTreeMap<String, f64>, outcomes: &[Outcome], ledger: &Ledger) -> Option<String> {
    let began = Instant::now();
    let (mut last, mut since) = (BTreeMap::new(), began);
    loop {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for seen in outcomes.iter().flat_map(|outcome| ledger.copies(&outcome.number)) {
            *counts.entry(seen.instance).or_default() += 1;
        }
        if counts != last {
            (last, since) = (counts, Instant::now());
        }
        let differ = differ(wanted, &last, outcomes.len());
        let is_over = since.elapsed() > QUIET && differ.is_none();
        if is_over || began.elapsed() > COPIES {
            return differ.map(|differ| format!("mirrored: {differ}"));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// All that is wrong with one request.
fn one(expect: &Expect, outcome: &Outcome, ledger: &Ledger) -> Vec<String> {
    let mut wrong = Vec::new();
    match (&outcome.reply, expect.reset) {
        (Err(_), true) => {}
        (Ok(reply), true) => wrong.push(format!("expected no response, came {}", reply.status)),
        (Err(error), false) => wrong.push(error.clone()),
        (Ok(reply), false) => wrong.extend(response(expect, reply)),
    }
    let took = outcome.took;
    if let Some(limits) = expect.took {
        let is_short = limits.least.is_some_and(|least| took < least.0);
        let is_long = limits.most.is_some_and(|most| took > most.0);
        wrong.extend((is_short || is_long).then(|| format!("took {took:?}, expected {limits:?}")));
    }
    if let Some(as_seen) = &expect.seen {
        let originals = ledger.originals(&outcome.number);
        wrong.extend(unlike("attempts", as_seen.attempts.as_ref(), Some(&originals.len())));
        let instances = originals.iter().map(|seen| &seen.instance).collect::<BTreeSet<_>>().len();
        wrong.extend(unlike("instances", as_seen.instances.as_ref(), Some(&instances)));
        match originals.last() {
            Some(seen) => wrong.extend(request(as_seen, seen)),
            None if as_seen.attempts == Some(0) => {}
            None => wrong.push("no application saw it".to_owned()),
        }
    }
    wrong
}

fn response(expect: &Expect, reply: &Reply) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, value) in &expect.headers {
        wrong.extend(absent_or(&format!("response header {name}"), value.as_ref(), joined(&reply.headers, name)));
    }
    for (name, part) in &expect.header_contains {
        wrong.extend(without(&format!("response header {name}"), part, joined(&reply.headers, name)));
    }
    wrong.extend(unlike("body", expect.body.as_ref(), Some(&reply.body)));
    if let Some(part) = expect.body_contains.as_ref().filter(|part| !reply.body.contains(*part)) {
        wrong.push(format!("body: expected {part:?} in it, came {:?}", reply.body));
    }
    if let Some(wanted) = expect.grpc_status {
        let status = joined(&reply.headers, "grpc-status").or_else(|| joined(&reply.trailers, "grpc-status"));
        let code = status.as_deref().and_then(|status| status.parse().ok());
        wrong.extend(unlike("grpc-status", Some(&wanted), code.as_ref()));
    }
    wrong
}

fn request(wanted: &SeenAs, seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    wrong.extend(unlike("method seen", wanted.method.as_ref(), Some(&seen.method)));
    wrong.extend(unlike("path seen", wanted.path.as_ref(), Some(&seen.path)));
    wrong.extend(unlike("authority seen", wanted.authority.as_ref(), Some(&seen.authority)));
    wrong.extend(unlike("version seen", wanted.version.as_ref(), Some(&seen.version)));
    wrong.extend(unlike("body seen", wanted.body.as_ref(), Some(&seen.body)));
    for (name, value) in &wanted.headers {
        wrong.extend(absent_or(&format!("header seen {name}"), value.as_ref(), seen.header(name)));
    }
    for (name, part) in &wanted.header_contains {
        wrong.extend(without(&format!("header seen {name}"), part, seen.header(name)));
    }
    wrong
}

fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn unlike<T: PartialEq + Debug>(what: &str, wanted: Option<&T>, came: Option<&T>) -> Option<String> {
    let wanted = wanted.filter(|wanted| came != Some(*wanted))?;
    Some(format!("{what}: expected {wanted:?}, came {came:?}"))
}

fn without(what: &str, part: &str, came: Option<String>) -> Option<String> {
    let is_there = came.as_ref().is_some_and(|came| came.contains(part));
    (!is_there).then(|| format!("{what}: expected {part:?} in it, came {came:?}"))
}

/// As [`unlike`], where nothing wanted means that there must be nothing.
fn absent_or(what: &str, wanted: Option<&String>, came: Option<String>) -> Option<String> {
    (wanted != came.as_ref()).then(|| format!("{what}: expected {wanted:?}, came {came:?}"))
}
