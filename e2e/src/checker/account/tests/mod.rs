//! Made-up records: each fault must be found, and nothing else.

mod services;

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::checker::evidence::{Event, Notification, Offset, State};
use crate::checker::ledger::{Outage, Page, Part, Report, Said, Sent, Way};
use crate::stack::{ALARMS, COMMANDS, FINDINGS, REJECTED, STATES};

const LOCK: &str = "10083618796833171";
const REPORTS: u64 = 5;
/// The report that answers the command.
const RESULT: u64 = 3;
const COMMAND: &str = r#"{"process_id":"p1"}"#;

/// A world in which every promise is kept: five reports, the third of them the result of a command.
struct World {
    book: Book,
    evidence: Evidence,
}

fn report(n: u64) -> String {
    let process_id = if n < RESULT { "p0" } else { "p1" };
    format!(
        r#"{{ "process_id": "{process_id}", "action": "unlock", "battery": 83.4, "lock_state": 1, "n": {n} }}"#
    )
}

fn record(stream: &str, offset: i64, payload: &str, seq: &str, dup: bool) -> Record {
    let topic = if stream == STATES { "state" } else { "command" };
    let value = json!({
        "client_id": LOCK,
        "topic": format!("devices/{LOCK}/{topic}"),
        "payload": STANDARD.encode(payload),
        "reason": "stale",
    });
    let headers = [("seq", seq.to_owned()), ("dup", dup.to_string())];
    Record {
        stream: stream.to_owned(),
        partition: 2,
        offset,
        key: Some(LOCK.to_owned()),
        headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
        value: value.to_string().into_bytes(),
    }
}

fn event(kind: &str, stream: &str, offset: i64, process_id: &str, verdict: &str) -> Event {
    Event {
        kind: kind.to_owned(),
        lock: LOCK.to_owned(),
        process_id: process_id.to_owned(),
        verdict: verdict.to_owned(),
        findings: Vec::new(),
        place: (stream.to_owned(), 2),
        offset,
        row: (2, 0),
    }
}

/// A record of the auditor or the monitor.
fn published(stream: &str, value: serde_json::Value) -> Record {
    Record { value: value.to_string().into_bytes(), ..record(stream, 0, "", "", false) }
}

fn finding(seq: i64) -> Record {
    published(FINDINGS, json!({ "chain_id": 2, "seq": seq }))
}

/// A change of an alarm of which nobody should be told.
fn alarm(kind: &str) -> Record {
    change(kind, 1, false)
}

fn change(kind: &str, no: i32, notify: bool) -> Record {
    let value = json!({ "client_id": LOCK, "type": kind, "alarm_id": "a1", "no": no, "notify": notify });
    published(ALARMS, value)
}

fn notification(channel: &str) -> Notification {
    Notification {
        id: channel.to_owned(),
        event_type: "unlocked".to_owned(),
        channel: channel.to_owned(),
        lock: LOCK.to_owned(),
        process_id: "p1".to_owned(),
        alarm: None,
        status: "sent".to_owned(),
        ambiguous: 0,
    }
}

fn sent(said: Said, receipt_ms: Option<u64>) -> Sent {
    let (lock, payload, received) = (LOCK.to_owned(), COMMAND.into(), u32::from(receipt_ms.is_some()));
    Sent { lock, payload, at_ms: 100_000, times: 1, said, received, receipt_ms }
}

