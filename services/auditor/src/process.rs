//! A command and its result, joined by (lock, process): what happens to the row that joins them.
//!
//! Either half may come first: a lock may report before its acknowledgement is on record. Whichever
//! it is waits for the other until a deadline, by the time of the records.
//!
//! Invariant: a process has one result, the first report that names it; and one command, the first
//! that verified. A command that did not verify is remembered only so that the lock's refusal of it
//! is no result without a command; it never stands in the way of one that does.

use latchline_shared::command::{Action, Command};
use latchline_shared::report::Said;

use crate::finding::Finding;
use crate::verdict::Verdict;

/// What is known of a process; times in Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// What was commanded; while no command is known, what was reported.
    pub action: Option<String>,
    /// Of the command, if it verified.
    pub nonce: Option<String>,
    /// When it was signed.
    pub commanded_at_ms: Option<i64>,
    /// When the lock acknowledged it.
    pub delivered_at_ms: Option<i64>,
    /// When the lock reported the result.
    pub reported_at_ms: Option<i64>,
    /// The result.
    pub outcome: Option<Said>,
    /// Of the command; none while no command is known.
    pub verdict: Option<Verdict>,
    /// When the other half is missed.
    pub deadline_at_ms: Option<i64>,
    /// The lane that watches the deadline.
    pub lane: i16,
    /// When it last changed.
    pub updated_at_ms: i64,
}

/// A command on record.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// The command.
    pub command: &'a Command,
    /// Its verdict.
    pub verdict: Verdict,
    /// Whether the lock has it, or somebody else.
    pub is_at_lock: bool,
    /// When the broker saw the acknowledgement.
    pub at_ms: i64,
    /// The lane.
    pub lane: i16,
    /// When the result is missed.
    pub deadline_at_ms: i64,
}

/// A report that answers a command.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// What the lock was told, as it says.
    pub action: Action,
    /// How it ended.
    pub outcome: Said,
    /// When the broker saw the report.
    pub at_ms: i64,
    /// The lane.
    pub lane: i16,
    /// When the command is missed.
    pub deadline_at_ms: i64,
}

/// What a command does to its process: the process as it is then, if it changes, and what is wrong.
pub fn deliver(known: Option<&Process>, delivery: &Delivery<'_>) -> (Option<Process>, Option<Finding>) {
    let opens = matches!(delivery.verdict, Verdict::Ok | Verdict::Stale | Verdict::Future);
    let is_signed = opens
        || matches!(
            delivery.verdict,
            Verdict::NonceConflict | Verdict::Duplicate | Verdict::Retransmit | Verdict::Replay
        );
    match known {
        Some(known) if known.nonce.is_some() => {
            let is_same = known.nonce.as_deref() == Some(&delivery.command.nonce);
            match (is_signed, is_same) {
                (true, false) => (None, Some(Finding::ProcessIdReuse)),
                (true, true) => (arrive(known, delivery), None),
                (false, _) => (None, None),
            }
        }
        known if opens => open(known, delivery),
        Some(known) if known.verdict.is_some() => (None, None),
        known => (Some(remember(known, delivery)), None),
    }
}

/// The first command that verified.
fn open(known: Option<&Process>, delivery: &Delivery<'_>) -> (Option<Process>, Option<Finding>) {
    let outcome = known.and_then(|known| known.outcome);
    let action = delivery.command.action.name();
    // Without a verdict the row is the report's alone, and so is its action.
    let is_mismatch = known.is_some_and(|known| {
        known.verdict.is_none() && known.outcome.is_some() && known.action.as_deref() != Some(action)
    });
    let waits = delivery.verdict == Verdict::Ok && delivery.is_at_lock && outcome.is_none();
    let process = Process {
        action: Some(action.to_owned()),
        nonce: Some(delivery.command.nonce.clone()),
        commanded_at_ms: delivery.command.ts.checked_mul(1_000),
        delivered_at_ms: delivery.is_at_lock.then_some(delivery.at_ms),
        reported_at_ms: known.and_then(|known| known.reported_at_ms),
        outcome,
        verdict: Some(delivery.verdict),
        deadline_at_ms: waits.then_some(delivery.deadline_at_ms),
        lane: delivery.lane,
        updated_at_ms: delivery.at_ms,
    };
    (Some(process), is_mismatch.then_some(Finding::ResultMismatch))
}

/// The same command once more. That somebody else acknowledged it first does not mean that the lock
/// had it: its own acknowledgement starts the wait for the result.
fn arrive(known: &Process, delivery: &Delivery<'_>) -> Option<Process> {
    let is_same_message = matches!(delivery.verdict, Verdict::Duplicate | Verdict::Retransmit);
    if !is_same_message || !delivery.is_at_lock || known.delivered_at_ms.is_some() {
        return None;
    }
    let waits = known.verdict == Some(Verdict::Ok) && known.outcome.is_none();
    Some(Process {
        delivered_at_ms: Some(delivery.at_ms),
        deadline_at_ms: waits.then_some(delivery.deadline_at_ms),
        lane: delivery.lane,
        updated_at_ms: delivery.at_ms,
        ..known.clone()
    })
}

/// A command that counts for nothing, of which nothing but this is known.
fn remember(known: Option<&Process>, delivery: &Delivery<'_>) -> Process {
    Process {
        action: Some(delivery.command.action.name().to_owned()),
        nonce: None,
        commanded_at_ms: None,
        delivered_at_ms: delivery.is_at_lock.then_some(delivery.at_ms),
        reported_at_ms: known.and_then(|known| known.reported_at_ms),
        outcome: known.and_then(|known| known.outcome),
        verdict: Some(delivery.verdict),
        deadline_at_ms: None,
        lane: delivery.lane,
        updated_at_ms: delivery.at_ms,
    }
}

/// What a report does to the process that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// It is the result.
    Result(Process, Option<Finding>),
    /// The result is known already.
    Echo,
}

/// See [`Reported`].
pub fn report(known: Option<&Process>, answer: &Answer) -> Reported {
    let action = answer.action.name();
    let Some(known) = known else {
        return Reported::Result(
            Process {
                action: Some(action.to_owned()),
                nonce: None,
                commanded_at_ms: None,
                delivered_at_ms: None,
                reported_at_ms: Some(answer.at_ms),
                outcome: Some(answer.outcome),
                verdict: None,
                deadline_at_ms: Some(answer.deadline_at_ms),
                lane: answer.lane,
                updated_at_ms: answer.at_ms,
            },
            None,
        );
    };
    if known.outcome.is_some() {
        return Reported::Echo;
    }
    let is_mismatch = known.nonce.is_some() && known.action.as_deref() != Some(action);
    let process = Process {
        reported_at_ms: Some(answer.at_ms),
        outcome: Some(answer.outcome),
        deadline_at_ms: None,
        lane: answer.lane,
        updated_at_ms: answer.at_ms,
        ..known.clone()
    };
    Reported::Result(process, is_mismatch.then_some(Finding::ResultMismatch))
}

/// The deadline has passed: what is missing, and the process that waits no more.
pub fn miss(known: &Process) -> (Process, Finding) {
    let finding = match known.verdict {
        Some(_) => Finding::NoResult,
        None => Finding::OrphanResult,
    };
    (Process { deadline_at_ms: None, ..known.clone() }, finding)
}
