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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::load::Rules;

    fn check(kind: &str, verdict: &str, findings: &[&str], expected: &[&str]) {
        let rules = Rules::load(None).expect("the default is valid");
        let findings: Vec<String> = findings.iter().map(|word| (*word).to_owned()).collect();
        let value = Value::from("why");
        let finding = Finding { kind, verdict, findings: &findings, at_ms: 7, value: &value };
        let mut signals = Vec::new();
        let unknown = of_finding(rules.base(), &finding, &mut signals);
        assert!(signals.iter().all(|signal| (signal.at_ms, signal.origin) == (7, Origin::Finding)));
        assert!(signals.iter().all(|signal| signal.value == value));
        let mut shown: Vec<String> =
            signals.iter().map(|signal| format!("{} {:?}", signal.alarm, signal.what)).collect();
        shown.extend((unknown > 0).then(|| format!("{unknown} unknown")));
        assert_eq!(shown, expected, "{kind} {verdict} {findings:?}");
    }

    #[test]
    fn verdicts_of_commands_are_alarms() {
        for (verdict, expected) in [
            ("ok", None),
            ("duplicate", None),
            ("retransmit", None),
            ("malformed", Some("security_malformed Occur(Warning)")),
            ("bad_format", Some("security_bad_format Occur(Warning)")),
            ("unverifiable", Some("security_unverifiable Occur(Warning)")),
            ("bad_signature", Some("security_bad_signature Occur(Critical)")),
            ("stale", Some("security_stale Occur(Major)")),
            ("future", Some("security_future Occur(Major)")),
            ("nonce_conflict", Some("security_nonce_conflict Occur(Critical)")),
            ("replay", Some("security_replay Occur(Critical)")),
            ("burning", Some("1 unknown")),
        ] {
            let expected: Vec<&str> = expected.into_iter().collect();
            check("command", verdict, &[], &expected);
            let refused = vec!["security_refused Occur(Warning)"];
            check("attempt", verdict, &[], if expected.is_empty() { &refused } else { &expected });
            check("result", verdict, &[], &[]);
        }
    }

    #[test]
    fn findings_are_alarms() {
        for (word, expected) in [
            ("unexpected_receiver", Some("security_unexpected_receiver Occur(Critical)")),
            ("identity_mismatch", Some("security_identity_mismatch Occur(Critical)")),
            ("unauthorised_publisher", Some("security_unauthorised_publisher Occur(Major)")),
            ("process_id_reuse", Some("security_process_id_reuse Occur(Warning)")),
            ("no_result", Some("command_no_result Begin(Warning)")),
            ("orphan_result", Some("security_orphan_result Occur(Major)")),
            ("result_mismatch", Some("security_result_mismatch Occur(Major)")),
            ("unknown_lock_state", None),
            ("invalid_report", None),
            ("log_truncated", Some("security_log_truncated Occur(Critical)")),
            ("burning", Some("1 unknown")),
        ] {
            let expected: Vec<&str> = expected.into_iter().collect();
            for kind in ["finding", "change", "result", "command"] {
                check(kind, if kind == "command" { "ok" } else { "" }, &[word], &expected);
            }
        }
    }

    #[test]
    fn a_command_may_be_wrong_in_several_ways() {
        check(
            "command",
            "replay",
            &["unexpected_receiver", "unauthorised_publisher"],
            &[
                "security_replay Occur(Critical)",
                "security_unexpected_receiver Occur(Critical)",
                "security_unauthorised_publisher Occur(Major)",
            ],
        );
    }
}
