//! A lock: its present state, and what its reports do to it.
//!
//! What follows from reports is a pure function of them: before one is applied, every delay that
//! ended before it takes effect at its end (`delay.rs`). So it does not matter when and how often
//! one looks, where a batch ends, or whether the process began anew. Silence is different: it is
//! what a clock saw (`silence.rs`), and so is what ends it.
//!
//! Invariants: a report that is late or a duplicate changes nothing. Signals of a condition begin,
//! become worse or hold on, and end; never twice the same.

pub mod memory;

mod delay;
mod observe;
mod silence;
mod tell;
#[cfg(test)]
mod tests;

use latchline_shared::alarm::{AlarmType, Origin};
use latchline_shared::lock_state::{LockState, Reading};
use latchline_shared::report::Report;
use serde_json::json;

use crate::rule::finding::{Finding, of_finding};
use crate::rule::is_new_span;
use crate::rule::set::AlarmSet;
use crate::rule::threshold::RuleSet;
use crate::signal::{Signal, What};
use memory::{Hour, Memory, Since};
use tell::Tell;

/// The present state of a lock, and what rules remember of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Lock {
    /// State of the bolt.
    pub state: LockState,
    /// As the lock said it; none while it has said nothing that could be read.
    pub state_raw: Option<i64>,
    /// Since when the state is this.
    pub since_ms: i64,
    /// Percent, the last good value.
    pub battery: Option<f32>,
    /// When it was reported.
    pub battery_at_ms: Option<i64>,
    /// The newest report.
    pub last_report_at_ms: i64,
    /// Its place; negative before the first.
    pub last_offset: i64,
    /// Whether it is heard of.
    pub online: bool,
    /// Since when it is, or is not.
    pub online_since_ms: i64,
    /// What else rules remember.
    pub memory: Memory,
}

/// How a report came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The record's `ts`.
    pub at_ms: i64,
    /// Its place.
    pub offset: i64,
    /// Whether it may have been sent before.
    pub dup: bool,
    /// Hash of its payload.
    pub payload_hash: u64,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is the newest.
    Applied,
    /// A newer one was applied before. Nothing has changed.
    Late,
    /// It is the last one again. Nothing has changed.
    Duplicate,
}

/// A condition whose delay is running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// Which.
    pub alarm: AlarmType,
    /// Since when it holds.
    pub since_ms: i64,
    /// When it will be raised.
    pub due_ms: i64,
}

impl Lock {
    /// A lock that is heard of for the first time; the report itself is still to be applied.
    pub fn new(seen: &Seen) -> Self {
        let memory = Memory { forecast: observe::hour_of(seen.at_ms), ..Memory::default() };
        Self {
            state: LockState::Unknown,
            state_raw: None,
            since_ms: seen.at_ms,
            battery: None,
            battery_at_ms: None,
            last_report_at_ms: seen.at_ms,
            last_offset: -1,
            online: true,
            online_since_ms: seen.at_ms,
            memory,
        }
    }

    /// Applies a report, whose `lock_state` was read as `reading`.
    pub fn report(
        &mut self,
        rules: &RuleSet,
        reading: Reading,
        report: &Report,
        seen: &Seen,
        signals: &mut Vec<Signal>,
    ) -> Outcome {
        match self.admit(seen, report.boot.zip(report.seq)) {
            Outcome::Applied => {}
            refused => return refused,
        }
        self.pass(rules, seen.at_ms, signals);
        self.heard(rules, seen.at_ms, signals);
        let before = self.memory.raised;
        self.observe(rules, reading, report, seen.at_ms, signals);
        if is_new_span(self.last_report_at_ms, seen.at_ms) {
            self.hold(rules, before, report.alarm, seen.at_ms, signals);
            self.forget(rules, seen.at_ms);
        }
        (self.memory.boot, self.memory.seq, self.memory.numbered) = match report.boot.zip(report.seq) {
            Some((boot, seq)) => (boot, seq, true),
            None => (self.memory.boot, self.memory.seq, self.memory.numbered),
        };
        self.note(seen);
        Outcome::Applied
    }