impl World {
    fn new() -> Self {
        let reports = (1..=REPORTS).map(|n| Report {
            payload: Bytes::from(report(n)),
            times: 1,
            acked: true,
            result_of: (n == RESULT).then(|| "p1".to_owned()),
        });
        let page = Page { reports: reports.collect(), granted_ms: vec![1], ..Page::default() };
        let book = Book {
            locks: [(LOCK.to_owned(), page)].into(),
            commands: [("p1".to_owned(), sent(Said::Acked, Some(100_100)))].into(),
            ..Book::default()
        };
        let states = (1..=REPORTS).map(|n| record(STATES, n as i64, &report(n), &format!("7-{n}"), false));
        let receipt = record(COMMANDS, 0, COMMAND, "7-1", false);
        let place = |stream: &str| (stream.to_owned(), 2);
        let end = REPORTS as i64 + 1;
        let offset = |service| Offset { service, place: place(STATES), next: end };
        let evidence = Evidence {
            records: states.chain([receipt]).collect(),
            ends: [(place(STATES), end), (place("message_state.auditor.dlq"), 0)].into(),
            offsets: ["auditor", "monitor", "notifier"].map(offset).into(),
            events: vec![
                event("command", COMMANDS, 0, "p1", "ok"),
                event("result", STATES, RESULT as i64, "p1", "ok"),
                event("change", STATES, RESULT as i64, "p1", ""),
            ],
            chains: None,
            awaited: Vec::new(),
            states: [(LOCK.to_owned(), State { last_offset: 5, lock_state: Some(1), battery: Some(83.4) })]
                .into(),
            notifications: vec![notification("email"), notification("sms")],
            arrivals: [("email".to_owned(), 1), ("sms".to_owned(), 1)].into(),
        };
        Self { book, evidence }
    }

    fn page(&mut self) -> &mut Page {
        self.book.locks.get_mut(LOCK).unwrap()
    }

    fn command(&mut self) -> &mut Sent {
        self.book.commands.get_mut("p1").unwrap()
    }

    /// These reports were sent twice.
    fn sent_again(&mut self, numbers: std::ops::RangeInclusive<u64>) {
        for n in numbers {
            self.page().reports[n as usize - 1].times = 2;
        }
    }

    /// Puts a record at a place in the stream.
    fn insert(&mut self, at: usize, record: Record) {
        self.evidence.records.insert(at, record);
    }

    fn broker_died(&mut self, from_ms: u64) {
        self.broker_ended(Way::Suddenly, from_ms);
    }

    fn broker_ended(&mut self, way: Way, from_ms: u64) {
        let until_ms = Some(from_ms + 500);
        self.book.outages.push(Outage { part: Part::Broker, way, from_ms, until_ms });
    }
}

/// What is found after a change to the world: exactly this, each as often.
fn check(name: &str, change: impl FnOnce(&mut World), expected: &[(Broken, u64)]) {
    let mut world = World::new();
    change(&mut world);
    let account = Account::of(&world.book, &world.evidence);
    let expected: BTreeMap<Broken, u64> = expected.iter().copied().collect();
    assert_eq!(account.broken, expected, "{name}\n{account}");
}

#[test]
fn a_world_that_keeps_its_promises_is_clean() {
    check("nothing", |_| {}, &[]);
    let world = World::new();
    let account = Account::of(&world.book, &world.evidence);
    assert!(account.is_clean());
    let counts = ["reports acknowledged", "reports stored", "commands that reached their locks"];
    assert_eq!(counts.map(|name| account.figure(name)), [REPORTS, REPORTS, 1]);
    assert!(account.to_string().contains("0  promises broken"), "{account}");
}

#[test]
fn what_is_excused_is_counted() {
    let mut world = World::new();
    assert_eq!(Account::of(&world.book, &world.evidence).excused(), 0);
    world.command().receipt_ms = None;
    world.broker_died(50_000);
    world.broker_died(100_500);
    let account = Account::of(&world.book, &world.evidence);
    assert_eq!(account.excused(), 1);
    // By the end that explains it, and by no other.
    let loss = |at_ms, commands| Loss { at_ms, commands, receipts: 0, lost_max: 40, receipts_max: 40 };
    assert_eq!(account.losses(), [loss(50_000, 0), loss(100_500, 1)]);
}

#[test]
fn who_ends_in_order_may_lose_the_few_receipts_that_are_on_the_wire() {
    for (way, receipts, is_explained) in [
        (Way::InOrder, 3, true),
        (Way::InOrder, 4, false),
        (Way::Suddenly, 40, true),
        (Way::Suddenly, 41, false),
    ] {
        let mut world = World::new();
        for n in 0..receipts {
            let command = Sent { payload: format!("{n}").into(), ..sent(Said::Acked, Some(100_100)) };
            world.book.commands.insert(format!("lost {n}"), command);
        }
        world.broker_ended(way, 100_500);
        let account = Account::of(&world.book, &world.evidence);
        let [loss] = account.losses() else { panic!("one end") };
        assert_eq!((loss.commands, loss.receipts), (0, receipts));
        assert_eq!(loss.is_explained(), is_explained, "{way:?} {loss:?}");
    }
    // Commands that had not reached their locks are none of them: their memory ends with it.
    let loss = Loss { at_ms: 1, commands: 30, receipts: 3, lost_max: 40, receipts_max: 3 };
    assert!(loss.is_explained());
    assert!(!Loss { commands: 38, ..loss }.is_explained());
}

