//! From what rules say to signals: a condition that holds is not begun again, one that does not is
//! not ended, and what is switched off is not told.

use latchline_shared::alarm::{AlarmType, Origin, Severity};
use serde_json::Value;

use crate::rule::Step;
use crate::rule::set::AlarmSet;
use crate::rule::threshold::RuleSet;
use crate::signal::{Signal, What};

/// Where signals of one lock at one time go. Values are made only if there is a signal.
pub(super) struct Tell<'a> {
    pub(super) rules: &'a RuleSet,
    pub(super) raised: &'a mut AlarmSet,
    pub(super) at_ms: i64,
    pub(super) origin: Origin,
    pub(super) signals: &'a mut Vec<Signal>,
}

impl Tell<'_> {
    /// What an observation does to a condition.
    pub(super) fn step(&mut self, alarm: AlarmType, step: Step, value: impl FnOnce() -> Value) {
        match step {
            Step::Stay => {}
            Step::Begin => self.begin(alarm, value),
            Step::End => self.end(alarm, value),
        }
    }

    pub(super) fn begin(&mut self, alarm: AlarmType, value: impl FnOnce() -> Value) {
        let severity = self.rules.severity(alarm);
        if let Some(severity) = severity {
            self.begin_as(alarm, severity, value);
        }
    }

    pub(super) fn begin_as(&mut self, alarm: AlarmType, severity: Severity, value: impl FnOnce() -> Value) {
        if self.raised.insert(alarm) {
            self.signal(alarm, What::Begin(severity), value());
        }
    }

    pub(super) fn end(&mut self, alarm: AlarmType, value: impl FnOnce() -> Value) {
        if self.raised.remove(alarm) {
            self.signal(alarm, What::End, value());
        }
    }

    pub(super) fn occur(&mut self, alarm: AlarmType, value: impl FnOnce() -> Value) {
        if let Some(severity) = self.rules.severity(alarm) {
            self.signal(alarm, What::Occur(severity), value());
        }
    }

    pub(super) fn signal(&mut self, alarm: AlarmType, what: What, value: Value) {
        self.signals.push(Signal { alarm, at_ms: self.at_ms, what, value, origin: self.origin });
    }
}
