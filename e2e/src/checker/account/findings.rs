//! What the audit history finds: each such row is on the stream of findings at least once, and raises its
//! alarm. Nothing else raises one: these locks are well.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{Account, Broken, of_stream, place};
use crate::checker::evidence::{Event, Evidence};
use crate::kafka::reader::Record;
use crate::stack::{ALARMS, FINDINGS};

/// What is read of a record of a finding.
#[derive(Debug, Deserialize)]
struct Finding {
    chain_id: i16,
    seq: i64,
}

/// What is read of a record of a change of an alarm.
#[derive(Debug, Deserialize)]
pub(super) struct Alarm {
    pub(super) client_id: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) alarm_id: String,
    pub(super) no: i32,
    pub(super) notify: bool,
}

impl Alarm {
    pub(super) fn of(record: &Record) -> serde_json::Result<Self> {
        serde_json::from_slice(&record.value)
    }
}

pub(super) fn check(account: &mut Account, evidence: &Evidence) {
    let bad: Vec<&Event> = evidence.events.iter().filter(|event| !words(event).is_empty()).collect();
    published(account, evidence, &bad);
    alarms(account, evidence, &bad);
}

/// What is wrong with a row of history.
fn words(event: &Event) -> Vec<&str> {
    let is_judged = matches!(event.kind.as_str(), "command" | "attempt");
    let is_bad = is_judged && !matches!(event.verdict.as_str(), "" | "ok" | "duplicate" | "retransmit");
    let verdict = is_bad.then_some(event.verdict.as_str());
    verdict.into_iter().chain(event.findings.iter().map(String::as_str)).collect()
}

fn published(account: &mut Account, evidence: &Evidence, bad: &[&Event]) {
    let rows: BTreeSet<(i16, i64)> = bad.iter().map(|event| event.row).collect();
    let mut found = BTreeSet::new();
    let mut again = 0;
    for record in of_stream(evidence, FINDINGS) {
        let row = serde_json::from_slice::<Finding>(&record.value).ok().map(|it| (it.chain_id, it.seq));
        match row.filter(|row| rows.contains(row)) {
            Some(row) => again += u64::from(!found.insert(row)),
            None => {
                let why = format!("{}: the history finds nothing at {row:?}", place(record));
                account.violate(Broken::UnknownRecord, why);
            }
        }
    }
    for event in bad.iter().filter(|event| !found.contains(&event.row)) {
        account.violate(Broken::Unpublished, format!("{event:?}"));
    }
    account.count("findings published", found.len() as u64);
    account.count("findings published again", again);
}

fn alarms(account: &mut Account, evidence: &Evidence, bad: &[&Event]) {
    let explained: BTreeSet<(String, String)> =
        bad.iter().flat_map(|event| words(event).into_iter().map(|word| alarm(&event.lock, word))).collect();
    let mut raised = BTreeSet::new();
    let mut changes = 0_u64;
    for record in of_stream(evidence, ALARMS) {
        changes += 1;
        match Alarm::of(record).map(|it| (it.client_id, it.kind)) {
            Ok(alarm) if explained.contains(&alarm) => drop(raised.insert(alarm)),
            Ok((lock, kind)) => {
                account.violate(Broken::FalseAlarm, format!("{}: `{kind}` of {lock}", place(record)));
            }
            Err(error) => account.violate(Broken::UnknownRecord, format!("{}: {error}", place(record))),
        }
    }
    for (lock, kind) in explained.difference(&raised) {
        account.violate(Broken::Unpublished, format!("no alarm `{kind}` of {lock}"));
    }
    account.count("alarms of findings", raised.len() as u64);
    account.count("changes of alarms", changes);
}

/// The lock and type of the alarm that a finding raises.
fn alarm(lock: &str, word: &str) -> (String, String) {
    let kind = if word == "no_result" { "command_no_result".to_owned() } else { format!("security_{word}") };
    (lock.to_owned(), kind)
}
