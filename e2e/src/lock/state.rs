//! A lock: its bolt, its battery and what it reports. Pure.
//!
//! Invariant: a report has all six fields of the reference, in the shape of its sample to the byte;
//! what answers a command has `result`, and `error` where there is one, behind them.

use std::fmt::Write;
use std::time::Duration;

use latchline_shared::command::Action;

use crate::lock::decide::Refusal;

/// Percent that a battery loses by itself, per day.
const IDLE_PERCENT_PER_DAY: f64 = 0.10;
/// Percent that turning the bolt costs.
const TURN_PERCENT: f64 = 0.025;
/// `OperationError` of Matter that a motor which does not turn comes down to: unspecified.
const ERROR_UNSPECIFIED: u8 = 0;

/// Where the bolt is; the number is `lock_state` of the profile `reference` (contract, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bolt {
    /// Thrown.
    Locked = 0,
    /// Withdrawn.
    Unlocked = 1,
    /// The motor is blocked.
    Fault = 2,
    /// Withdrawn, and the latch is pulled.
    Unlatched = 6,
}

/// A lock.
#[derive(Debug, Clone)]
pub struct Lock {
    id: String,
    bolt: Bolt,
    /// Turning the bolt blocks the motor.
    jammed: bool,
    battery_percent: f64,
    drain_percent_per_day: f64,
    /// What the reports repeat until the next command.
    last: (String, String),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Ok,
    /// Tried in vain.
    Failed,
    /// Refused.
    Denied(Refusal),
}

/// Something that happens to a lock where it hangs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Somebody turns it by hand.
    Turn(Bolt),
    /// The bolt gets stuck.
    Jam,
    /// The bolt is free again; the lock is found locked.
    Free,
    /// The battery is at this percentage (a cliff, or a new one).
    Battery(f64),
}

impl Lock {
    /// A locked lock that has not been commanded yet; `first_process_id` stands in its reports
    /// until it is.
    pub fn new(id: &str, first_process_id: String, battery_percent: f64, drain_percent_per_day: f64) -> Self {
        let last = (first_process_id, "report".to_owned());
        Self {
            id: id.to_owned(),
            bolt: Bolt::Locked,
            jammed: false,
            battery_percent,
            drain_percent_per_day: drain_percent_per_day + IDLE_PERCENT_PER_DAY,
            last,
        }
    }

    /// Where the bolt is.
    pub fn bolt(&self) -> Bolt {
        self.bolt
    }

    /// Charge of the battery.
    pub fn battery_percent(&self) -> f64 {
        self.battery_percent
    }

    /// Time passes.
    pub fn age(&mut self, elapsed: Duration) {
        let days = elapsed.as_secs_f64() / 86_400.0;
        self.battery_percent = (self.battery_percent - days * self.drain_percent_per_day).max(0.0);
    }

    /// Something happens to the lock.
    pub fn change(&mut self, change: Change) {
        match change {
            Change::Turn(bolt) => self.bolt = bolt,
            Change::Jam => (self.jammed, self.bolt) = (true, Bolt::Fault),
            Change::Free => (self.jammed, self.bolt) = (false, Bolt::Locked),
            Change::Battery(percent) => self.battery_percent = percent,
        }
    }

    /// Carries out a command that was decided to be acted on.
    pub fn act(&mut self, process_id: &str, action: Action) -> Outcome {
        self.last = (process_id.to_owned(), action.name().to_owned());
        self.battery_percent = (self.battery_percent - TURN_PERCENT).max(0.0);
        if self.jammed {
            self.bolt = Bolt::Fault;
            return Outcome::Failed;
        }
        self.bolt = match action {
            Action::Unlock => Bolt::Unlocked,
            Action::Lock => Bolt::Locked,
            Action::Unlatch => Bolt::Unlatched,
        };
        Outcome::Ok
    }

    /// The report of every minute, and of every change.
    pub fn report(&self) -> String {
        let (process_id, action) = &self.last;
        self.payload(process_id, action, "")
    }

