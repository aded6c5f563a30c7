//! Reports: each acknowledged one is in Kafka with its bytes, and a lock's are in the order in which it
//! sent them. One that is behind a later one was there before, and says that it is a repetition.
//!
//! A repetition has a reason: the lock has sent the report again. It does so from its oldest
//! unacknowledged one to its newest, so what is behind a repetition is the next one, up to the newest of
//! all. A bridge that replaces its producer repeats, too; the broker calls that an error, which fails the
//! run if nobody announced it, so that it needs no excuse here.

use std::collections::{BTreeMap, BTreeSet};

use super::{Account, Broken, Payload, Value, is_dup, of_stream, place};
use crate::checker::evidence::Evidence;
use crate::checker::ledger::{Book, Page, Report};
use crate::kafka::reader::Record;
use crate::stack::{STATES, state_topic};

pub(super) fn check(account: &mut Account, book: &Book, evidence: &Evidence) {
    let mut locks: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in of_stream(evidence, STATES) {
        locks.entry(record.key.as_deref().unwrap_or_default()).or_default().push(record);
    }
    let nobody = Page::default();
    let mut tally = Tally::default();
    let everybody: BTreeSet<&str> =
        book.locks.keys().map(String::as_str).chain(locks.keys().copied()).collect();
    for id in everybody {
        let page = book.locks.get(id).unwrap_or(&nobody);
        let records = locks.get(id).map_or(&[][..], Vec::as_slice);
        one_lock(account, &mut tally, id, page, records);
    }
    let sent = book.locks.values().map(|page| page.reports.len() as u64).sum();
    let acked = book.locks.values().flat_map(|page| &page.reports).filter(|report| report.acked).count();
    account.count("locks", book.locks.len() as u64);
    account.count("reports sent", sent);
    account.count("reports acknowledged", acked as u64);
    account.count("reports stored", tally.stored);
    account.count("reports stored again, which say so", tally.again);
}

#[derive(Default)]
struct Tally {
    stored: u64,
    again: u64,
}

fn one_lock(account: &mut Account, tally: &mut Tally, id: &str, page: &Page, records: &[&Record]) {
    let (mut highest, mut last) = (0, 0);
    let mut skipped = BTreeSet::new();
    let mut times: BTreeMap<u64, u32> = BTreeMap::new();
    for record in records {
        if record.partition != records[0].partition {
            account.violate(Broken::Disorder, format!("{}: {id} is in another partition", place(record)));
        }
        let Some((n, sent)) = number(account, id, page, record) else { continue };
        let times = times.entry(n).or_default();
        *times += 1;
        let what = || format!("{}: report {n} of {id}", place(record));
        if skipped.remove(&n) {
            tally.stored += 1;
            account.violate(Broken::Disorder, format!("{} is behind {highest}", what()));
            continue;
        }
        if last < highest && n > last + 1 {
            account.violate(Broken::Disorder, format!("{} is behind a repetition of {last}", what()));
        }
        last = n;
        if n > highest {
            skipped.extend(highest + 1..n);
            highest = n;
            tally.stored += 1;
        } else if !is_dup(record) {
            account.violate(Broken::UnexplainedDuplicate, format!("{} is there already", what()));
        } else if *times > sent.times {
            let why = format!("{} is there {times} times, and was sent {} times", what(), sent.times);
            account.violate(Broken::UnexplainedDuplicate, why);
        } else {
            tally.again += 1;
        }
    }
    if last != highest {
        let why = format!("the last record of {id} is its report {last}, and {highest} came after that");
        account.violate(Broken::Disorder, why);
    }
    for (n, report) in (1..).zip(&page.reports) {
        let is_stored = n <= highest && !skipped.contains(&n);
        if report.acked && !is_stored {
            account.violate(Broken::LostReport, format!("report {n} of {id} was acknowledged"));
        } else if skipped.contains(&n) {
            let why = format!("report {n} of {id} was passed by a later one and never stored");
            account.violate(Broken::Disorder, why);
        }
    }
}

/// The number of a report that was sent as it is stored, and what was sent.
fn number<'a>(account: &mut Account, id: &str, page: &'a Page, record: &Record) -> Option<(u64, &'a Report)> {
    let value = Value::of(record).filter(|value| value.client_id == id && value.topic == state_topic(id));
    let payload = value.and_then(|value| value.payload()).unwrap_or_default();
    let n = Payload::of(&payload).n;
    let sent = usize::try_from(n).ok().and_then(|n| page.reports.get(n.checked_sub(1)?));
    match sent {
        Some(report) if report.payload == payload => Some((n, report)),
        Some(_) => {
            let why = format!("{}: report {n} of {id} was sent with other bytes", place(record));
            account.violate(Broken::AlteredRecord, why);
            None
        }
        None => {
            account.violate(Broken::UnknownRecord, format!("{}: {id} has not sent this", place(record)));
            None
        }
    }
}
