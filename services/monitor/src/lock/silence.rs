//! A lock that falls silent, comes back, or comes and goes. All of it is what a clock saw, also that
//! it is over: a replay of the reports alone does not tell it.

use latchline_shared::alarm::{AlarmType, Origin};
use serde_json::{Value, json};

use super::tell::Tell;
use super::{Lock, Pending};
use crate::rule::presence::{self, Clock};
use crate::rule::set::AlarmSet;
use crate::rule::threshold::RuleSet;
use crate::signal::{Signal, What};

impl Lock {
    /// Looks whether the lock is silent. True if its presence has changed; if there are signals,
    /// what is remembered has changed in any case.
    pub fn lapse(&mut self, rules: &RuleSet, clock: &Clock, signals: &mut Vec<Signal>) -> bool {
        let Some(watched_from_ms) = clock.watched_from(&rules.device_offline) else { return false };
        if !self.memory.raised.both(rules.off()).is_empty() {
            self.end_what_is_off(rules, clock.now_ms, signals);
        }
        let silent_at_ms = self.silent_at_ms(rules).max(watched_from_ms);
        let falls_silent = self.online && silent_at_ms <= clock.now_ms;
        if falls_silent {
            self.turn(rules, false, silent_at_ms);
        }
        let flapped_until_ms = self.flap(rules, clock, watched_from_ms, signals);
        if !self.online && !clock.fleet_is_down && rules.is_on(AlarmType::DeviceOffline) {
            let flapped_until_ms = flapped_until_ms.unwrap_or(i64::MIN);
            self.raise_offline(rules, clock, (watched_from_ms, flapped_until_ms), signals);
        }
        falls_silent
    }

    /// The lock has said something.
    pub(super) fn heard(&mut self, rules: &RuleSet, at_ms: i64, signals: &mut Vec<Signal>) {
        if !self.online {
            self.turn(rules, true, at_ms);
        }
        if !self.memory.raised.contains(AlarmType::DeviceOffline) {
            return;
        }
        self.memory.back = self.memory.back.saturating_add(1);
        if self.memory.back >= rules.device_offline.end_reports {
            self.memory.back = 0;
            self.memory.offline_worse = false;
            let value = json!({ "online_since": self.online_since_ms });
            saw(&mut self.memory.raised, rules, at_ms, signals).end(AlarmType::DeviceOffline, || value);
        }
    }

    /// Before this time [`Lock::lapse`] does nothing.
    pub(super) fn next_silence_ms(&self, rules: &RuleSet) -> i64 {
        let raised = self.memory.raised;
        let flapping = if raised.contains(AlarmType::DeviceFlapping) {
            self.online_since_ms.saturating_add(rules.device_flapping.window_ms)
        } else if self.edges().len() >= usize::from(rules.device_flapping.edges_min) {
            self.online_since_ms
        } else {
            i64::MAX
        };
        let offline = if self.online {
            self.silent_at_ms(rules)
        } else if !rules.is_on(AlarmType::DeviceOffline) || self.memory.offline_worse {
            i64::MAX
        } else if raised.contains(AlarmType::DeviceFlapping) && !raised.contains(AlarmType::DeviceOffline) {
            // Not before the other is over.
            flapping
        } else if raised.contains(AlarmType::DeviceOffline) {
            self.last_report_at_ms.saturating_add(rules.device_offline.worse_after_ms)
        } else {
            self.online_since_ms.saturating_add(rules.device_offline.hold_ms)
        };
        offline.min(flapping)
    }

    pub(super) fn pending_offline(&self, rules: &RuleSet) -> Option<Pending> {
        let alarm = AlarmType::DeviceOffline;
        let raised = self.memory.raised;
        let is_held = !raised.contains(alarm) && !raised.contains(AlarmType::DeviceFlapping);
        let due_ms = self.online_since_ms.saturating_add(rules.device_offline.hold_ms);
        (!self.online && is_held && rules.is_on(alarm)).then_some(Pending {
            alarm,
            since_ms: self.online_since_ms,
            due_ms,
        })
    }

    fn silent_at_ms(&self, rules: &RuleSet) -> i64 {
        self.last_report_at_ms.saturating_add(rules.device_offline.silent_ms)
    }

    fn edges(&self) -> &[i64] {
        self.memory.rare.as_deref().map_or(&[], |rare| &rare.edges)
    }

    /// Comes or goes.
    fn turn(&mut self, rules: &RuleSet, online: bool, at_ms: i64) {
        self.online = online;
        self.online_since_ms = at_ms;
        self.memory.back = 0;
        presence::edge(&mut self.memory.rare_mut().edges, at_ms, &rules.device_flapping);
    }

    /// Whether it comes and goes, or has not done so for long enough: since when that is over, if it
    /// is over now.
    fn flap(
        &mut self,
        rules: &RuleSet,
        clock: &Clock,
        watched_from_ms: i64,
        signals: &mut Vec<Signal>,
    ) -> Option<i64> {
        let alarm = AlarmType::DeviceFlapping;
        let rule = &rules.device_flapping;
        let value = || json!({ "online": self.online, "since": self.online_since_ms });
        if self.memory.raised.contains(alarm) {
            let over_at_ms = self.online_since_ms.saturating_add(rule.window_ms).max(watched_from_ms);
            if over_at_ms <= clock.now_ms {
                saw(&mut self.memory.raised, rules, over_at_ms, signals).end(alarm, value);
                return Some(over_at_ms);
            }
        } else if !clock.fleet_is_down && clock.flaps(self.edges(), rule) {
            let at_ms = self.online_since_ms.max(watched_from_ms);
            saw(&mut self.memory.raised, rules, at_ms, signals).begin(alarm, value);
        }
        None
    }

    fn raise_offline(
        &mut self,
        rules: &RuleSet,
        clock: &Clock,
        (watched_from_ms, flapped_until_ms): (i64, i64),
        signals: &mut Vec<Signal>,
    ) {
        let alarm = AlarmType::DeviceOffline;
        let rule = &rules.device_offline;
        let worse_at_ms = clock.worse_at(self.last_report_at_ms, watched_from_ms, rule);
        let value = silence(self.last_report_at_ms);
        if !self.memory.raised.contains(alarm) {
            let at_ms = clock.offline_at(self.online_since_ms, watched_from_ms, rule).max(flapped_until_ms);
            if at_ms > clock.now_ms || self.memory.raised.contains(AlarmType::DeviceFlapping) {
                return;
            }
            let mut tell = saw(&mut self.memory.raised, rules, at_ms, signals);
            // It may be as bad as it gets from the beginning.
            if worse_at_ms <= at_ms || rule.severity >= Some(rule.worse_severity) {
                self.memory.offline_worse = true;
                return tell.begin_as(alarm, rule.worse_severity, || value);
            }
            tell.begin(alarm, || value.clone());
        }
        if !self.memory.offline_worse && worse_at_ms <= clock.now_ms {
            self.memory.offline_worse = true;
            let mut tell = saw(&mut self.memory.raised, rules, worse_at_ms, signals);
            tell.signal(alarm, What::Worsen(rule.worse_severity), value);
        }
    }
}

/// Signals of a clock.
fn saw<'a>(
    raised: &'a mut AlarmSet,
    rules: &'a RuleSet,
    at_ms: i64,
    signals: &'a mut Vec<Signal>,
) -> Tell<'a> {
    Tell { rules, raised, at_ms, origin: Origin::Clock, signals }
}

fn silence(last_report_at_ms: i64) -> Value {
    json!({ "last_report_at": last_report_at_ms })
}