    /// Applies a report that cannot be read: the lock is there, and something is wrong with it.
    pub fn invalid(&mut self, rules: &RuleSet, seen: &Seen, signals: &mut Vec<Signal>) -> Outcome {
        match self.admit(seen, None) {
            Outcome::Applied => {}
            refused => return refused,
        }
        self.pass(rules, seen.at_ms, signals);
        self.heard(rules, seen.at_ms, signals);
        self.flaw(rules, seen.at_ms, &["payload"], signals);
        self.note(seen);
        Outcome::Applied
    }

    /// Applies what the auditor found about a record of this lock. Returns how many of its words are
    /// not known.
    pub fn finding(&mut self, rules: &RuleSet, finding: &Finding<'_>, signals: &mut Vec<Signal>) -> usize {
        let from = signals.len();
        let unknown = of_finding(rules, finding, signals);
        let no_result = |signal: &Signal| signal.alarm == AlarmType::CommandNoResult;
        let Some(place) = signals[from..].iter().position(no_result) else { return unknown };
        // The two streams are read side by side: the result may have come before the finding.
        let has_come = self.memory.result_at.get().is_some_and(|at_ms| at_ms >= finding.at_ms);
        if has_come {
            signals.remove(from + place);
        } else if !self.memory.raised.insert(AlarmType::CommandNoResult) {
            signals[from + place].what = What::Hold;
        }
        unknown
    }

    /// The median of an hour that has been over for so long, once. To be asked for after each report,
    /// until there is none.
    pub fn take_hour(&mut self, at_ms: i64, delay_ms: i64) -> Option<Hour> {
        let hours = &mut self.memory.rare.as_mut()?.hours;
        hours.first().filter(|hour| hour.end_ms().saturating_add(delay_ms) <= at_ms)?;
        let hour = hours.remove(0);
        self.memory.drop_empty_rare();
        Some(hour)
    }

    /// Whether the report may change anything.
    fn admit(&self, seen: &Seen, number: Option<(u64, u64)>) -> Outcome {
        let memory = &self.memory;
        if seen.dup && self.last_offset >= 0 && seen.payload_hash == memory.payload {
            return Outcome::Duplicate;
        }
        let is_older =
            number.is_some_and(|(boot, seq)| memory.numbered && boot == memory.boot && seq < memory.seq);
        if is_older || seen.at_ms < self.last_report_at_ms { Outcome::Late } else { Outcome::Applied }
    }

    /// Remembers the report as the newest.
    fn note(&mut self, seen: &Seen) {
        self.memory.payload = seen.payload_hash;
        self.last_report_at_ms = seen.at_ms;
        self.last_offset = seen.offset;
    }

    /// Signals that follow from reports, at a time.
    fn tell<'a>(
        raised: &'a mut AlarmSet,
        rules: &'a RuleSet,
        at_ms: i64,
        signals: &'a mut Vec<Signal>,
    ) -> Tell<'a> {
        Tell { rules, raised, at_ms, origin: Origin::Report, signals }
    }

    /// Ends what was switched off while it was raised.
    fn end_what_is_off(&mut self, rules: &RuleSet, at_ms: i64, signals: &mut Vec<Signal>) {
        let Memory { raised, ajar, open_worse, offline_worse, .. } = &mut self.memory;
        for alarm in raised.both(rules.off()).iter() {
            let is_silence = matches!(alarm, AlarmType::DeviceOffline | AlarmType::DeviceFlapping);
            let origin = if is_silence { Origin::Clock } else { Origin::Report };
            let mut tell = Tell { rules, raised: &mut *raised, at_ms, origin, signals: &mut *signals };
            tell.end(alarm, || json!({ "rule": "off" }));
            match alarm {
                AlarmType::DoorAjar => *ajar = Since::NONE,
                AlarmType::LeftUnlocked => *open_worse = false,
                AlarmType::DeviceOffline => *offline_worse = false,
                _ => {}
            }
        }
    }
}
