//! One decision for a batch: from records and what is known to rows of history and what is known
//! then. Pure, so that it can be tried on histories of thousands of records in milliseconds.
//!
//! Time is that of the records. It stands where the lane's streams have both been read to; whatever
//! was due before is written down before the record that moved it.
//!
//! Invariant: how records are cut into batches makes no difference, as long as their order is one.

mod command;
pub mod known;
mod report;

use std::time::Duration;

use latchline_shared::kit::config::{Validate, value};
use latchline_shared::kit::kafka::consumer::{Decoded, Record};
use latchline_shared::lock_state::{Pattern, Profiles};
use serde::Deserialize;
use serde_json::json;

use crate::event::{Direction, Event, Kind, Place, Severity};
use crate::finding::Finding;
use crate::process;
use crate::record::{Item, What};
use known::{Key, Known};

/// Nonces are kept at least this long (contract, section 4).
const NONCE_KEEP_MIN: Duration = Duration::from_secs(24 * 3600);

/// The `[judge]` table.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// How long a lock may take to report the result of a command.
    #[serde(rename = "result_timeout_ms", deserialize_with = "value::milliseconds")]
    pub result_timeout: Duration,
    /// How long after a result its command may come.
    #[serde(rename = "orphan_grace_ms", deserialize_with = "value::milliseconds")]
    pub orphan_grace: Duration,
    /// How long records may be on their way while nothing comes: so far is a quiet lane behind the
    /// clock.
    #[serde(rename = "idle_grace_ms", deserialize_with = "value::milliseconds")]
    pub idle_grace: Duration,
    /// How long nonces are kept.
    #[serde(rename = "nonce_keep_s", deserialize_with = "value::seconds")]
    pub nonce_keep: Duration,
    /// How long processes are kept, but for the last of each lock, which its heartbeats repeat.
    #[serde(rename = "process_keep_s", deserialize_with = "value::seconds")]
    pub process_keep: Duration,
    /// Who may command locks.
    pub publishers: Publishers,
    /// How locks number their states.
    pub profiles: Profiles,
}

/// The `[judge.publishers]` table. A `*` at the end of a name is a prefix.
#[derive(Debug, Clone, Deserialize)]
pub struct Publishers {
    /// Client ids; none means that anybody may.
    pub client_ids: Vec<Pattern>,
    /// User names, which are on record for attempts only; none means that anybody may.
    pub usernames: Vec<Pattern>,
}

impl Publishers {
    /// Whether neither the client id nor the user name, as far as it is on record, is listed.
    fn refuse(&self, client_id: &str, username: Option<&str>) -> bool {
        let is_listed = self.client_ids.iter().any(|pattern| pattern.matches(client_id))
            || username.is_some_and(|name| self.usernames.iter().any(|pattern| pattern.matches(name)));
        let is_judged = !self.client_ids.is_empty() || (username.is_some() && !self.usernames.is_empty());
        is_judged && !is_listed
    }
}

impl Validate for Settings {
    fn problems(&self, problems: &mut Vec<String>) {
        if self.nonce_keep < NONCE_KEEP_MIN {
            problems.push("judge.nonce_keep_s: must not be less than 86400, a day".to_owned());
        }
        for (name, duration) in [
            ("result_timeout_ms", self.result_timeout),
            ("orphan_grace_ms", self.orphan_grace),
            ("idle_grace_ms", self.idle_grace),
            ("process_keep_s", self.process_keep),
        ] {
            if duration.is_zero() {
                problems.push(format!("judge.{name}: must not be 0"));
            }
        }
    }
}

/// What a batch comes to, beside what is known then.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decision {
    /// Rows of history, in order.
    pub events: Vec<Event>,
    /// What is not history.
    pub quiet: Quiet,
}

/// Reports that are not history, by cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quiet {
    /// Nothing changed.
    pub heartbeats: u64,
    /// The state is another one, from before the last change.
    pub late: u64,
}

/// Judges the next records of a lane, by a clock that shows `now_ms`.
pub fn decide(
    known: &mut Known,
    lane: i16,
    settings: &Settings,
    batch: &[Decoded<Item>],
    now_ms: i64,
) -> Decision {
    let mut decision = Decision::default();
    for Decoded { record, item } in batch {
        // A broker whose clock is ahead must not make everything due.
        let at_ms = Some(item.at_ms.min(now_ms));
        match item.what {
            What::Report { .. } => known.clock.reports_at_ms = known.clock.reports_at_ms.max(at_ms),
            What::Command { .. } => known.clock.commands_at_ms = known.clock.commands_at_ms.max(at_ms),
            What::Attempt { .. } => {}
        }
        decision.events.extend(pass(known, lane));
        let context = Context { lane, settings, record, item };
        match &item.what {
            What::Report { is_of_one_lock, report } => {
                decision.events.extend(context.report(known, *is_of_one_lock, report, &mut decision.quiet));
            }
            What::Command { receiver, is_at_lock, examined } => {
                decision.events.push(context.command(known, receiver, *is_at_lock, examined));
            }
            What::Attempt { reason, examined } => {
                decision.events.push(context.attempt(known, reason, examined));
            }
        }
    }
    decision
}

/// Writes down what was due before the lane's time.
pub fn pass(known: &mut Known, lane: i16) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some((deadline_at_ms, key)) = known.next_due() {
        let Some(process) = known.processes.get(&key) else { continue };
        let (process, finding) = process::miss(process);
        events.push(missed(&key, &process, finding, deadline_at_ms));
        known.put_process(lane, key, process);
    }
    events
}

/// There is no record of what did not happen; what it is concluded from takes its place.
fn missed((lock, process_id): &Key, process: &process::Process, finding: Finding, at_ms: i64) -> Event {
    let evidence = json!({
        "finding": finding.name(),
        "client_id": lock,
        "process_id": process_id,
        "action": process.action,
        "delivered_at_ms": process.delivered_at_ms,
        "reported_at_ms": process.reported_at_ms,
        "deadline_at_ms": at_ms,
    });
    Event {
        occurred_at_ms: at_ms,
        direction: Direction::System,
        kind: Kind::Finding,
        client_id: lock.clone(),
        process_id: Some(process_id.clone()),
        action: process.action.clone(),
        findings: vec![finding.name().to_owned()],
        severity: finding.severity(),
        nonce_str: process.nonce.clone(),
        raw: evidence.to_string().into_bytes(),
        ..Event::default()
    }
}

/// What all records have in common when one is judged.
struct Context<'a> {
    lane: i16,
    settings: &'a Settings,
    record: &'a Record,
    item: &'a Item,
}

impl Context<'_> {
    /// The event with what the record says of itself.
    fn event(&self, kind: Kind, direction: Direction, findings: &[Finding], severity: Severity) -> Event {
        let (record, item) = (self.record, self.item);
        let worst = findings.iter().map(|finding| finding.severity()).max();
        Event {
            occurred_at_ms: item.at_ms,
            direction,
            kind,
            client_id: item.lock.clone(),
            publisher: Some(item.publisher.clone()),
            username: item.username.clone(),
            findings: findings.iter().map(|finding| finding.name().to_owned()).collect(),
            severity: severity.max(worst.unwrap_or_default()),
            raw: record.value.clone(),
            place: Place {
                stream: record.stream.to_string(),
                partition: record.partition,
                offset: record.offset,
            },
            mid: item.mid.clone(),
            node: Some(item.node.clone()),
            qos: Some(item.qos),
            ..Event::default()
        }
    }

    fn deadline_at_ms(&self, after: Duration) -> i64 {
        self.item.at_ms.saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
pub(crate) mod tests;
