//! The audit history: each record of a command, a refusal or a result is there once and judged for what
//! it is; nothing is found that was not; the chains are whole.

use std::collections::{BTreeMap, BTreeSet};

use super::{Account, Broken, Payload, Value, of_stream, place};
use crate::checker::evidence::{Event, Evidence};
use crate::checker::ledger::{Book, Said};
use crate::kafka::reader::Record;
use crate::stack::{COMMANDS, REJECTED};

pub(super) fn check(account: &mut Account, book: &Book, evidence: &Evidence) {
    if let Some(why) = &evidence.chains {
        account.violate(Broken::BrokenChain, why.clone());
    }
    let events = by_record(account, evidence);
    let commands = recorded(account, &events, evidence, (COMMANDS, "command"));
    let attempts = recorded(account, &events, evidence, (REJECTED, "attempt"));
    verdicts(account, book, evidence);
    let results = results(account, book, evidence);
    let orphans = findings(account, book, evidence);
    awaited(account, evidence);
    account.count("commands in the history", commands);
    account.count("attempts in the history", attempts);
    account.count("results in the history", results);
    account.count("results whose command's receipt was lost with the broker", orphans);
}

/// Which kinds of events there are of each record.
type ByRecord<'a> = BTreeMap<(&'a str, i32, i64), Vec<&'a Event>>;

fn by_record<'a>(account: &mut Account, evidence: &'a Evidence) -> ByRecord<'a> {
    let mut events = ByRecord::new();
    // What is due after a while stands beside what it is about.
    for event in evidence.events.iter().filter(|event| event.kind != "finding") {
        let (stream, partition) = &event.place;
        let of_record = events.entry((stream, *partition, event.offset)).or_default();
        if of_record.iter().any(|other| other.kind == event.kind) {
            let why = format!("{stream}/{partition}@{}: two events `{}`", event.offset, event.kind);
            account.violate(Broken::RepeatedEvent, why);
        }
        of_record.push(event);
    }
    events
}

/// How many records of a stream are events of this kind; all shall be.
fn recorded(account: &mut Account, events: &ByRecord, evidence: &Evidence, what: (&str, &str)) -> u64 {
    let (stream, kind) = what;
    let mut count = 0;
    for record in of_stream(evidence, stream) {
        let key = (stream, record.partition, record.offset);
        let found = events.get(&key).is_some_and(|events| events.iter().any(|event| event.kind == kind));
        count += u64::from(found);
        if !found {
            account.violate(Broken::MissingEvent, format!("{}: no event `{kind}`", place(record)));
        }
    }
    count
}

/// Each command that a lock took is judged `ok` once, and what comes again `duplicate`.
fn verdicts(account: &mut Account, book: &Book, evidence: &Evidence) {
    let mut ok: BTreeMap<&str, u64> = BTreeMap::new();
    for event in evidence.events.iter().filter(|event| event.kind == "command") {
        match event.verdict.as_str() {
            "ok" => *ok.entry(&event.process_id).or_default() += 1,
            "duplicate" => {}
            other => {
                let why = format!("command {} to {} is `{other}`", event.process_id, event.lock);
                account.violate(Broken::WrongVerdict, why);
            }
        }
    }
    let recorded: BTreeSet<String> = of_stream(evidence, COMMANDS).filter_map(process_id).collect();
    for process_id in book.commands.keys().filter(|process_id| recorded.contains(*process_id)) {
        let times = ok.get(process_id.as_str()).copied().unwrap_or(0);
        if times != 1 {
            account.violate(Broken::WrongVerdict, format!("command {process_id} is `ok` {times} times"));
        }
    }
}

/// Each result that was acknowledged is there once, as `ok`.
fn results(account: &mut Account, book: &Book, evidence: &Evidence) -> u64 {
    let mut results: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for event in evidence.events.iter().filter(|event| event.kind == "result") {
        results.entry((&event.lock, &event.process_id)).or_default().push(&event.verdict);
    }
    let count = results.len() as u64;
    for (lock, page) in &book.locks {
        for process_id in
            page.reports.iter().filter(|report| report.acked).filter_map(|r| r.result_of.as_ref())
        {
            let what = || format!("the result of {process_id} at {lock}");
            match results.get(&(lock.as_str(), process_id.as_str())).map(Vec::as_slice) {
                Some(["ok"]) => {}
                Some([other]) => account.violate(Broken::WrongVerdict, format!("{} is `{other}`", what())),
                Some(_) => account.violate(Broken::RepeatedEvent, what()),
                None => account.violate(Broken::MissingEvent, what()),
            }
        }
    }
    count
}

/// Nobody waits for the other half of a process of which both are in the history: no test is as long as
/// such a wait may be, so that it is looked at here and not by what comes of it.
fn awaited(account: &mut Account, evidence: &Evidence) {
    let has = |kind: &str, lock: &str, process_id: &str| {
        let is_it =
            |event: &&Event| event.kind == kind && event.lock == lock && event.process_id == process_id;
        evidence.events.iter().any(|event| is_it(&event) && event.verdict == "ok")
    };
    for (lock, process_id) in &evidence.awaited {
        if has("command", lock, process_id) && has("result", lock, process_id) {
            account.violate(Broken::StillAwaited, format!("{process_id} of {lock}"));
        }
    }
    account.count("processes whose other half is awaited", evidence.awaited.len() as u64);
}

/// What was found beside verdicts is explained; the answer is how often a lost receipt explains it.
fn findings(account: &mut Account, book: &Book, evidence: &Evidence) -> u64 {
    let stored: BTreeSet<String> = of_stream(evidence, COMMANDS).filter_map(process_id).collect();
    let mut orphans = 0;
    for event in &evidence.events {
        let sent = book.commands.get(&event.process_id);
        for finding in &event.findings {
            let receipt_ms = sent.and_then(|sent| sent.receipt_ms);
            // The command's receipt died with the broker (docs/limits.md): its result has no command.
            let is_orphan = finding == "orphan_result"
                && !stored.contains(&event.process_id)
                && receipt_ms.is_some_and(|at_ms| book.end_that_lost_receipt(&event.lock, at_ms).is_some());
            orphans += u64::from(is_orphan);
            if !is_orphan {
                let why = format!("{} {} of {}: `{finding}`", event.kind, event.process_id, event.lock);
                account.violate(Broken::WrongVerdict, why);
            }
        }
        let is_refused = sent.is_some_and(|sent| matches!(sent.said, Said::Refused(_)));
        let is_attempt = event.kind == "attempt";
        if is_attempt && !(is_refused || event.verdict == "retransmit") {
            let why = format!("attempt {} of {} is `{}`", event.process_id, event.lock, event.verdict);
            account.violate(Broken::WrongVerdict, why);
        }
    }
    orphans
}

fn process_id(record: &Record) -> Option<String> {
    Some(Payload::of(&Value::of(record)?.payload()?).process_id)
}