#[test]
fn reports_are_accounted_for() {
    check(
        "lost",
        |world| drop(world.evidence.records.remove(1)),
        &[(Broken::LostReport, 1), (Broken::Gap, 1)],
    );
    let last = REPORTS as usize - 1;
    check(
        "the last is lost",
        |world| drop(world.evidence.records.remove(last)),
        &[(Broken::LostReport, 1), (Broken::WrongState, 1)],
    );
    check(
        "the last was not acknowledged and is not there",
        |world| {
            world.page().reports[last].acked = false;
            world.evidence.records.remove(last);
            let state = world.evidence.states.get_mut(LOCK).unwrap();
            state.last_offset -= 1;
        },
        &[],
    );
    check(
        "one that was not acknowledged is passed",
        |world| {
            world.page().reports[1].acked = false;
            world.evidence.records.remove(1);
        },
        &[(Broken::Disorder, 1), (Broken::Gap, 1)],
    );
    check(
        "other bytes",
        |world| {
            world.evidence.records[1] = record(STATES, 2, &report(2).replace("83.4", "83.5"), "7-2", false)
        },
        &[(Broken::AlteredRecord, 1), (Broken::LostReport, 1)],
    );
    check(
        "nobody has sent it",
        |world| world.insert(5, record(STATES, 6, &report(9), "7-6", false)),
        &[(Broken::UnknownRecord, 1), (Broken::WrongState, 1)],
    );
}

#[test]
fn order_and_repetitions_are_accounted_for() {
    check(
        "a pair is swapped by the broker",
        |world| {
            world.evidence.records.swap(1, 2);
        },
        // Behind a later one, and a number that was skipped and another that went back.
        &[(Broken::Disorder, 1), (Broken::Gap, 1), (Broken::UnexplainedDuplicate, 1)],
    );
    check(
        "a pair is swapped before it is numbered, and says dup",
        |world| {
            world.evidence.records[1] = record(STATES, 2, &report(3), "7-2", true);
            world.evidence.records[2] = record(STATES, 3, &report(2), "7-3", true);
        },
        &[(Broken::Disorder, 1)],
    );
    check(
        "sent again by the lock on another connection",
        |world| {
            world.sent_again(4..=5);
            world.insert(5, record(STATES, 6, &report(4), "8-1", true));
            world.insert(6, record(STATES, 7, &report(5), "8-2", true));
            world.evidence.states.get_mut(LOCK).unwrap().last_offset = 7;
        },
        &[],
    );
    check(
        "sent again, and the first copy was never stored",
        |world| {
            world.sent_again(5..=5);
            world.evidence.records[4] = record(STATES, 5, &report(5), "8-1", true);
        },
        &[],
    );
    check(
        "sent again twice, as is said, and only half of it is there",
        |world| {
            world.sent_again(4..=5);
            world.page().reports[3].times = 3;
            world.insert(5, record(STATES, 6, &report(4), "8-1", true));
            world.insert(6, record(STATES, 7, &report(5), "9-1", true));
            world.evidence.states.get_mut(LOCK).unwrap().last_offset = 7;
        },
        &[],
    );
    check(
        "stored again by the broker, though its client has sent it once",
        |world| {
            world.insert(5, record(STATES, 6, &report(5), "7-6", true));
        },
        &[(Broken::UnexplainedDuplicate, 1)],
    );
    check(
        "stored again by the bridge, which has no reason",
        |world| world.insert(5, record(STATES, 6, &report(5), "7-5", true)),
        // More often than it was sent, and a number that was there.
        &[(Broken::UnexplainedDuplicate, 2)],
    );
    check(
        "an older one is the last",
        |world| {
            world.sent_again(3..=5);
            world.insert(5, record(STATES, 6, &report(3), "8-1", true));
            world.evidence.states.get_mut(LOCK).unwrap().last_offset = 6;
        },
        &[(Broken::Disorder, 1)],
    );
    check(
        "one is left out of what is sent again",
        |world| {
            world.sent_again(3..=5);
            world.insert(5, record(STATES, 6, &report(3), "8-1", true));
            world.insert(6, record(STATES, 7, &report(5), "8-2", true));
            world.evidence.states.get_mut(LOCK).unwrap().last_offset = 7;
        },
        &[(Broken::Disorder, 1)],
    );
    check(
        "sent again and not marked",
        |world| {
            world.sent_again(5..=5);
            world.insert(5, record(STATES, 6, &report(5), "8-1", false));
        },
        // And the monitor should have taken it for another one.
        &[(Broken::UnexplainedDuplicate, 1), (Broken::WrongState, 1)],
    );
    check(
        "stored twice and not marked",
        |world| world.insert(5, record(STATES, 6, &report(5), "7-5", false)),
        &[(Broken::UnexplainedDuplicate, 2), (Broken::WrongState, 1)],
    );
    check("another partition", |world| world.evidence.records[4].partition = 3, &[(Broken::Disorder, 1)]);
    check("no seq", |world| drop(world.evidence.records[5].headers.remove("seq")), &[(Broken::Gap, 1)]);
}