    /// The report that answers a command.
    pub fn answer(&self, process_id: &str, action: Action, outcome: Outcome) -> String {
        let mut rest = String::new();
        let written = match outcome {
            Outcome::Ok => write!(rest, r#",   "result": "ok""#),
            Outcome::Failed => write!(rest, r#",   "result": "failed",   "error": {ERROR_UNSPECIFIED}"#),
            Outcome::Denied(refusal) => {
                write!(rest, r#",   "result": "denied",   "error": {}"#, refusal.code())
            }
        };
        written.expect("a string takes what is written to it");
        self.payload(process_id, action.name(), &rest)
    }

    /// As the sample of the reference spells it, spaces included.
    fn payload(&self, process_id: &str, action: &str, rest: &str) -> String {
        format!(
            r#"{{   "process_id": "{process_id}",   "action": "{action}",   "battery": {:.1},   "lock_state": {},   "version": 1.1,   "client_id": "{}"{rest} }}"#,
            self.battery_percent, self.bolt as u8, self.id,
        )
    }
}

/// Whether `id` can be a lock's: it becomes a topic level, a client id and a JSON string.
pub fn is_lock_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"{   "process_id": "7802441525528958",   "action": "unlock",   "battery": 83.4,   "lock_state": 1,   "version": 1.1,   "client_id": "10083618796833171" }"#;

    fn lock() -> Lock {
        Lock::new("10083618796833171", "1".to_owned(), 83.425, 0.0)
    }

    #[test]
    fn after_an_unlock_the_report_is_the_sample_of_the_contract() {
        let mut lock = lock();
        assert_eq!(lock.act("7802441525528958", Action::Unlock), Outcome::Ok);
        assert_eq!(lock.report(), SAMPLE);
    }

    #[test]
    fn answers_add_result_and_error_and_are_not_repeated() {
        let mut lock = lock();
        let outcome = lock.act("p1", Action::Lock);
        for (outcome, expected) in [
            (outcome, r#", "result": "ok" }"#),
            (Outcome::Failed, r#", "result": "failed", "error": 0 }"#),
            (Outcome::Denied(Refusal::Replay), r#", "result": "denied", "error": 102 }"#),
        ] {
            let answer = lock.answer("p1", Action::Lock, outcome);
            let parsed: serde_json::Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(parsed["process_id"], "p1");
            assert!(answer.replace("   ", " ").ends_with(expected), "{answer}");
        }
        assert!(!lock.report().contains("result"));
    }

    #[test]
    fn a_refused_command_changes_nothing_that_is_repeated() {
        let mut lock = lock();
        lock.act("p1", Action::Unlock);
        let before = lock.report();
        let answer = lock.answer("p2", Action::Lock, Outcome::Denied(Refusal::BadSign));
        assert!(answer.contains("p2") && answer.contains(r#""lock_state": 1"#), "{answer}");
        assert_eq!(lock.report(), before);
    }

    #[test]
    fn a_jammed_bolt_does_not_turn() {
        let mut lock = lock();
        lock.change(Change::Jam);
        assert_eq!((lock.act("p1", Action::Unlock), lock.bolt()), (Outcome::Failed, Bolt::Fault));
        lock.change(Change::Free);
        assert_eq!((lock.act("p2", Action::Unlock), lock.bolt()), (Outcome::Ok, Bolt::Unlocked));
        lock.change(Change::Turn(Bolt::Locked));
        assert_eq!(lock.bolt(), Bolt::Locked);
    }

    #[test]
    fn a_battery_lasts_about_ten_months_at_nine_turns_a_day() {
        let mut lock = Lock::new("1", "1".to_owned(), 100.0, 0.0);
        for turn in 0..300 * 9 {
            lock.age(Duration::from_secs(86_400 / 9));
            lock.act(&turn.to_string(), if turn % 2 == 0 { Action::Unlock } else { Action::Lock });
        }
        assert!((lock.battery_percent() - 2.5).abs() < 0.1, "{}", lock.battery_percent());
        lock.change(Change::Battery(100.0));
        lock.age(Duration::from_secs(10_000 * 86_400));
        assert_eq!(lock.battery_percent(), 0.0);
    }

    #[test]
    fn ids_are_topic_levels() {
        for (id, valid) in [
            ("10083618796833171", true),
            ("a.b-c_d", true),
            ("", false),
            ("a/b", false),
            ("+", false),
            ("a\"", false),
        ] {
            assert_eq!(is_lock_id(id), valid, "{id}");
        }
    }
}
