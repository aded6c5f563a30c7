//! What the auditor found, as alarms: its verdicts and findings map one to one to types.

use latchline_shared::alarm::{AlarmType, Origin};
use serde_json::Value;

use super::threshold::RuleSet;
use crate::signal::{Signal, What};

/// What the auditor found about a record, in its words.
#[derive(Debug, Clone, Copy)]
pub struct Finding<'a> {
    /// What the record is: `command`, `attempt`, `result`, `change`, `finding`.
    pub kind: &'a str,
    /// Verdict of a command.
    pub verdict: &'a str,
    /// What is wrong beside it.
    pub findings: &'a [String],
    /// When it happened, in Unix milliseconds.
    pub at_ms: i64,
    /// For people.
    pub value: &'a Value,
}

/// Adds the signals of a finding, each type once. Returns how many of its words are not known: those
/// of a newer auditor, which should be counted.
pub fn of_finding(rules: &RuleSet, finding: &Finding<'_>, signals: &mut Vec<Signal>) -> usize {
    let verdict = match finding.kind {
        "command" => of_verdict(finding.verdict),
        // Whatever it was, it was refused.
        "attempt" => match of_verdict(finding.verdict) {
            Meaning::Nothing => Meaning::Alarm(AlarmType::SecurityRefused),
            other => other,
        },
        _ => Meaning::Nothing,
    };
    let mut unknown = 0;
    for meaning in std::iter::once(verdict).chain(finding.findings.iter().map(|word| of_word(word))) {
        match meaning {
            Meaning::Nothing => {}
            Meaning::Alarm(alarm) => signals.extend(signal(rules, finding, alarm)),
            Meaning::Unknown => unknown += 1,
        }
    }
    unknown
}

enum Meaning {
    Nothing,
    Alarm(AlarmType),
    Unknown,
}

fn of_verdict(verdict: &str) -> Meaning {
    use AlarmType as A;
    Meaning::Alarm(match verdict {
        "" | "ok" | "duplicate" | "retransmit" => return Meaning::Nothing,
        "malformed" => A::SecurityMalformed,
        "bad_format" => A::SecurityBadFormat,
        "unverifiable" => A::SecurityUnverifiable,
        "bad_signature" => A::SecurityBadSignature,
        "stale" => A::SecurityStale,
        "future" => A::SecurityFuture,
        "nonce_conflict" => A::SecurityNonceConflict,
        "replay" => A::SecurityReplay,
        _ => return Meaning::Unknown,
    })
}

fn of_word(word: &str) -> Meaning {
    use AlarmType as A;
    Meaning::Alarm(match word {
        // Rules of our own look at the reports themselves.
        "unknown_lock_state" | "invalid_report" => return Meaning::Nothing,
        "no_result" => A::CommandNoResult,
        "unexpected_receiver" => A::SecurityUnexpectedReceiver,
        "identity_mismatch" => A::SecurityIdentityMismatch,
        "unauthorised_publisher" => A::SecurityUnauthorisedPublisher,
        "process_id_reuse" => A::SecurityProcessIdReuse,
        "orphan_result" => A::SecurityOrphanResult,
        "result_mismatch" => A::SecurityResultMismatch,
        "log_truncated" => A::SecurityLogTruncated,
        _ => return Meaning::Unknown,
    })
}

fn signal(rules: &RuleSet, finding: &Finding<'_>, alarm: AlarmType) -> Option<Signal> {
    let severity = rules.severity(alarm)?;
    let what = if alarm.is_momentary() { What::Occur(severity) } else { What::Begin(severity) };
    let (at_ms, value) = (finding.at_ms, finding.value.clone());
    Some(Signal { alarm, at_ms, what, value, origin: Origin::Finding })
}