#[test]
fn commands_are_accounted_for() {
    let forget = |world: &mut World| {
        world.command().receipt_ms = None;
        world.evidence.records.pop();
        world.evidence.events.remove(0);
    };
    check("lost", forget, &[(Broken::LostCommand, 1)]);
    check(
        "lost with the broker",
        |world| {
            forget(world);
            world.broker_died(100_500);
        },
        &[],
    );
    check(
        "lost, and the broker died long after it",
        |world| {
            forget(world);
            world.broker_died(160_000);
        },
        &[(Broken::LostCommand, 1)],
    );
    let no_receipt = |world: &mut World| {
        world.evidence.records.pop();
        world.evidence.events[0] = event("finding", STATES, RESULT as i64, "p1", "");
        world.evidence.events[0].findings = vec!["orphan_result".to_owned()];
        world.evidence.records.extend([finding(0), alarm("security_orphan_result")]);
    };
    check(
        "the receipt is lost, and the history says so",
        no_receipt,
        &[(Broken::LostReceipt, 1), (Broken::WrongVerdict, 1)],
    );
    check(
        "the receipt is lost with the broker",
        |world| {
            no_receipt(world);
            world.broker_died(100_200);
        },
        &[],
    );
    check(
        "a receipt without a PUBACK",
        |world| world.command().receipt_ms = None,
        &[(Broken::LostCommand, 1), (Broken::UnknownRecord, 1)],
    );
    check(
        "a refusal that is not on record",
        |world| world.command().said = Said::Refused(0x87),
        &[(Broken::LostRefusal, 1)],
    );
    let unexplained = || vec![(Broken::UnexplainedDuplicate, 1)];
    for (dup, received, expected) in [(true, 2, vec![]), (true, 1, unexplained()), (false, 2, unexplained())]
    {
        check(
            "a receipt twice",
            |world| {
                world.command().received = received;
                world.insert(6, record(COMMANDS, 1, COMMAND, "7-2", dup));
                world.evidence.events.push(event("command", COMMANDS, 1, "p1", "duplicate"));
            },
            &expected,
        );
    }
    for (times, expected) in [(2, vec![]), (1, unexplained())] {
        check(
            "two refusals",
            |world| {
                world.command().said = Said::Refused(0x87);
                world.command().times = times;
                for offset in 0..2 {
                    world.insert(6, record(REJECTED, offset, COMMAND, "9-1", false));
                    world.evidence.events.push(event("attempt", REJECTED, offset, "p1", "retransmit"));
                }
            },
            &expected,
        );
    }
}

#[test]
fn a_long_list_is_bounded() {
    let mut account = Account::default();
    for n in 0..10 * VIOLATIONS_MAX {
        account.violate(Broken::Gap, n.to_string());
    }
    assert_eq!((account.broken(Broken::Gap), account.violations.len()), (2_000, VIOLATIONS_MAX));
    assert_eq!(account.to_string().lines().count(), 1 + PRINTED_MAX);
    account.violate(Broken::LostReport, String::new());
    assert_eq!(account.broken_in_words(), "1 lost report, 2000 gap");
}
