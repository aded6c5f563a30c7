//! What others are told: each row of history with a bad verdict or with findings becomes a record on
//! the stream of findings (contract, section 7).
//!
//! A record is written as a row of the outbox, in the transaction of its history, and published by a
//! task of its own ([`latchline_shared::kit::outbox`]).
//!
//! Ordering: rows of one chain are written while its head is locked, so the records of a lock are
//! published in the order of its history.

use latchline_shared::fault::Fault;
use latchline_shared::finding::FindingRecord;
use latchline_shared::kit::config::value;
use latchline_shared::kit::outbox::{self, Message};
use serde::Deserialize;
use tokio_postgres::Transaction;

use crate::event::{Kind, Row};
use crate::verdict::Verdict;

/// The table of what is to be published.
pub const TABLE: &str = "auditor.outbox";

/// The `[findings]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The stream; none: nobody is told.
    #[serde(deserialize_with = "value::optional")]
    pub stream: Option<String>,
}

/// Writes down what is to be published of new rows, in their transaction; how many records that are.
pub async fn announce(transaction: &Transaction<'_>, rows: &[Row]) -> Result<usize, Fault> {
    let mut messages = Vec::new();
    for row in rows.iter().filter(|row| is_told(row)) {
        let value = serde_json::to_vec(&record(row)).map_err(|error| Fault::Bug(error.to_string().into()))?;
        messages.push(Message { key: row.event.client_id.clone(), value, headers: Vec::new() });
    }
    outbox::insert(transaction, TABLE, &messages).await?;
    Ok(messages.len())
}

fn is_told(row: &Row) -> bool {
    let event = &row.event;
    // The verdict of a result, how it ended, is none of these.
    let is_bad = Verdict::from_name(&event.verdict)
        .is_some_and(|verdict| !matches!(verdict, Verdict::Ok | Verdict::Duplicate | Verdict::Retransmit));
    !matches!(event.kind, Kind::Read | Kind::Admin) && (is_bad || !event.findings.is_empty())
}

fn record(row: &Row) -> FindingRecord {
    let event = &row.event;
    FindingRecord {
        client_id: event.client_id.clone(),
        at: event.occurred_at_ms,
        kind: event.kind.name().to_owned(),
        verdict: event.verdict.clone(),
        findings: event.findings.clone(),
        severity: event.severity.name().to_owned(),
        process_id: event.process_id.clone(),
        action: event.action.clone(),
        publisher: event.publisher.clone(),
        receiver: event.receiver.clone(),
        username: event.username.clone(),
        reason: event.reason.clone(),
        chain_id: row.chain_id,
        seq: row.seq,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Head;
    use crate::event::Event;

    #[test]
    fn what_is_bad_is_told() {
        let told = |kind, verdict: &str, findings: &[&str]| {
            let findings = findings.iter().map(|word| (*word).to_owned()).collect();
            let event = Event { kind, verdict: verdict.to_owned(), findings, ..Event::default() };
            is_told(&Head::genesis(0).link(0, event, 0, 0))
        };
        for (kind, verdict, expected) in [
            (Kind::Command, "ok", false),
            (Kind::Command, "duplicate", false),
            (Kind::Attempt, "retransmit", false),
            (Kind::Command, "replay", true),
            (Kind::Attempt, "replay", true),
            (Kind::Command, "nonce_conflict", true),
            (Kind::Command, "unverifiable", true),
            (Kind::Command, "bad_signature", true),
            (Kind::Command, "bad_format", true),
            (Kind::Command, "malformed", true),
            (Kind::Command, "stale", true),
            (Kind::Command, "future", true),
            (Kind::Result, "ok", false),
            (Kind::Result, "failed", false),
            (Kind::Result, "denied", false),
            (Kind::Change, "", false),
        ] {
            assert_eq!(told(kind, verdict, &[]), expected, "{kind:?} {verdict}");
            assert!(told(kind, verdict, &["unexpected_receiver"]), "{kind:?} {verdict}");
        }
        assert!(told(Kind::Finding, "", &["no_result"]));
        for kind in [Kind::Read, Kind::Admin] {
            assert!(!told(kind, "replay", &["no_result"]), "{kind:?}");
        }
    }
}
