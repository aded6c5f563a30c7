//! Delays of a lock: kept as the time at which their condition began, and fired at their end.

use latchline_shared::alarm::AlarmType;

use super::memory::Since;
use super::{Lock, Pending};
use crate::rule::threshold::RuleSet;
use crate::signal::{Signal, What};

/// The types that have delays, in the order in which those fire that end together.
const DELAYED: [AlarmType; 4] =
    [AlarmType::NotFullyLocked, AlarmType::StuckMoving, AlarmType::LeftUnlocked, AlarmType::DoorAjar];

impl Lock {
    /// Fires the delays that ended by then, each at its end, in order.
    pub fn pass(&mut self, rules: &RuleSet, until_ms: i64, signals: &mut Vec<Signal>) {
        if !self.memory.raised.both(rules.off()).is_empty() {
            self.end_what_is_off(rules, until_ms, signals);
        }
        while let Some((due_ms, alarm)) = self.next_delay(rules).filter(|(due_ms, _)| *due_ms <= until_ms) {
            // After a change of thresholds a delay may have ended before what is known already.
            self.fire(rules, alarm, due_ms.max(self.last_report_at_ms), signals);
        }
    }

    /// Before this time neither [`Lock::pass`] nor [`Lock::lapse`] does anything; the end of time if
    /// only a report can change that. Thresholds must be those that they are called with.
    pub fn next_at_ms(&self, rules: &RuleSet) -> i64 {
        if !self.memory.raised.both(rules.off()).is_empty() {
            return i64::MIN;
        }
        let delay = DELAYED.iter().map(|alarm| self.due_ms(rules, *alarm)).min();
        delay.unwrap_or(i64::MAX).min(self.next_silence_ms(rules))
    }

    /// Conditions whose delays are running.
    pub fn pending(&self, rules: &RuleSet) -> impl Iterator<Item = Pending> {
        let delays = DELAYED.iter().filter_map(|alarm| {
            let since_ms = self.since(*alarm).get()?;
            let runs = rules.is_on(*alarm) && !self.memory.raised.contains(*alarm);
            runs.then(|| Pending { alarm: *alarm, since_ms, due_ms: self.due_ms(rules, *alarm) })
        });
        delays.chain(self.pending_offline(rules))
    }

    fn next_delay(&self, rules: &RuleSet) -> Option<(i64, AlarmType)> {
        let delays = DELAYED.iter().map(|alarm| (self.due_ms(rules, *alarm), *alarm));
        delays.min().filter(|(due_ms, _)| *due_ms < i64::MAX)
    }

    fn since(&self, alarm: AlarmType) -> Since {
        match alarm {
            AlarmType::NotFullyLocked => self.memory.partial,
            AlarmType::StuckMoving => self.memory.moving,
            AlarmType::LeftUnlocked => self.memory.open,
            AlarmType::DoorAjar => self.memory.ajar,
            _ => Since::NONE,
        }
    }

    /// When the delay of this type ends that is running, if one is.
    fn due_ms(&self, rules: &RuleSet, alarm: AlarmType) -> i64 {
        let since = self.since(alarm);
        if since.is_none() || !rules.is_on(alarm) {
            return i64::MAX;
        }
        let delay_ms = match (alarm, self.memory.raised.contains(alarm)) {
            (AlarmType::NotFullyLocked, false) => rules.not_fully_locked.delay_ms,
            (AlarmType::StuckMoving, false) => rules.stuck_moving.delay_ms,
            (AlarmType::LeftUnlocked, false) => rules.left_unlocked.delay_ms,
            (AlarmType::LeftUnlocked, true) if !self.memory.open_worse => rules.left_unlocked.worse_after_ms,
            (AlarmType::DoorAjar, false) => rules.door_ajar.delay_ms,
            (AlarmType::DoorAjar, true) => rules.door_ajar.end_delay_ms,
            _ => return i64::MAX,
        };
        since.after(delay_ms)
    }

    /// Each firing changes what is remembered such that it does not happen again.
    fn fire(&mut self, rules: &RuleSet, alarm: AlarmType, at_ms: i64, signals: &mut Vec<Signal>) {
        let value = self.value(alarm, None);
        let was_raised = self.memory.raised.contains(alarm);
        let mut tell = Self::tell(&mut self.memory.raised, rules, at_ms, signals);
        match alarm {
            AlarmType::LeftUnlocked if was_raised => {
                self.memory.open_worse = true;
                tell.signal(alarm, What::Worsen(rules.left_unlocked.worse_severity), value);
            }
            AlarmType::LeftUnlocked => {
                // It may be as bad as it gets from the beginning.
                self.memory.open_worse = rules.severity(alarm) >= Some(rules.left_unlocked.worse_severity);
                tell.begin(alarm, || value);
            }
            AlarmType::DoorAjar => {
                self.memory.ajar = Since::NONE;
                if was_raised { tell.end(alarm, || value) } else { tell.begin(alarm, || value) }
            }
            _ => tell.begin(alarm, || value),
        }
    }
}
