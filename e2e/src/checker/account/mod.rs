//! What was promised against what is there. Pure: [`Book`] and [`Evidence`] are compared, nothing is
//! asked and nothing waits.
//!
//! | part | looks at |
//! |---|---|
//! | [`reports`] | each acknowledged report is in Kafka with its bytes, in the order of its lock |
//! | [`commands`] | each acknowledged command reached its lock, each acknowledgement of a lock is in Kafka |
//! | [`sequence`] | the bridge's own numbers are without gaps, and none is there twice |
//! | [`history`] | each record is in the audit history once, judged rightly |
//! | [`findings`] | what the history finds is on its stream and raises an alarm, and nothing else does |
//! | [`told`] | each result and each alarm is told once on each channel, more only after an ambiguous attempt |
//! | [`services`] | everything was read, nothing was put aside, the monitor knows the last report |
//!
//! What is there twice says so, and is there no more often than its sender has sent it.
//!
//! What the broker's documented non-guarantees (docs/limits.md) let be lost is counted, not held
//! against it, and only where the broker went away at that very time.

mod commands;
mod findings;
mod history;
mod reports;
mod sequence;
mod services;
#[cfg(test)]
mod tests;
mod told;

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use latchline_shared::words;
use serde::{Deserialize, Serialize};

use crate::checker::evidence::Evidence;
use crate::checker::ledger::{Book, Outage};
use crate::kafka::reader::Record;

/// Most violations that are kept; all are counted.
const VIOLATIONS_MAX: usize = 200;
/// Most violations of one kind that are printed.
const PRINTED_MAX: usize = 10;

/// Names of the figures of what is excused: commands, and receipts.
const EXCUSED: [&str; 2] = [
    "commands lost in the memory of a broker that ended",
    "receipts lost in the memory of a broker that ended",
];

/// What an end of the broker took with it: of which nothing else explains that it is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// When it ended.
    pub at_ms: u64,
    /// Acknowledged commands.
    pub commands: u64,
    /// Receipts of locks.
    pub receipts: u64,
    /// Most of both that it may have had in its memory, or on the wire.
    pub lost_max: u64,
    /// Most receipts among them.
    pub receipts_max: u64,
}

impl Loss {
    fn of(book: &Book, end: &Outage) -> Self {
        let (lost_max, receipts_max) = (book.lost_max(end), book.lost_receipts_max(end));
        Self { at_ms: end.from_ms, commands: 0, receipts: 0, lost_max, receipts_max }
    }

    /// Whether it is no more than such an end takes with it.
    pub fn is_explained(&self) -> bool {
        self.commands + self.receipts <= self.lost_max && self.receipts <= self.receipts_max
    }
}

words! {
    /// A promise that was not kept.
    Broken {
        /// An acknowledged report is not in Kafka.
        LostReport = "lost report",
        /// A record has other bytes than what was sent.
        AlteredRecord = "altered record",
        /// A record of something that nobody sent.
        UnknownRecord = "unknown record",
        /// A record is there twice and does not say so, or more often than anybody has sent it.
        UnexplainedDuplicate = "unexplained duplicate",
        /// A record is behind a later one of its lock, or on another partition.
        Disorder = "disorder",
        /// A number of the bridge is missing.
        Gap = "gap",
        /// An acknowledged command did not reach its lock.
        LostCommand = "lost command",
        /// A lock's acknowledgement is not in Kafka.
        LostReceipt = "lost receipt",
        /// A refusal is not in Kafka.
        LostRefusal = "lost refusal",
        /// A record is not in the audit history.
        MissingEvent = "missing event",
        /// A record is in the audit history twice.
        RepeatedEvent = "repeated event",
        /// The audit history judges wrongly, or finds what was not.
        WrongVerdict = "wrong verdict",
        /// The audit history's chains are not whole.
        BrokenChain = "broken chain",
        /// The auditor waits for what it has: it would find it missing later.
        StillAwaited = "still awaited",
        /// Something was found, and its record or its alarm is not there.
        Unpublished = "unpublished finding",
        /// An alarm that nothing of what happened explains.
        FalseAlarm = "false alarm",
        /// A result, or an alarm, that somebody was not told of.
        Untold = "untold",
        /// Somebody was told too often, or of what was not.
        ToldTooOften = "told too often",
        /// A message that no notification is about.
        UnknownMessage = "unknown message",
        /// A service has not read everything, or has put records aside.
        Unread = "unread",
        /// The monitor takes a lock for what it is not.
        WrongState = "wrong state",
        /// What a client saw on the wire.
        Protocol = "protocol",
    }
}

