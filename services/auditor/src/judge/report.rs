//! Reports: which of them are history, and what they say of the command that they answer.

use latchline_shared::command::Action;
use latchline_shared::lock_state::{LockState, Reading};
use latchline_shared::report::{Report, Said};
use latchline_shared::text::bounded;

use super::known::{Known, LastState};
use super::{Context, Quiet};
use crate::event::{Direction, Event, Kind, Severity};
use crate::finding::Finding;
use crate::process::{self, Answer, Reported};

impl Context<'_> {
    /// What a lock reported, if it is history: the first report of a process, a state other than
    /// the last one, or something that is wrong. Never two rows for one report.
    pub(super) fn report(
        &self,
        known: &mut Known,
        is_of_one_lock: bool,
        report: &Result<Box<Report>, String>,
        quiet: &mut Quiet,
    ) -> Option<Event> {
        let report = match report {
            Ok(report) => report,
            Err(why) => {
                let mut findings = vec![Finding::InvalidReport];
                if !is_of_one_lock {
                    findings.insert(0, Finding::IdentityMismatch);
                }
                let event = self.event(Kind::Finding, Direction::Uplink, &findings, Severity::Info);
                return Some(Event { reason: Some(bounded(why)), ..event });
            }
        };
        let reading = self.settings.profiles.of(&self.item.lock).read(report.lock_state);
        let mut findings = Vec::new();
        if !report.flaws.is_empty() {
            findings.push(Finding::InvalidReport);
        }
        if !is_of_one_lock {
            findings.insert(0, Finding::IdentityMismatch);
            let event = self.event(Kind::Finding, Direction::Uplink, &findings, Severity::Info);
            let reason = format!("the report is of {}", report.client_id);
            return Some(Event { reason: Some(bounded(&reason)), ..described(event, report, reading) });
        }
        if !reading.known {
            findings.push(Finding::UnknownLockState);
        }

        let change = self.observe(known, report);
        if let Some(outcome) = self.answer(known, report, reading, &mut findings) {
            let severity = if outcome == Said::Ok { Severity::Info } else { Severity::Warning };
            let event = self.event(Kind::Result, Direction::Uplink, &findings, severity);
            let event = described(event, report, reading);
            return Some(Event { verdict: outcome.name().to_owned(), ..event });
        }
        let kind = match change {
            Change::Other => Kind::Change,
            _ if !report.flaws.is_empty() => Kind::Finding,
            Change::None => {
                quiet.heartbeats += 1;
                return None;
            }
            Change::Late => {
                quiet.late += 1;
                return None;
            }
        };
        let event = self.event(kind, Direction::Uplink, &findings, Severity::Info);
        Some(described(event, report, reading))
    }

    /// Whether the state is another one than before.
    fn observe(&self, known: &mut Known, report: &Report) -> Change {
        let at_ms = self.item.at_ms;
        match known.locks.get(&self.item.lock) {
            Some(last) if last.raw == report.lock_state => return Change::None,
            // What is late does not turn back what came after it.
            Some(last) if at_ms < last.changed_at_ms => return Change::Late,
            _ => {}
        }
        known.locks.put(self.item.lock.clone(), LastState { raw: report.lock_state, changed_at_ms: at_ms });
        Change::Other
    }

    /// How the command ended that the report answers, if it is the first to do so.
    fn answer(
        &self,
        known: &mut Known,
        report: &Report,
        reading: Reading,
        findings: &mut Vec<Finding>,
    ) -> Option<Said> {
        let action = report.answers()?;
        let key = (self.item.lock.clone(), bounded(&report.process_id));
        let answer = Answer {
            action,
            outcome: outcome(report, reading.state, action),
            at_ms: self.item.at_ms,
            lane: self.lane,
            deadline_at_ms: self.deadline_at_ms(self.settings.orphan_grace),
        };
        let Reported::Result(process, finding) = process::report(known.processes.get(&key), &answer) else {
            return None;
        };
        known.put_process(self.lane, key, process);
        let contradicts = report.result == Some(Said::Ok) && !reading.state.is_success_of(action);
        if finding.is_some() || contradicts {
            findings.push(Finding::ResultMismatch);
        }
        Some(answer.outcome)
    }
}

/// What a report says of the state before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    None,
    Other,
    Late,
}

/// The lock's own word, or what its state tells.
fn outcome(report: &Report, state: LockState, action: Action) -> Said {
    match report.result {
        Some(said) => said,
        None if state.is_success_of(action) => Said::Ok,
        None => Said::Failed,
    }
}

/// The event with what the report says.
fn described(event: Event, report: &Report, reading: Reading) -> Event {
    let wrong = (!report.flaws.is_empty()).then(|| format!("{} makes no sense", report.flaws.join(", ")));
    let error = report.error.map(|error| format!("error {error}"));
    let reasons: Vec<String> = [error, wrong].into_iter().flatten().collect();
    Event {
        process_id: Some(bounded(&report.process_id)).filter(|id| !id.is_empty()),
        action: Some(bounded(&report.action)),
        lock_state: Some(reading.state.name().to_owned()),
        lock_state_raw: Some(report.lock_state),
        battery: report.battery,
        reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
        ..event
    }
}