/// The result: figures, and what is wrong.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// What was counted, in the order of the path of a message.
    counts: Vec<(&'static str, u64)>,
    /// How often each promise was broken.
    broken: BTreeMap<Broken, u64>,
    /// The first of them, in words.
    violations: Vec<(Broken, String)>,
    /// What each end of the broker explains.
    losses: Vec<Loss>,
}

impl Account {
    /// Compares.
    pub fn of(book: &Book, evidence: &Evidence) -> Self {
        let losses = book.ends_of_broker().map(|end| Loss::of(book, end)).collect();
        let mut account = Self { losses, ..Self::default() };
        for why in &book.broken {
            account.violate(Broken::Protocol, why.clone());
        }
        account.count("connections that ended", book.breaks);
        account.count("of them against MQTT", book.broken_count);
        reports::check(&mut account, book, evidence);
        commands::check(&mut account, book, evidence);
        sequence::check(&mut account, evidence);
        history::check(&mut account, book, evidence);
        findings::check(&mut account, evidence);
        told::check(&mut account, book, evidence);
        services::check(&mut account, book, evidence);
        account
    }

    /// Whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.broken.is_empty()
    }

    /// Which promises were broken and how often, in words.
    pub fn broken_in_words(&self) -> String {
        let words: Vec<String> = self.broken.iter().map(|(what, count)| format!("{count} {what}")).collect();
        words.join(", ")
    }

    /// How often a promise was broken.
    pub fn broken(&self, what: Broken) -> u64 {
        self.broken.get(&what).copied().unwrap_or(0)
    }

    /// A figure by its name; 0 if there is none.
    pub fn figure(&self, name: &str) -> u64 {
        self.counts.iter().find(|(counted, _)| *counted == name).map_or(0, |(_, count)| *count)
    }

    /// All figures, in the order of the path of a message.
    pub fn figures(&self) -> &[(&'static str, u64)] {
        &self.counts
    }

    /// How much is not there and was not promised: what a broker that ended had in its memory.
    pub fn excused(&self) -> u64 {
        EXCUSED.iter().map(|name| self.figure(name)).sum()
    }

    /// The same by the ends of the broker, in their order.
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// Something is not there, and this end of the broker explains it.
    fn excuse(&mut self, end_ms: u64, what: impl Fn(&mut Loss) -> &mut u64) {
        if let Some(loss) = self.losses.iter_mut().find(|loss| loss.at_ms == end_ms) {
            *what(loss) += 1;
        }
    }

    fn count(&mut self, name: &'static str, count: u64) {
        self.counts.push((name, count));
    }

    fn violate(&mut self, what: Broken, why: String) {
        *self.broken.entry(what).or_default() += 1;
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push((what, why));
        }
    }
}

/// A table for people.
impl fmt::Display for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in &self.counts {
            writeln!(formatter, "{count:>10}  {name}")?;
        }
        if self.is_clean() {
            return writeln!(formatter, "{:>10}  promises broken", 0);
        }
        for (what, count) in &self.broken {
            writeln!(formatter, "{count:>10}  BROKEN: {what}")?;
            let of_kind = self.violations.iter().filter(|(kind, _)| kind == what);
            for (_, why) in of_kind.take(PRINTED_MAX) {
                writeln!(formatter, "{:>14}{why}", "")?;
            }
        }
        Ok(())
    }
}

/// What is read of a record's value, whichever message hook it is of. By hand, so that a mistake in the
/// product's own reader does not hide one in its writer.
#[derive(Debug, Deserialize)]
struct Value {
    client_id: String,
    topic: String,
    payload: String,
    #[serde(default)]
    reason: String,
}

impl Value {
    fn of(record: &Record) -> Option<Self> {
        serde_json::from_slice(&record.value).ok()
    }

    fn payload(&self) -> Option<Vec<u8>> {
        STANDARD.decode(&self.payload).ok()
    }
}

/// What is read of a message's payload.
#[derive(Debug, Default, Deserialize)]
struct Payload {
    #[serde(default)]
    process_id: String,
    #[serde(default)]
    action: String,
    #[serde(default)]
    n: u64,
    #[serde(default)]
    battery: f32,
    #[serde(default)]
    lock_state: i64,
}

impl Payload {
    fn of(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }
}

fn of_stream<'a>(evidence: &'a Evidence, stream: &'a str) -> impl Iterator<Item = &'a Record> {
    evidence.records.iter().filter(move |record| record.stream == stream)
}

fn is_dup(record: &Record) -> bool {
    record.header("dup") == "true"
}

/// Where a record is, for people.
fn place(record: &Record) -> String {
    format!("{}/{}@{}", record.stream, record.partition, record.offset)
}
